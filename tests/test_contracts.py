"""Our own adapters keep the contracts that others are held to."""

from __future__ import annotations

import inspect
import re
import time
from pathlib import Path
from threading import Lock
from typing import Any, cast

import pytest
from sqlalchemy import Engine, text

from jobstate import ports
from jobstate.errors import JobNotFoundError
from jobstate.inprocess import AsyncioDispatcher, ThreadDispatcher
from jobstate.memory import (
    AsyncMemoryArtifactStore,
    AsyncMemoryDispatcher,
    AsyncMemoryRepository,
    MemoryArtifactStore,
    MemoryDispatcher,
    MemoryRepository,
)
from jobstate.model import Delivery
from jobstate.testing.contracts import (
    ArtifactStoreContract,
    ArtifactStoreRaces,
    AsyncArtifactStoreContract,
    AsyncArtifactStoreRaces,
    AsyncDispatcherContract,
    AsyncDispatcherRaces,
    AsyncNoticesContract,
    AsyncRepositoryContract,
    AsyncRepositoryRaces,
    AsyncSharedSweepsContract,
    Capability,
    DispatcherContract,
    DispatcherRaces,
    NoticesContract,
    RepositoryContract,
    RepositoryRaces,
    SharedSweepsContract,
    clauses,
)
from jobstate.testing.contracts.clauses import Contract
from tests.sql import OnSQLite
from tests.support import HoldingRepository

# Each adapter is opened in one way, for its contract and for its races.


class Memory:
    def open_repository(self, folder: Path) -> MemoryRepository:
        return MemoryRepository()


class HoldingMemory:
    def open_repository(self, folder: Path) -> HoldingRepository:
        return HoldingRepository()


class AsyncMemory:
    async def open_repository(self, folder: Path) -> AsyncMemoryRepository:
        return AsyncMemoryRepository()


class TestMemoryRepository(Memory, RepositoryContract):
    lacks = {Capability.SPOIL: "it keeps the jobs themselves", Capability.LOSE: "a call answers or raises"}


class TestAsyncMemoryRepository(AsyncMemory, AsyncRepositoryContract):
    lacks = {Capability.SPOIL: "it keeps the jobs themselves", Capability.LOSE: "a call answers or raises"}


class TestHoldingMemorySweeps(HoldingMemory, SharedSweepsContract):
    """What the tests take for a repository that holds the rows of a sweep is one."""


class TestMemoryRaces(Memory, RepositoryRaces):
    pass


class TestAsyncMemoryRaces(AsyncMemory, AsyncRepositoryRaces):
    pass


class MemoryQueue:
    def open_dispatcher(self, folder: Path) -> MemoryDispatcher:
        return MemoryDispatcher()

    def received(self, dispatcher: Any) -> list[Delivery]:
        return list(iter(dispatcher.take, None))


class AsyncMemoryQueue:
    async def open_dispatcher(self, folder: Path) -> AsyncMemoryDispatcher:
        return AsyncMemoryDispatcher()

    async def received(self, dispatcher: Any) -> list[Delivery]:
        return list(iter(dispatcher.take, None))


class Noted:
    """What the workers of a dispatcher ask for: each start is noted, and is of a job that nobody knows."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self._lock = Lock()

    def note(self, delivery: Delivery) -> None:
        with self._lock:
            self.deliveries.append(delivery)
        raise JobNotFoundError(delivery.job_id)

    def taken(self) -> list[Delivery]:
        with self._lock:
            found, self.deliveries = self.deliveries, []
        return found


class NotedJobs(Noted):
    def start(self, delivery: Delivery) -> None:
        self.note(delivery)


class AsyncNotedJobs(Noted):
    async def start(self, delivery: Delivery) -> None:
        self.note(delivery)


async def _nothing(request: Any, context: Any) -> None:
    """A handler that is never reached."""


class Threads:
    noted: NotedJobs

    def open_dispatcher(self, folder: Path) -> ThreadDispatcher:
        self.noted = NotedJobs()
        dispatcher = ThreadDispatcher(workers=2)
        dispatcher.start(cast(Any, self.noted), lambda request, context: None)
        return dispatcher

    def received(self, dispatcher: Any) -> list[Delivery]:
        return self.noted.taken()

    def close_dispatcher(self, dispatcher: Any) -> None:
        dispatcher.stop()


class Tasks:
    noted: AsyncNotedJobs

    async def open_dispatcher(self, folder: Path) -> AsyncioDispatcher:
        self.noted = AsyncNotedJobs()
        dispatcher = AsyncioDispatcher(workers=2)
        dispatcher.start(cast(Any, self.noted), _nothing)
        return dispatcher

    async def received(self, dispatcher: Any) -> list[Delivery]:
        return self.noted.taken()

    async def close_dispatcher(self, dispatcher: Any) -> None:
        await dispatcher.stop()


NO_DATABASE = {Capability.TRANSACTION: "it writes to no database"}
NO_ENGINE = {**NO_DATABASE, Capability.DELAY: "what waits is taken by hand"}


class TestMemoryDispatcher(MemoryQueue, DispatcherContract):
    lacks = NO_ENGINE


class TestAsyncMemoryDispatcher(AsyncMemoryQueue, AsyncDispatcherContract):
    lacks = NO_ENGINE


class TestThreadDispatcher(Threads, DispatcherContract):
    lacks = NO_DATABASE


class TestAsyncioDispatcher(Tasks, AsyncDispatcherContract):
    lacks = NO_DATABASE


class TestMemoryDispatcherRaces(MemoryQueue, DispatcherRaces):
    pass


class TestAsyncMemoryDispatcherRaces(AsyncMemoryQueue, AsyncDispatcherRaces):
    pass


class TestThreadDispatcherRaces(Threads, DispatcherRaces):
    pass


class TestAsyncioDispatcherRaces(Tasks, AsyncDispatcherRaces):
    pass


class Outbox(MemoryDispatcher):
    """A transactional dispatcher: what it is given in a transaction waits in a table of its own."""

    transactional = True

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE outbox (job_id TEXT, run INTEGER, not_before INTEGER)"))

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        return self.dispatch_at(delivery, task_name, 0, transaction=transaction)

    def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        row = {"job_id": delivery.job_id, "run": delivery.run, "not_before": not_before}
        insert = text("INSERT INTO outbox VALUES (:job_id, :run, :not_before)")
        if transaction is not None:
            transaction.execute(insert, row)
            return task_name
        with self.engine.begin() as connection:
            connection.execute(insert, row)
        return task_name

    def received(self) -> list[Delivery]:
        with self.engine.begin() as connection:
            due = text("DELETE FROM outbox WHERE not_before <= :now RETURNING job_id, run")
            rows = connection.execute(due, {"now": int(time.time())}).all()
        return [Delivery(job_id=job_id, run=run) for job_id, run in rows]


class TestOutbox(OnSQLite, DispatcherContract):
    """A dispatcher that writes to the database of the job."""

    def open_dispatcher(self, folder: Path) -> Outbox:
        return Outbox(self.engine)

    def received(self, dispatcher: Any) -> list[Delivery]:
        found: list[Delivery] = dispatcher.received()
        return found

    def close_dispatcher(self, dispatcher: Any) -> None:
        self.engine.dispose()


class MemoryStore:
    def open_store(self, folder: Path) -> MemoryArtifactStore:
        return MemoryArtifactStore()


class AsyncMemoryStore:
    async def open_store(self, folder: Path) -> AsyncMemoryArtifactStore:
        return AsyncMemoryArtifactStore()


class TestMemoryArtifactStore(MemoryStore, ArtifactStoreContract):
    pass


class TestAsyncMemoryArtifactStore(AsyncMemoryStore, AsyncArtifactStoreContract):
    pass


class TestMemoryArtifactStoreRaces(MemoryStore, ArtifactStoreRaces):
    pass


class TestAsyncMemoryArtifactStoreRaces(AsyncMemoryStore, AsyncArtifactStoreRaces):
    pass


PORTS: list[tuple[type, type[Contract]]] = [
    (ports.Repository, RepositoryContract),
    (ports.Repository, AsyncRepositoryContract),
    (ports.SharedSweeps, SharedSweepsContract),
    (ports.SharedSweeps, AsyncSharedSweepsContract),
    (ports.Notices, NoticesContract),
    (ports.Notices, AsyncNoticesContract),
    (ports.Dispatcher, DispatcherContract),
    (ports.Dispatcher, AsyncDispatcherContract),
    (ports.DelayedDispatch, DispatcherContract),
    (ports.DelayedDispatch, AsyncDispatcherContract),
    (ports.ArtifactStore, ArtifactStoreContract),
    (ports.ArtifactStore, AsyncArtifactStoreContract),
]


@pytest.mark.parametrize(("port", "contract"), PORTS)
def test_each_clause_has_its_case_of_the_same_number(port: type, contract: type[Contract]) -> None:
    declared = re.findall(r"^([RDASLN]\d\d) ", inspect.getdoc(port) or "", re.MULTILINE)
    letter = declared[0][0]
    assert declared == [f"{letter}{number:02}" for number in range(1, len(declared) + 1)]
    proved = {number: name for number, name in clauses(contract).items() if number[0] == letter}
    alone = [] if port in (ports.DelayedDispatch, ports.Notices) else declared[-1:]
    assert [*proved, *alone] == declared, "the last one speaks of threads: it has classes of its own"
    assert all(name.startswith(f"test_{number}_") for number, name in proved.items())


RACES: dict[type, list[type]] = {
    ports.Repository: [RepositoryRaces, AsyncRepositoryRaces],
    ports.Dispatcher: [DispatcherRaces, AsyncDispatcherRaces],
    ports.ArtifactStore: [ArtifactStoreRaces, AsyncArtifactStoreRaces],
}


@pytest.mark.parametrize("port", RACES)
def test_the_last_clause_has_its_races_of_the_same_number(port: type) -> None:
    last = re.findall(r"^([RDA]\d\d) ", inspect.getdoc(port) or "", re.MULTILINE)[-1]
    for races in RACES[port]:
        assert {name.split("_")[1] for name in dir(races) if name.startswith("test")} == {last}


def test_a_clause_that_is_named_exists() -> None:
    """Wherever a docstring of a port's method names clauses."""
    text_of_ports = "".join(path.read_text() for path in Path(ports.__file__).parent.glob("*.py"))
    declared = set(re.findall(r"^    ([RDASCNBL]\d\d) ", text_of_ports, re.MULTILINE))
    assert (
        set(re.findall(r"\b([RDASCNBL]\d\d)\b", text_of_ports))
        == declared
        >= {"R01", "D01", "A01", "S01", "C01", "N01", "B01", "L01"}
    )
