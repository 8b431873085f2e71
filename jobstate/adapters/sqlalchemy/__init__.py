"""Jobs in a SQL database, through SQLAlchemy Core: PostgreSQL, and SQLite files.

repository    `SQLAlchemyRepository`; its twin in `async_repository`
transactions  how a write is made: alone, in a transaction, or as a part of the host's
bulk          writes of many jobs
store         the operations on one connection
statements    what is read
backend       what differs from one database to the next: `postgresql`, `sqlite`
codec         between a job and its row
prepared      statements compiled once
tables        the tables and their indexes, on a MetaData of the host's choice
schema        their versions
notices       how idle workers learn of new jobs
faults        the errors of databases, as the port's
"""

from jobstate.extra import needs_extra

with needs_extra("sqlalchemy"):
    from jobstate.adapters.sqlalchemy.async_repository import AsyncSQLAlchemyRepository
    from jobstate.adapters.sqlalchemy.repository import SQLAlchemyRepository
    from jobstate.adapters.sqlalchemy.tables import Tables

__all__ = ["AsyncSQLAlchemyRepository", "SQLAlchemyRepository", "Tables"]
