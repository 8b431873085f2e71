"""Our own adapters keep the contracts that others are held to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from jobstate import ports
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.memory import AsyncMemoryRepository, MemoryRepository
from jobstate.testing.contracts import AsyncRepositoryContract, Capability, RepositoryContract, clauses


class TestMemoryRepository(RepositoryContract):
    lacks = {Capability.SPOIL: "it keeps the jobs themselves", Capability.LOSE: "a call answers or raises"}

    def open_repository(self, folder: Path) -> MemoryRepository:
        return MemoryRepository()


class TestAsyncMemoryRepository(AsyncRepositoryContract):
    lacks = {Capability.SPOIL: "it keeps the jobs themselves", Capability.LOSE: "a call answers or raises"}

    async def open_repository(self, folder: Path) -> AsyncMemoryRepository:
        return AsyncMemoryRepository()


class TestSQLite(RepositoryContract):
    lacks = {Capability.LOSE: "a file answers or raises"}

    def open_repository(self, folder: Path) -> SQLAlchemyRepository:
        self.engine = create_engine(f"sqlite:///{folder / 'jobs.sqlite'}")
        repository = SQLAlchemyRepository(self.engine)
        repository.create_schema()
        return repository

    def close_repository(self, repository: Any) -> None:
        self.engine.dispose()

    def spoil(self, repository: Any, job_id: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(text("UPDATE jobstate_jobs SET status = 'frozen' WHERE id = :id"), {"id": job_id})


@pytest.mark.parametrize(
    ("port", "contract"), [(ports.Repository, RepositoryContract), (ports.Repository, AsyncRepositoryContract)]
)
def test_each_clause_has_its_case_of_the_same_number(port: type, contract: type[RepositoryContract]) -> None:
    declared = re.findall(r"^    ([RDA]\d\d) ", port.__doc__ or "", re.MULTILINE)
    threads = declared[-1]
    proved = clauses(contract)
    assert [*proved, threads] == declared, "the last, threads, has a class of its own"
    assert all(name.startswith(f"test_{number}_") for number, name in proved.items())
