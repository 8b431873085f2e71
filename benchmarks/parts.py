"""A request with a data URL of 5 MB, in the row and in an artifact store; and what a limit costs a request that has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine

from benchmarks.measure import compare
from jobstate import Jobs, Policy
from jobstate.adapters.filesystem import FileSystemArtifactStore
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.memory import MemoryArtifactStore, MemoryDispatcher, MemoryRepository

LARGE = {"document": {"url": "data:application/pdf;base64," + "QUJD" * 1_250_000}}
SMALL = {"document": {"name": "invoice.pdf"}, "pages": list(range(20)), "words": ["word"] * 20}
CUTS = Policy(inline_limit=100_000)


def large(folder: Path, kind: str) -> None:
    """Created and started on SQLite, and read with its request."""
    engine = create_engine(f"sqlite:///{folder}/jobs.sqlite")
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    store = FileSystemArtifactStore(folder / "artifacts")
    cut, whole = (_created_and_started(repository, store, policy) for policy in (CUTS, Policy()))
    compare(f"create and start, a data URL of 5 MB: as a file / in its row (SQLite, {kind})", cut, whole)
    engine.dispose()


def small() -> None:
    """A request in which nothing is to be cut, in memory."""

    def creating(policy: Policy) -> Callable[[], object]:
        jobs = Jobs(MemoryRepository(), policy=policy, artifacts=MemoryArtifactStore())
        return lambda: jobs.create("/x", SMALL, organization_id="org")

    compare("create of a small request in memory: with a limit / without", creating(CUTS), creating(Policy()), 200)


def _created_and_started(repository: Any, store: Any, policy: Policy) -> Callable[[], object]:
    dispatcher = MemoryDispatcher()
    jobs = Jobs(repository, dispatcher, policy=policy, artifacts=store)

    def run() -> None:
        jobs.create("/x", LARGE, organization_id="org")
        delivery = dispatcher.take()
        assert delivery is not None
        assert jobs.start(delivery).job.request == LARGE

    return run
