"""The SQL repositories keep the contract of a repository, clause by clause, on each database through each driver."""

from __future__ import annotations

import pytest

from jobstate.testing.contracts import (
    AsyncNoticesContract,
    AsyncRepositoryContract,
    AsyncRepositoryRaces,
    AsyncSharedSweepsContract,
    Capability,
    NoticesContract,
    RepositoryContract,
    RepositoryRaces,
    SharedSweepsContract,
)
from tests.sql import AUTOMATIC, OnAioSQLite, OnAsyncpg, OnAsyncPostgreSQL, OnPostgreSQL, OnSQLite


class TestSQLite(OnSQLite, RepositoryContract):
    lacks = {Capability.LOSE: "a file answers or raises"}


class TestSQLiteSweeps(OnSQLite, SharedSweepsContract):
    pass


class TestSQLiteRaces(OnSQLite, RepositoryRaces):
    pass


class TestSQLiteDirect(OnSQLite, RepositoryContract):
    options = AUTOMATIC
    lacks = {Capability.LOSE: "a file answers or raises"}


class TestSQLiteDirectSweeps(OnSQLite, SharedSweepsContract):
    options = AUTOMATIC


class TestSQLiteDirectRaces(OnSQLite, RepositoryRaces):
    options = AUTOMATIC


class TestAioSQLite(OnAioSQLite, AsyncRepositoryContract):
    lacks = {Capability.LOSE: "a file answers or raises"}


class TestAioSQLiteSweeps(OnAioSQLite, AsyncSharedSweepsContract):
    pass


class TestAioSQLiteRaces(OnAioSQLite, AsyncRepositoryRaces):
    pass


class TestPostgreSQL(OnPostgreSQL, RepositoryContract):
    pass


class TestPostgreSQLSweeps(OnPostgreSQL, SharedSweepsContract):
    pass


class TestPostgreSQLRaces(OnPostgreSQL, RepositoryRaces):
    pass


class TestPostgreSQLNotices(OnPostgreSQL, NoticesContract):
    pass


@pytest.mark.full
class TestPostgreSQLDirect(OnPostgreSQL, RepositoryContract):
    options = AUTOMATIC


class TestPostgreSQLDirectSweeps(OnPostgreSQL, SharedSweepsContract):
    options = AUTOMATIC


class TestPostgreSQLDirectRaces(OnPostgreSQL, RepositoryRaces):
    options = AUTOMATIC


@pytest.mark.full
class TestAsyncPostgreSQL(OnAsyncPostgreSQL, AsyncRepositoryContract):
    pass


class TestAsyncPostgreSQLSweeps(OnAsyncPostgreSQL, AsyncSharedSweepsContract):
    pass


class TestAsyncPostgreSQLRaces(OnAsyncPostgreSQL, AsyncRepositoryRaces):
    pass


class TestAsyncPostgreSQLNotices(OnAsyncPostgreSQL, AsyncNoticesContract):
    pass


class TestAsyncpgNotices(OnAsyncpg, AsyncNoticesContract):
    pass


@pytest.mark.full
class TestAsyncpg(OnAsyncpg, AsyncRepositoryContract):
    pass


class TestAsyncpgSweeps(OnAsyncpg, AsyncSharedSweepsContract):
    pass


class TestAsyncpgRaces(OnAsyncpg, AsyncRepositoryRaces):
    pass


@pytest.mark.full
class TestAsyncPostgreSQLDirect(OnAsyncPostgreSQL, AsyncRepositoryContract):
    options = AUTOMATIC


class TestAsyncpgDirect(OnAsyncpg, AsyncRepositoryContract):
    options = AUTOMATIC


class TestAsyncpgDirectSweeps(OnAsyncpg, AsyncSharedSweepsContract):
    options = AUTOMATIC


class TestAsyncpgDirectRaces(OnAsyncpg, AsyncRepositoryRaces):
    options = AUTOMATIC
