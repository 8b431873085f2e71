"""The worker: takes jobs from the database until SIGTERM, and sweeps beside that."""

import threading

from orders import prepare, ship, trusted

from jobstate import work


def sweep(stopped: threading.Event) -> None:
    """Find what a lost worker held; expire and clean what is over."""
    while not stopped.wait(10):
        trusted.sweep()


if __name__ == "__main__":
    prepare()
    stopped = threading.Event()
    thread = threading.Thread(target=sweep, args=(stopped,))
    thread.start()
    try:
        work(trusted, ship, concurrency=4, poll=0.2)
    finally:
        stopped.set()
        thread.join()
