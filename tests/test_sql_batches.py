"""What is written and read in batches is what one by one gives, row by row, on each database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from jobstate import JobError, JobResponse, JobStatus, JobWarning, RepositoryError
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository, Tables, postgresql
from jobstate.adapters.sqlalchemy.batches import SHARING
from jobstate.adapters.sqlalchemy.store import MANY
from jobstate.lifecycle import Accepted, creation_record
from jobstate.model import AnyJob, Event, Lease, evolve
from jobstate.query import Due
from jobstate.testing import JobHistory, histories
from jobstate.testing.contracts.samples import LATE, example, transition
from tests.postgresql import emptied

Engines = Callable[[], Engine]
TEXTS = st.sampled_from([None, "", "a", "ä\u2028\N{GRINNING FACE}", "\x01\x7f", "'\"\\", "null", "%s %(x)s $1 :x"])
TIMES = st.sampled_from([None, 0, 1, 2**40])
BODIES: list[Any] = [None, {}, [], 1, True, "x\0y", {"a": [1e-17, 2**70, "ä\u2028"]}]

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "progress": st.sampled_from([None, 0.0, 1.0, 0.1, 1e-17, 5e-324, 1 - 2**-53]),
    "lease": st.sampled_from([None, *(Lease(token=token, expires_at=end) for token in "tu" for end in (None, 5))]),
    "error": st.sampled_from([None, *(JobError(code="c", message=words) for words in ("m", "ä"))]),
    "warnings": st.sampled_from([None, (), (JobWarning(code="w", message="x"),)]),
    "response": st.sampled_from([None, *(JobResponse[Any](body=body) for body in BODIES)]),
    "request": st.sampled_from([None, {}, {"a": "\0"}]),
    "metadata": st.sampled_from([{}, {"a": "1"}, {"ä": "\u2028", "bb": "x", "b": "y"}]),
    "trace_context": st.sampled_from([None, {}, {"traceparent": "x"}]),
    "cancelled": st.booleans(),
    "retry_key": TEXTS,
    "task_name": TEXTS,
    "available_at": TIMES,
    "dispatch_count": st.sampled_from([0, 1, 2**31 - 1, 2**31]),
}
"""What a transition may write; the last count is more than PostgreSQL's column holds."""


@st.composite
def moves(draw: st.DrawFn) -> list[tuple[AnyJob, Accepted]]:
    """A few jobs, and a transition of each that writes the same fields; some leave no record, and some are late."""
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), unique=True, min_size=1, max_size=3))
    events = draw(st.sampled_from([(Event.CANCEL,), (Event.CANCEL, Event.HEARTBEAT), (Event.DISPATCHED, Event.RETRY)]))
    made: list[tuple[AnyJob, Accepted]] = []
    for number in range(draw(st.integers(2, 5))):
        status = draw(st.sampled_from([JobStatus.QUEUED, JobStatus.IN_PROGRESS, JobStatus.FAILED]))
        job = example(number, status, version=draw(st.sampled_from([1, 2])))
        changes = {name: draw(VALUES[name]) for name in names}
        move = transition(job, draw(st.sampled_from(events)), **changes)
        late = draw(st.sampled_from([0, 0, 0, 1]))
        made.append((job, move._replace(reason=draw(TEXTS), actor=draw(TEXTS), version=move.version + late)))
    return made


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[AnyJob, Accepted]]:
    """A step of each of a few histories."""
    walks: list[JobHistory[Any]] = draw(st.lists(histories(), max_size=3, unique_by=lambda walk: walk.first.id))
    made: list[tuple[AnyJob, Accepted]] = []
    for walk in walks:
        accepted = [(step.before, step.decision) for step in walk.steps if isinstance(step.decision, Accepted)]
        if accepted:
            job, move = draw(st.sampled_from(accepted))
            made.append((evolve(job, {"idempotency_key": None}), move))
    return made


class Place:
    """A repository with tables of its own, and all that stands in them."""

    def __init__(self, engine: Engine, prefix: str) -> None:
        self._engine, self._prefix = engine, prefix
        emptied(engine, prefix)
        self.repository = SQLAlchemyRepository(engine, Tables(prefix=prefix))
        self.repository.create_schema()

    def fill(self, jobs: Sequence[AnyJob]) -> None:
        with self._engine.begin() as connection:
            for table in ("jobs", "payloads", "history"):
                connection.execute(text(f"DELETE FROM {self._prefix}{table}"))
        for job in jobs:
            assert self.repository.insert(job, creation_record(job)) is None

    def rows(self) -> list[str]:
        with self._engine.begin() as connection:
            tables = (f"SELECT * FROM {self._prefix}{table} ORDER BY 1, 2" for table in ("jobs", "payloads", "history"))
            return [repr(row) for table in tables for row in connection.execute(text(table))]


def _alone(repository: SQLAlchemyRepository, move: Accepted) -> RepositoryError | None:
    try:
        repository.save(move)
    except RepositoryError as error:
        return error
    return None


@pytest.mark.parametrize("sharing", [2, SHARING])
def test_a_batch_leaves_what_its_transitions_leave_one_by_one(
    engines: Engines, monkeypatch: pytest.MonkeyPatch, sharing: int
) -> None:
    """What its rows share stands apart from two rows on; and in batches of so few never."""
    monkeypatch.setattr(postgresql, "SHARING", sharing)
    engine = engines()
    many, single = Place(engine, "many_"), Place(engine, "single_")

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(moves() | steps())
    def same(made: list[tuple[AnyJob, Accepted]]) -> None:
        for place in (many, single):
            place.fill([job for job, _ in made])
        together = many.repository.save_many([move for _, move in made])
        alone = [_alone(single.repository, move) for _, move in made]
        assert list(map(type, together)) == list(map(type, alone))
        assert many.rows() == single.rows()
        for due in Due:
            by_columns, each = (many.repository.due(due, until=LATE, limit=limit) for limit in (MANY, MANY - 1))
            assert repr(by_columns) == repr(each)

    same()
