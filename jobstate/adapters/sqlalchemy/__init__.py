"""Jobs in a SQL database, through SQLAlchemy Core. This version: SQLite files.

tables       the three tables and their indexes, on a MetaData of the host's choice
codec        between a job and its row
statements   every statement, built once
repository   SQLAlchemyRepository
"""

from jobstate.adapters.sqlalchemy.repository import SQLAlchemyRepository
from jobstate.adapters.sqlalchemy.tables import Tables

__all__ = ["SQLAlchemyRepository", "Tables"]
