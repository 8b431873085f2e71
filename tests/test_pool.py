"""How many connections are taken from the host's pool, and what is said when there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, QueuePool, create_engine

from jobstate import JobError, Jobs
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.errors import RepositoryError
from jobstate.memory import MemoryDispatcher
from jobstate.model import Delivery
from tests.postgresql import emptied, engine_of


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """With one connection, which nobody waits for."""
    options: dict[str, Any] = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0, "pool_timeout": 0.01}
    if request.param == "sqlite":
        made = create_engine(f"sqlite:///{tmp_path / 'jobs.sqlite'}", **options)
    else:
        made = engine_of(request.getfixturevalue("server"), **options)
        emptied(made)
    SQLAlchemyRepository(made).create_schema()
    yield made
    made.dispose()


class Watching(MemoryDispatcher):
    """Asks the pool how many are out while it dispatches."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        self.out: list[str] = []

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        assert isinstance(self.engine.pool, QueuePool)
        self.out.append(f"{self.engine.pool.checkedout()} out")
        return super().dispatch(delivery, task_name, transaction=transaction)


def test_an_operation_needs_one_connection_and_a_dispatch_none(engine: Engine) -> None:
    dispatcher = Watching(engine)
    everybody = Jobs(SQLAlchemyRepository(engine), dispatcher)
    jobs = everybody.for_organization("org")
    job = jobs.create("/x", {})
    attempt = jobs.start(job.delivery)
    attempt.heartbeat(progress=0.5)
    attempt.fail(JobError(code="broken", message="so"), retryable=False)
    assert len(jobs.retry_many(status="failed")) == 1
    everybody.sweep()
    assert (jobs.count(), len(jobs.history(job.id))) == (1, 4)
    assert dispatcher.out == ["0 out"] * 2


def test_a_bound_face_takes_no_connection_of_its_own(engine: Engine) -> None:
    jobs = Jobs(SQLAlchemyRepository(engine), MemoryDispatcher()).for_organization("org")
    with engine.begin() as connection:
        bound = jobs.bind(connection)
        job = bound.create("/x", {})
        assert bound.cancel(job.id).status == "cancelled"
        with pytest.raises(RepositoryError, match="nothing was done: QueuePool limit of size 1 overflow 0 reached"):
            jobs.create("/x", {})
    assert jobs.count() == 1
