"""What holds on every path: random policies, events, clocks, tokens and runs, right and wrong, from a fresh job on."""

from __future__ import annotations

import pickle
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis.errors import NoSuchExample

from jobstate import Event, Job, JobStatus, Policy, allowed_events, apply, decide, explain
from jobstate.errors import StaleJobError
from jobstate.lifecycle import (
    NOT_REPLAYED,
    Accepted,
    Already,
    Decision,
    Facts,
    Refused,
    creation_record,
    replay,
)
from jobstate.model import Lease
from jobstate.testing.history import JobHistory, Step
from jobstate.testing.strategies import histories
from tests.filled import AT, T, filled_job
from tests.support import a_job

PROPERTY = settings(
    max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)

V, Q, P = JobStatus.VALIDATING, JobStatus.QUEUED, JobStatus.IN_PROGRESS
C, F, X, E = JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED

EDGES: Final[dict[Event, set[tuple[JobStatus, JobStatus]]]] = {
    Event.ACCEPT: {(V, Q)},
    Event.REJECT: {(V, F)},
    Event.DISPATCHED: {(Q, Q), (P, P)},
    Event.DELAYED: {(Q, Q)},
    Event.START: {(Q, P)},
    Event.HEARTBEAT: {(P, P)},
    Event.COMPLETE: {(P, C)},
    Event.FAIL: {(P, F)},
    Event.RELEASE: {(P, Q)},
    Event.GIVE_BACK: {(P, Q)},
    Event.RESCUE: {(P, Q), (P, F)},
    Event.CANCEL: {(V, X), (Q, X), (P, X)},
    Event.RETRY: {(F, Q), (X, Q), (E, Q)},
    Event.EXPIRE: {(V, E), (Q, E), (P, E), (C, E), (F, E), (X, E)},
    Event.BEGIN_CLEANUP: {(E, E)},
    Event.END_CLEANUP: {(E, E)},
}
"""The design's table without its guards."""

MOMENTS: Final = (
    *("started_at", "completed_at", "last_attempt_at", "dispatched_at", "dispatch_delayed_at", "retried_at"),
    *("cleanup_started_at", "cleanup_completed_at"),
)
"""When something happened; not what is planned (`available_at`, `expires_at`, the end of a lease)."""


WALKS = histories(asides=True)


def moves(walk: JobHistory[Job]) -> list[tuple[Step[Job], Accepted]]:
    return [(step, step.decision) for step in walk.steps if isinstance(step.decision, Accepted)]


def refusals(walk: JobHistory[Job]) -> list[tuple[Step[Job], Refused]]:
    return [(step, step.decision) for step in walk.steps if isinstance(step.decision, Refused)]


# What holds on all of them


@PROPERTY
@given(WALKS)
def test_asking_changes_nothing(walk: JobHistory[Job]) -> None:
    for step in walk.steps:
        text = step.before.model_dump_json()
        again = decide(step.before, step.asked.event, step.asked.now, policy=walk.policy, **step.asked.facts)
        assert step.before.model_dump_json() == text
        assert type(again) is type(step.decision)
        if not isinstance(step.decision, Accepted):
            assert step.after is step.before


@PROPERTY
@given(WALKS)
def test_what_is_accepted_follows_the_table_one_version_at_a_time(walk: JobHistory[Job]) -> None:
    for step, move in moves(walk):
        assert (step.before.status, step.after.status) in EDGES[step.asked.event]
        assert (move.source, move.target) == (step.before.status, step.after.status)
        assert step.after.version == step.before.version + 1 == move.version + 1
        assert step.after.operation == move.operation != step.before.operation


@PROPERTY
@given(WALKS)
def test_a_transition_is_applied_to_the_version_it_was_decided_on_and_to_no_other(walk: JobHistory[Job]) -> None:
    for step, move in moves(walk):
        with pytest.raises(StaleJobError):
            apply(step.after, move)


@PROPERTY
@given(WALKS)
def test_the_identity_of_a_job_stays(walk: JobHistory[Job]) -> None:
    names = ("id", "object", "organization_id", "endpoint", "created_at", "metadata", "max_attempts", "ttl", "held")
    for step in walk.steps:
        assert [getattr(step.after, name) for name in names] == [getattr(walk.first, name) for name in names]
        assert (step.after.request == walk.first.request) is (step.after.cleanup_started_at is None)


@PROPERTY
@given(WALKS)
def test_no_later_event_has_an_earlier_time_whatever_the_clock_does(walk: JobHistory[Job]) -> None:
    for step, move in moves(walk):
        happened = [time for name in MOMENTS if (time := getattr(step.before, name)) is not None]
        assert move.at == step.after.updated_at == max(step.asked.now, step.before.updated_at)
        assert move.at >= max([step.before.created_at, *happened])
        for name in MOMENTS:
            time = getattr(step.after, name)
            assert time in (None, getattr(step.before, name), move.at)
            assert time is None or time <= step.after.updated_at


@PROPERTY
@given(WALKS)
def test_the_lease_of_an_attempt_never_gets_shorter(walk: JobHistory[Job]) -> None:
    for step, _ in moves(walk):
        old, new = step.before.lease, step.after.lease
        if old is not None and new is not None:
            assert new.token == old.token
            assert (old.expires_at is None) is (new.expires_at is None)
            assert (new.expires_at or 0) >= (old.expires_at or 0)


@PROPERTY
@given(WALKS)
def test_attempts_are_the_accepted_starts(walk: JobHistory[Job]) -> None:
    starts = 0
    for step in walk.steps:
        starts += step.asked.event is Event.START and isinstance(step.decision, Accepted)
        assert step.after.attempt_count == starts >= step.before.attempt_count
        if step.after.status is P:
            assert step.after.lease is not None


@PROPERTY
@given(WALKS)
def test_no_path_exceeds_the_budget(walk: JobHistory[Job]) -> None:
    """Counted here by hand: starts since the last retry, less those that were given back."""
    used = spared = 0
    for step, move in moves(walk):
        retried, given_back = move.event is Event.RETRY, move.event is Event.GIVE_BACK
        used = 0 if retried else used + (move.event is Event.START) - given_back
        spared = 0 if retried else spared + given_back
        assert step.after.attempts_used == used
        assert 0 <= used <= walk.policy.max_attempts
        assert step.after.give_backs == spared <= walk.policy.max_give_backs


@PROPERTY
@given(WALKS)
def test_each_run_is_started_at_most_once(walk: JobHistory[Job]) -> None:
    runs = [step.before.run for step, _ in moves(walk) if step.asked.event is Event.START]
    assert sorted(set(runs)) == runs
    for step, _ in moves(walk):
        opens = step.after.status is Q and step.before.status is not Q
        assert step.after.run == step.before.run + opens


@PROPERTY
@given(WALKS)
def test_a_fenced_token_changes_nothing(walk: JobHistory[Job]) -> None:
    for step, _ in moves(walk):
        if step.asked.event in (Event.HEARTBEAT, Event.COMPLETE, Event.FAIL, Event.RELEASE, Event.GIVE_BACK):
            assert step.before.lease is not None
            assert step.asked.facts.get("token") == step.before.lease.token


@PROPERTY
@given(WALKS)
def test_every_job_on_the_way_comes_back_from_json_as_it_was(walk: JobHistory[Job]) -> None:
    for job in [walk.first, *(step.after for step in walk.steps)]:
        assert type(job).model_validate_json(job.model_dump_json()) == job
        assert type(job).model_validate(job.__dict__) == job


@PROPERTY
@given(WALKS)
def test_the_error_of_a_refusal_comes_back_from_a_pickle_as_it_was(walk: JobHistory[Job]) -> None:
    for _, refused in refusals(walk):
        error = refused.error()
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), again.args, str(again)) == (type(error), error.args, str(error))
        assert {**again.__dict__} == {**error.__dict__}
        legal = tuple(event.value for event in refused.legal)
        assert error.args[:4] == (refused.job_id, refused.code, refused.event.value, refused.status.value)
        assert error.args[4:] == (refused.words, legal, refused.wait_until)
        assert all(type(value) in (str, int, tuple, type(None)) for value in error.args)


@PROPERTY
@given(WALKS)
def test_an_explanation_is_in_the_words_of_the_answer(walk: JobHistory[Job]) -> None:
    for step in walk.steps:
        words = explain(step.before, step.asked.event, step.asked.now, policy=walk.policy, **step.asked.facts)
        answer = step.decision.error() if isinstance(step.decision, Refused) else step.decision
        assert words == str(answer)


@PROPERTY
@given(WALKS)
def test_what_a_refusal_calls_legal_is_what_is_allowed_and_would_be_accepted(walk: JobHistory[Job]) -> None:
    for step, refused in refusals(walk):
        assert refused.legal == allowed_events(step.before, step.asked.now, policy=walk.policy)
        accepted = [
            event for event in Event if explain(step.before, event, step.asked.now, policy=walk.policy).count(" is accepted:")
        ]
        assert set(accepted) <= set(refused.legal)


@PROPERTY
@given(WALKS)
def test_waiting_as_long_as_a_refusal_says_removes_its_obstacle_and_no_shorter(walk: JobHistory[Job]) -> None:
    for step, refused in refusals(walk):
        end = refused.wait_until
        if end is None or (step.asked.event, refused.status) == (Event.RETRY, C):
            continue
        assert end > max(step.asked.now, step.before.updated_at)
        early = decide(step.before, step.asked.event, end - 1, policy=walk.policy, **step.asked.facts)
        assert isinstance(early, Refused)
        then = decide(step.before, step.asked.event, end, policy=walk.policy, **step.asked.facts)
        assert isinstance(then, Accepted) or (isinstance(then, Refused) and then.code != refused.code)


@PROPERTY
@given(WALKS)
def test_a_completed_job_is_retried_after_the_wait_that_its_refusal_speaks_of(walk: JobHistory[Job]) -> None:
    for step, refused in refusals(walk):
        if (step.asked.event, refused.status) == (Event.RETRY, C) and step.before.run >= 1:
            assert refused.wait_until is not None
            at = max(step.asked.now, refused.wait_until)
            expired = decide(step.before, Event.EXPIRE, at, policy=walk.policy)
            assert isinstance(expired, Accepted)
            retried = decide(apply(step.before, expired), Event.RETRY, at, policy=walk.policy, **step.asked.facts)
            assert isinstance(retried, Accepted)


@PROPERTY
@given(WALKS)
def test_the_history_gives_the_job_back(walk: JobHistory[Job]) -> None:
    records = walk.records
    told, job = replay(records), walk.job
    assert {name for name in Job.model_fields if getattr(told, name) != getattr(job, name)} <= NOT_REPLAYED
    assert (told.lease and told.lease.token) == (job.lease and job.lease.token)
    assert [record.version for record in records] == sorted({record.version for record in records})


def test_a_history_with_a_hole_is_not_replayed() -> None:
    job = a_job(status=V, run=0)
    accepted = decide(job, Event.ACCEPT, AT)
    assert isinstance(accepted, Accepted)
    cancelled = decide(apply(job, accepted), Event.CANCEL, AT)
    assert isinstance(cancelled, Accepted)
    first, second, third = creation_record(job), accepted.record, cancelled.record
    assert second is not None
    assert third is not None
    assert replay([first, second, third]).status is X
    for records in ([], [second, third], [first, third]):
        with pytest.raises(ValueError, match=r"begins with its creation|but the job was"):
            replay(records)


def test_the_history_holds_all_but_payloads_and_what_leaves_no_record() -> None:
    marks = {"task_name", "dispatched_at", "dispatch_count"}
    assert {
        "request",
        "response",
        "progress",
        "warnings",
        "lease",
        "version",
        "operation",
        "updated_at",
    } | marks == NOT_REPLAYED


def test_the_walks_go_everywhere() -> None:
    """Without this, the properties above could hold of nothing."""
    edges: set[tuple[Event, JobStatus, JobStatus]] = set()
    answers: set[tuple[Event, type[Decision]]] = set()

    moved = {(event, *edge) for event in Event for edge in EDGES[event]}
    repeats = (Event.START, Event.HEARTBEAT, Event.COMPLETE, Event.FAIL, Event.RETRY)
    expected: set[tuple[Event, type[Decision]]] = {(event, Already) for event in repeats}
    expected |= {(event, kind) for event in Event for kind in (Accepted, Refused)}

    def all_seen(walk: JobHistory[Job]) -> bool:
        edges.update((step.asked.event, move.source, move.target) for step, move in moves(walk))
        answers.update((step.asked.event, type(step.decision)) for step in walk.steps)
        return moved <= edges and expected <= answers

    with suppress(NoSuchExample):
        find(WALKS.map(all_seen), bool, settings=settings(PROPERTY, max_examples=800, phases=[Phase.generate]))
    assert moved - edges == set()
    assert answers == expected


# One at a time


@pytest.mark.parametrize(
    ("event", "job", "until"),
    [
        (Event.START, filled_job(Q, available_at=AT + 50), AT + 50),
        (Event.RESCUE, filled_job(P, lease=Lease(token="t", expires_at=AT + 50)), AT + 60),
        (Event.EXPIRE, filled_job(P, lease=Lease(token="t", expires_at=AT - 10)), T + 5_020),
        (Event.EXPIRE, filled_job(P, expires_at=AT, lease=Lease(token="t", expires_at=AT + 50)), AT + 60),
        (Event.BEGIN_CLEANUP, filled_job(E), T + 5_020 + 86_400),
        (Event.END_CLEANUP, filled_job(E, cleanup_started_at=AT - 1), AT - 1 + 310),
    ],
)
def test_an_only_obstacle_is_gone_after_the_wait(event: Event, job: Job, until: int) -> None:
    facts: Facts = {"token": "new", "run": 4} if event is Event.START else {}
    refused = decide(job, event, AT, **facts)
    assert isinstance(refused, Refused)
    assert refused.wait_until == until
    assert isinstance(decide(job, event, until - 1, **facts), Refused)
    assert isinstance(decide(job, event, until, **facts), Accepted)


def test_a_clock_that_steps_back_does_not_turn_time_around() -> None:
    """A release leaves no time of its own on the row: only `updated_at` knows that it was at 100."""

    def moved(job: Job, event: Event, now: int, **facts: Any) -> tuple[Job, Accepted]:
        decision = decide(job, event, now, policy=Policy(backoff=timedelta(0)), **facts)
        assert isinstance(decision, Accepted)
        return apply(job, decision), decision

    job = a_job(created_at=0, updated_at=0, expires_at=1_000)
    job, started = moved(job, Event.START, 50, token="t", run=1)
    job, released = moved(job, Event.RELEASE, 100, token="t", failure_code="x")
    assert job.started_at is None
    job, cancelled = moved(job, Event.CANCEL, 60)
    assert [started.at, released.at, cancelled.at] == [50, 100, 100]
    assert (job.completed_at, job.updated_at) == (100, 100)


def test_an_explanation_without_facts_says_what_the_command_would_raise() -> None:
    """A start brings a new token, so that of a job in progress it is another attempt's."""
    job = filled_job(P, result_digest=None)
    refused = decide(job, Event.START, AT, token="token-new", run=job.run)
    assert isinstance(refused, Refused)
    assert explain(job, Event.START, AT) == str(refused.error())
