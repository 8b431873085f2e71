"""Our own adapters keep the contracts that others are held to."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from jobstate import ports
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
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
    AsyncArtifactStoreContract,
    AsyncDispatcherContract,
    AsyncRepositoryContract,
    AsyncRepositoryRaces,
    AsyncSharedSweepsContract,
    Capability,
    DispatcherContract,
    RepositoryContract,
    RepositoryRaces,
    SharedSweepsContract,
    clauses,
)
from jobstate.testing.contracts.clauses import Contract


class TestMemoryRepository(RepositoryContract):
    lacks = {Capability.SPOIL: "it keeps the jobs themselves", Capability.LOSE: "a call answers or raises"}

    def open_repository(self, folder: Path) -> MemoryRepository:
        return MemoryRepository()


class TestAsyncMemoryRepository(AsyncRepositoryContract):
    lacks = {Capability.SPOIL: "it keeps the jobs themselves", Capability.LOSE: "a call answers or raises"}

    async def open_repository(self, folder: Path) -> AsyncMemoryRepository:
        return AsyncMemoryRepository()


class TestMemoryRaces(RepositoryRaces):
    open_repository = TestMemoryRepository.open_repository


class TestAsyncMemoryRaces(AsyncRepositoryRaces):
    open_repository = TestAsyncMemoryRepository.open_repository


class TestMemoryDispatcher(DispatcherContract):
    lacks = {Capability.TRANSACTION: "it writes to no database"}

    def open_dispatcher(self, folder: Path) -> MemoryDispatcher:
        return MemoryDispatcher()

    def received(self, dispatcher: Any) -> list[Delivery]:
        return list(iter(dispatcher.take, None))


class TestAsyncMemoryDispatcher(AsyncDispatcherContract):
    lacks = {Capability.TRANSACTION: "it writes to no database"}

    async def open_dispatcher(self, folder: Path) -> AsyncMemoryDispatcher:
        return AsyncMemoryDispatcher()

    async def received(self, dispatcher: Any) -> list[Delivery]:
        return list(iter(dispatcher.take, None))


class Outbox(MemoryDispatcher):
    """A transactional dispatcher: what it is given in a transaction waits in a table of its own."""

    transactional = True

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE outbox (job_id TEXT, run INTEGER)"))

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        row = {"job_id": delivery.job_id, "run": delivery.run}
        insert = text("INSERT INTO outbox VALUES (:job_id, :run)")
        if transaction is not None:
            transaction.execute(insert, row)
            return task_name
        with self.engine.begin() as connection:
            connection.execute(insert, row)
        return task_name

    def received(self) -> list[Delivery]:
        with self.engine.begin() as connection:
            rows = connection.execute(text("DELETE FROM outbox RETURNING job_id, run")).all()
        return [Delivery(job_id=job_id, run=run) for job_id, run in rows]


class TestOutbox(DispatcherContract):
    """A dispatcher that writes to the database of the job."""

    def open_repository(self, folder: Path) -> SQLAlchemyRepository:
        self.engine = create_engine(f"sqlite:///{folder / 'jobs.sqlite'}")
        repository = SQLAlchemyRepository(self.engine)
        repository.create_schema()
        return repository

    def open_dispatcher(self, folder: Path) -> Outbox:
        return Outbox(self.engine)

    def received(self, dispatcher: Any) -> list[Delivery]:
        found: list[Delivery] = dispatcher.received()
        return found

    def close_dispatcher(self, dispatcher: Any) -> None:
        self.engine.dispose()


class TestMemoryArtifactStore(ArtifactStoreContract):
    def open_store(self, folder: Path) -> MemoryArtifactStore:
        return MemoryArtifactStore()


class TestAsyncMemoryArtifactStore(AsyncArtifactStoreContract):
    async def open_store(self, folder: Path) -> AsyncMemoryArtifactStore:
        return AsyncMemoryArtifactStore()


PORTS: list[tuple[type, type[Contract]]] = [
    (ports.Repository, RepositoryContract),
    (ports.Repository, AsyncRepositoryContract),
    (ports.SharedSweeps, SharedSweepsContract),
    (ports.SharedSweeps, AsyncSharedSweepsContract),
    (ports.Dispatcher, DispatcherContract),
    (ports.Dispatcher, AsyncDispatcherContract),
    (ports.ArtifactStore, ArtifactStoreContract),
    (ports.ArtifactStore, AsyncArtifactStoreContract),
]


@pytest.mark.parametrize(("port", "contract"), PORTS)
def test_each_clause_has_its_case_of_the_same_number(port: type, contract: type[Contract]) -> None:
    declared = re.findall(r"^([RDAS]\d\d) ", inspect.getdoc(port) or "", re.MULTILINE)
    assert declared == [f"{declared[0][0]}{number:02}" for number in range(1, len(declared) + 1)]
    proved = clauses(contract)
    assert [*proved, declared[-1]] == declared, "the last one speaks of threads: it has classes of its own"
    assert all(name.startswith(f"test_{number}_") for number, name in proved.items())


def test_a_clause_that_is_named_exists() -> None:
    """Wherever a docstring of a port's method names clauses."""
    text_of_ports = Path(ports.__file__).read_text()
    declared = set(re.findall(r"^    ([RDASC]\d\d) ", text_of_ports, re.MULTILINE))
    assert set(re.findall(r"\b([RDASC]\d\d)\b", text_of_ports)) == declared
