"""Worker processes: started, stopped, killed, and never left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from tests.engines.place import Place

ROOT = Path(__file__).parent.parent.parent


class Worker:
    """One worker process, with all that it starts itself."""

    def __init__(self, place: Place, environment: Mapping[str, str]) -> None:
        with place.path("workers.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.engines", json.dumps(place)],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def family(self) -> list[psutil.Process]:
        """It and all below it, itself first."""
        with suppress(psutil.NoSuchProcess):
            leader = psutil.Process(self.process.pid)
            return [leader, *leader.children(recursive=True)]
        return []

    def send(self, number: signal.Signals, *, children: bool = False) -> None:
        """To the process, or to those below it too."""
        for process in self.family() if children else self.family()[:1]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def freeze(self) -> None:
        """Nothing of it runs, and none of it notices."""
        self._all(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on as if nothing had been."""
        self._all(signal.SIGCONT)

    def kill(self) -> None:
        """All of it, with a signal that none of it sees coming."""
        self.freeze()  # else one of them notices the first one's death
        self._all(signal.SIGKILL)
        self.process.wait(30)

    def _all(self, number: signal.Signals) -> None:
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)


class Workers:
    """The worker processes of a scenario."""

    def __init__(self, place: Place, environment: Mapping[str, str]) -> None:
        self._place = place
        self._environment = environment
        self._all: list[Worker] = []

    def start(self) -> Worker:
        """One more."""
        self._all.append(Worker(self._place, self._environment))
        return self._all[-1]

    def alive(self) -> list[Worker]:
        """Those that run."""
        return [worker for worker in self._all if worker.process.poll() is None]

    def keep(self, count: int) -> None:
        """So many run: as a supervisor starts one that has gone."""
        for _ in range(count - len(self.alive())):
            self.start()

    def close(self) -> None:
        """None is left."""
        for worker in self._all:
            worker.kill()


@contextmanager
def workers_of(place: Place, environment: Mapping[str, str]) -> Generator[Workers]:
    """Killed at the end, whatever was."""
    workers = Workers(place, environment)
    try:
        yield workers
    finally:
        workers.close()
