"""No engine at all: workers take the jobs from the database."""

from __future__ import annotations

from pathlib import Path

from jobstate import work
from jobstate.worker import Handler
from tests.engines.engine import Engine
from tests.engines.place import Place


class DatabaseEngine(Engine):
    name = "database"
    has_broker = False
    has_deliveries = False

    def __init__(self, folder: Path) -> None:
        self.broker = ""

    def start(self) -> None:
        """There is nothing to start."""

    def stop(self) -> None:
        """Nor to stop."""

    def dispatcher(self) -> None:
        return None

    @classmethod
    def work(cls, place: Place, handler: Handler) -> None:
        work(place.jobs(None), handler, concurrency=2, poll=0.5, grace=0.5)
