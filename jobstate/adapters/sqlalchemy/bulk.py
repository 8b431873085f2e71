"""Writes of many jobs, once for both colours: generators that yield writes, and get their answers or their errors.

A batch is one write. When the database refuses it, nothing of it was done, and each of its jobs is written alone, so that one
bad row touches no other.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from jobstate.adapters.sqlalchemy.faults import is_hopeless
from jobstate.adapters.sqlalchemy.lines import Line
from jobstate.adapters.sqlalchemy.store import Answers, Batch, Part, Store
from jobstate.effects import Decide, Moved
from jobstate.errors import OutcomeUnknownError, RepositoryError
from jobstate.lifecycle import Accepted
from jobstate.query import DuePage

R = TypeVar("R")
SEVERAL = "several jobs"


class Step(NamedTuple):
    """A write to be made; with `whole`, in a transaction also where each of its statements could stand alone."""

    job_id: str
    work: Callable[[Line], Any]
    whole: bool = False


Steps = Generator[Step, Any, R]


def save_many(store: Store, transitions: Sequence[Accepted]) -> Steps[list[RepositoryError | None]]:
    """As `Repository.save_many`."""
    answers: Answers = {}
    for batch in store.batches(transitions):
        try:
            answers |= yield Step(SEVERAL, partial(_save_batch, store, batch))
        except RepositoryError as error:
            answers |= yield from _after(store, batch, error)
    return [answers[transition.job_id] for transition in transitions]


def _save_batch(store: Store, batch: Batch, line: Line) -> Answers:
    return store.save_batch(line, batch)


def _save(store: Store, transition: Accepted, line: Line) -> None:
    store.save(line, transition)


def _after(store: Store, batch: Batch, error: RepositoryError) -> Steps[Answers]:
    """The answers when a batch met an error: nobody knows, or nothing was done and each is written alone."""
    if isinstance(error, OutcomeUnknownError):
        return {one.job_id: OutcomeUnknownError(one.job_id, error.detail) for one in batch}
    if is_hopeless(error):
        return {one.job_id: error for one in batch}
    answers: Answers = {}
    for one in batch:
        try:
            yield Step(one.job_id, partial(_save, store, one))
            answers[one.job_id] = None
        except RepositoryError as refused:
            answers[one.job_id] = refused
    return answers


def move_due(store: Store, part: Part, decide: Decide) -> Steps[Moved]:
    """As `SharedSweeps.move_due`: rows are held from the reading to the commit."""
    moved = Moved(DuePage([], None, []), (), ())
    answers: Answers = {}

    def work(line: Line) -> None:
        nonlocal moved
        page = store.due(line, part, hold=True)
        moved = Moved(page, list(decide(page.jobs)), ())
        for batch in store.batches(moved.transitions):
            answers.update(store.save_batch(line, batch))

    try:
        yield Step(SEVERAL, work, whole=True)
    except RepositoryError as error:
        if not moved.transitions:
            raise
        for batch in store.batches(moved.transitions):
            answers |= yield from _after(store, batch, error)
    return moved._replace(answers=[answers[transition.job_id] for transition in moved.transitions])
