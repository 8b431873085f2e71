"""The worker: takes jobs from the database until SIGTERM, and sweeps beside that."""

import threading

from orders import prepare, ship, trusted

from jobstate import run_maintenance, work

if __name__ == "__main__":
    prepare()
    stop = threading.Event()
    maintenance = threading.Thread(target=run_maintenance, args=(trusted, 10.0), kwargs={"stop": stop})
    maintenance.start()
    try:
        work(trusted, ship, concurrency=4, poll=0.2)
    finally:
        stop.set()
        maintenance.join()
