"""What a scenario asks of an engine."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from sqlalchemy import URL

from jobstate.ports import Dispatcher
from jobstate.worker import Handler
from tests.engines.place import Place


class Engine(ABC):
    """An engine with a broker of its own, which is started, is taken down and comes back with what it had."""

    name: ClassVar[str]
    has_broker: ClassVar[bool] = True
    """Whether there is a broker that can be down while the database is not."""
    has_deliveries: ClassVar[bool] = True
    """Whether anything is carried to the workers; without, they take jobs from the database."""
    interrupt: ClassVar[signal.Signals] = signal.SIGTERM
    """What makes its worker interrupt what runs, give it back, and stop."""
    drain: ClassVar[signal.Signals] = signal.SIGTERM
    """What makes its worker finish what runs, within seconds, and stop."""
    interrupts_children: ClassVar[bool] = False
    """Whether the processes below the worker have to get the signal too, as systemd sends it to all of a service."""
    environment: ClassVar[dict[str, str]] = {}
    """What its worker process finds in the environment besides."""
    tells_early: ClassVar[bool] = True
    """Whether `context.stopping` is set before a handler is interrupted."""

    broker: str
    """The broker's address; it stays the same."""
    database: URL
    """The database of the jobs; set before the start."""

    @abstractmethod
    def __init__(self, folder: Path) -> None:
        """With an empty folder, which is gone later, for what the broker keeps."""

    @abstractmethod
    def start(self) -> None:
        """Start the broker, or start it again, with what it had."""

    @abstractmethod
    def stop(self) -> None:
        """Take the broker down, hard; nothing where it is down."""

    @abstractmethod
    def dispatcher(self) -> Dispatcher | None:
        """A dispatcher for the side of the host; None where nothing is carried."""

    @classmethod
    @abstractmethod
    def work(cls, place: Place, handler: Handler) -> None:
        """Be a worker process, of two jobs at a time or so, until a signal says stop. Called once in a process."""
