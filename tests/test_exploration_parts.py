"""A request that is cut, explored: created by two, killed anywhere, read, retried, cleaned.

That parts are there while a job is active, and for an accepted retry, is of the invariants of all explorations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from jobstate.effects import Flow
from jobstate.flows import attempts, commands, reading
from jobstate.flows.whole import RESTORE_FAILED
from jobstate.model import Event, Job
from jobstate.testing.explorer import Actor, Ending, Faults, Invariant, Take, World, explore, recover
from jobstate.testing.explorer.actors import (
    CLEANUP,
    CLEANUP_END,
    POLICY,
    SCOPE,
    canceller,
    cleaner,
    creator,
    draft,
    empty_world,
    expired,
    expirer,
    retrier,
    the_job_id,
)
from tests.exploration import INVARIANTS, LOST

SCOPE_THAT_CUTS = replace(SCOPE, policy=POLICY.model_copy(update={"inline_limit": 10}))
REQUEST = {"document": "data:text/plain,letter", "pages": 2}
FAULTS = {"lost": LOST, "failed": Faults(failed=1), "repeated": Faults(repeated=1)}


def cut_creator(name: str) -> Actor:
    return creator(name, request=REQUEST, scope=SCOPE_THAT_CUTS)


def reader(name: str = "read") -> Actor:
    return Actor(name, _read)


def _read() -> Flow[Any]:
    return (yield from reading.retrieve(SCOPE_THAT_CUTS, the_job_id(), include_request=True, include_response=False))


def starter(name: str = "start") -> Actor:
    return Actor(name, _start)


def _start() -> Flow[Any]:
    delivery = yield from Take()
    return (yield from attempts.start(SCOPE_THAT_CUTS, delivery, lambda job: None)).job


def _answered(ending: Ending) -> str | None:
    """Whole, or gone with the clean-up; and references for a reader only, with a warning."""
    answer: object = ending.answer.value
    if not isinstance(answer, Job) or ending.actor.name not in {"read", "start", "setup", "two"}:
        return None
    job = cast("Any", answer)
    request: Any = job.request
    told = any(warning.code == RESTORE_FAILED for warning in job.warnings or ())
    if told:
        return "" if ending.actor.name == "read" and request["pages"] == 2 else f"{ending.actor.name} was given references"
    return "" if request in (None, REQUEST) else f"{ending.actor.name} was given {request}, without a word"


ANSWERED = Invariant("a request is answered whole, or with a warning", ending=_answered)


def queued() -> World:
    return empty_world().run(commands.create(SCOPE_THAT_CUTS, draft(request=REQUEST)))[1]


def cancelled() -> World:
    return queued().run(commands.change(SCOPE, the_job_id(), Event.CANCEL), "somebody")[1]


def explored(worlds: Sequence[World], actors: Sequence[Actor], faults: Faults, instants: Sequence[int] = ()) -> set[str]:
    found = explore(worlds, actors, invariants=(*INVARIANTS, ANSWERED), faults=faults, instants=instants)
    print(f"{', '.join(actor.name for actor in actors)}: {found}")
    assert found.missing([ANSWERED.name]) == []
    assert found.space is not None
    print("recovery:", recover(found.space.worlds, SCOPE_THAT_CUTS))
    return found.seen


def test_the_row_of_these_worlds_is_cut() -> None:
    [job] = queued().jobs
    assert [part.key in queued().artifacts for part in job.request_artifacts or ()] == [True]


@pytest.mark.parametrize("fault", FAULTS)
def test_two_creates_killed_anywhere_make_one_whole_job(fault: str) -> None:
    """And whatever is left is cleaned up: from every world, those in which both are dead too."""
    seen = explored([empty_world()], [cut_creator("setup"), cut_creator("two"), starter()], FAULTS[fault])
    assert {"status queued", "event start"} <= seen


@pytest.mark.parametrize("fault", FAULTS)
def test_a_create_that_expires_meanwhile_is_cleaned_up(fault: str) -> None:
    actors = [cut_creator("setup"), expirer(), cleaner()]
    assert "event begin_cleanup" in explored([empty_world()], actors, FAULTS[fault], [CLEANUP])


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    "others", [[retrier(), starter()], [reader(), starter()], [canceller(), reader()], [expirer(), reader()]]
)
def test_a_request_is_whole_or_gone_whatever_clean_up_does(others: list[Actor], fault: str) -> None:
    worlds = [queued(), cancelled(), expired(queued()), expired(cancelled())]
    assert "event begin_cleanup" in explored(worlds, [cleaner(), *others], FAULTS[fault], [CLEANUP, CLEANUP_END])
