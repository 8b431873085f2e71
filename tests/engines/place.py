"""Where everything of one scenario is: database, broker, folder. A worker process is told by JSON."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import make_url
from sqlalchemy.pool import NullPool

from jobstate import Jobs, Policy
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository, Tables
from jobstate.ports import Dispatcher
from tests.postgresql import emptied, engine_of

PREFIX = "engines_"
POLICY = Policy(
    ttl=timedelta(hours=1),
    max_attempts=20,
    lease=timedelta(seconds=3),
    clock_skew=timedelta(seconds=1),
    backoff=timedelta(0),
    redispatch_after=timedelta(seconds=4),
)
"""Short times, on the real clock: what is lost is found in seconds."""
PATIENT = POLICY.model_copy(update={"redispatch_after": timedelta(seconds=40)})
"""For the side of the host, where many jobs wait their turn: else all that wait are dispatched again all the time."""


class Place(NamedTuple):
    """`database` and `broker` are addresses; `folder` has the log of starts, and the gates."""

    engine: str
    database: str
    broker: str
    folder: str

    def jobs(self, dispatcher: Dispatcher | None, policy: Policy = POLICY) -> Jobs:
        """The service, as each process has it; its connections outlive no call, so that a worker may fork."""
        engine = engine_of(make_url(self.database), poolclass=NullPool)
        return Jobs(SQLAlchemyRepository(engine, Tables(prefix=PREFIX)), dispatcher, policy=policy)

    def prepare(self) -> None:
        """Empty tables."""
        engine = engine_of(make_url(self.database), poolclass=NullPool)
        emptied(engine, PREFIX)
        SQLAlchemyRepository(engine, Tables(prefix=PREFIX)).create_schema()

    def path(self, name: str) -> Path:
        """A file of the scenario's."""
        return Path(self.folder) / name
