"""What holds on every path: random policies, events, clocks, tokens and runs, right and wrong, from a fresh job on."""

from __future__ import annotations

import pickle
from datetime import timedelta
from random import Random
from typing import Any, Final, NamedTuple, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobstate import Event, Job, JobError, JobResponse, JobStatus, JobWarning, Policy, allowed_events, apply, decide, explain
from jobstate.errors import StaleJobError
from jobstate.lifecycle import (
    NOT_REPLAYED,
    Accepted,
    Already,
    Decision,
    Draft,
    Facts,
    Refused,
    creation_record,
    new_job,
    replay,
)
from jobstate.lifecycle.decision import NEEDS
from jobstate.model import Artifact, Lease
from tests.filled import AT, T, filled_job
from tests.support import a_job

PROPERTY = settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
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


# Walks


class Turn(NamedTuple):
    """One event on a walk: what was asked of which job, and what came of it."""

    before: Job
    snapshot: str
    """The job as JSON, taken before the event was asked."""
    event: Event
    now: int
    facts: Facts
    decision: Decision
    after: Job


class Walk(NamedTuple):
    policy: Policy
    first: Job
    turns: list[Turn]

    @property
    def last(self) -> Job:
        return self.turns[-1].after

    @property
    def refusals(self) -> list[tuple[Turn, Refused]]:
        return [(turn, turn.decision) for turn in self.turns if isinstance(turn.decision, Refused)]

    @property
    def moves(self) -> list[tuple[Turn, Accepted]]:
        return [(turn, turn.decision) for turn in self.turns if isinstance(turn.decision, Accepted)]


def _duration(low: int, high: int) -> st.SearchStrategy[timedelta]:
    return st.integers(low, high).map(lambda seconds: timedelta(seconds=seconds))


POLICIES = st.builds(
    Policy,
    ttl=_duration(1, 5_000),
    max_attempts=st.integers(1, 3),
    lease=st.none() | _duration(1, 60),
    clock_skew=_duration(1, 20),
    backoff=_duration(0, 30),
    backoff_cap=_duration(0, 60),
    backoff_jitter=st.sampled_from([0.0, 0.2, 1.0]),
    max_give_backs=st.integers(0, 2),
    resend_window=_duration(0, 60),
    keep_for=st.none() | _duration(1, 3_000),
    cleanup_after=_duration(0, 3_000),
)


def _moments_ahead(job: Job, policy: Policy) -> list[int]:
    """Where something may become possible, or stop to be."""
    ends = [job.expires_at]
    if job.status is E:
        ends.append(job.expires_at + int(policy.cleanup_after.total_seconds()))
    if job.lease is not None and job.lease.expires_at is not None:
        ends.extend([job.lease.expires_at + int(policy.clock_skew.total_seconds())] * 5)
    if job.cleanup_started_at is not None:
        ends.append(job.cleanup_started_at + policy.cleanup_grace)
    return ends if job.available_at is None else [*ends, job.available_at]


def _clock(random: Random, now: int, job: Job, policy: Policy) -> int:
    """The next reading of the clock: a little later, at times earlier, or on either side of a deadline."""
    edge = random.choice(_moments_ahead(job, policy)) + random.randint(-1, 1)
    return random.choice([now + random.randrange(40), now + random.randrange(40), now - random.randrange(100), edge])


_ERROR = JobError(code="code_a", message="é", details={"k": 1})
_RESULTS = (None, {"a": [1, 2.5]}, "é")
_WARNINGS = (
    (),
    (JobWarning(code="w1", message="1"),),
    (JobWarning(code="w2", message="2"), JobWarning(code="w3", message="3")),
)
_ARTIFACTS = (None, (Artifact(name="out", key="job/1/out", size=3, digest="d"),))


def _facts(random: Random, event: Event, job: Job) -> Facts:
    """The facts that an event needs, and those that it may have: the token and the run are right or wrong."""
    own = "token-0" if job.lease is None else job.lease.token
    fresh = f"token-{job.attempt_count + 1}"
    known: Facts = {
        "token": random.choice([fresh, fresh, own] if event is Event.START else [own, own, own, "token-1", "token-wrong"]),
        "run": random.choice([job.run, job.run, job.run, max(0, job.run - 1), job.run + 1]),
        "task_name": f"task-{job.run}-{job.dispatch_count + 1}",
        "response": JobResponse[Any](body=random.choice(_RESULTS)),
        "digest": random.choice(["digest-1", "digest-2"]),
        "error": _ERROR,
        "failure_code": random.choice(["code_b", "code_c"]),
    }
    facts: dict[str, Any] = {name: value for name, value in known.items() if name in NEEDS.get(event, ())}
    may: dict[Event, Facts] = {
        Event.HEARTBEAT: {"warnings": random.choice(_WARNINGS), "progress": random.random()},
        Event.COMPLETE: {"warnings": random.choice(_WARNINGS), "response_artifacts": random.choice(_ARTIFACTS)},
        Event.FAIL: {"warnings": random.choice(_WARNINGS)},
        Event.RETRY: {"retry_key": random.choice([None, "key-1", "key-2", "key-3"])},
    }
    facts.update((name, value) for name, value in may.get(event, {}).items() if random.random() < 0.5)
    return cast(Facts, facts)


def _event(random: Random, job: Job, now: int, policy: Policy) -> Event:
    """Mostly what leads on, so that walks go far; at times anything."""
    legal = list(allowed_events(job, now, policy=policy))
    moving = [event for event in legal if EDGES[event] != {(job.status, job.status)} and event is not Event.CANCEL]
    start = [event for event in legal if event is Event.START]
    return random.choice(random.choice([start or moving, moving, legal, list(Event)]) or list(Event))


def _walk(policy: Policy, held: bool, seed: int, steps: int) -> Walk:
    random = Random(seed)
    draft = Draft(organization_id="org_w", endpoint="/v1/w", request={"n": [1, "é"]}, held=held)
    job = first = new_job(draft, job_id="job_" + "W" * 21, now=T, operation="op-0", policy=policy)
    now, turns, keys = T, list[Turn](), set[str]()
    for number in range(1, steps + 1):
        now = _clock(random, now, job, policy)
        event = _event(random, job, now, policy)
        facts = _facts(random, event, job)
        if event is Event.RETRY:
            facts["past_retry_keys"] = frozenset(keys)
        snapshot = job.model_dump_json()
        decision = decide(job, event, now, policy=policy, operation=f"op-{number}", **facts)
        after = apply(job, decision) if isinstance(decision, Accepted) else job
        turns.append(Turn(job, snapshot, event, now, facts, decision, after))
        if after.retry_key is not None:
            keys.add(after.retry_key)
        job = after
        if job.cleanup_completed_at is not None and random.random() < 0.3:
            break  # nothing leads on from here
    return Walk(policy, first, turns)


WALKS = st.builds(_walk, POLICIES, st.booleans(), st.integers(0, 2**32 - 1), st.integers(1, 40))
"""Fewer steps of the same seed are the beginning of the same walk, so that a failing walk is cut as short as it may be."""


# What holds on all of them


@PROPERTY
@given(WALKS)
def test_asking_changes_nothing(walk: Walk) -> None:
    for turn in walk.turns:
        assert turn.before.model_dump_json() == turn.snapshot
        if not isinstance(turn.decision, Accepted):
            assert turn.after is turn.before


@PROPERTY
@given(WALKS)
def test_what_is_accepted_follows_the_table_one_version_at_a_time(walk: Walk) -> None:
    for turn, move in walk.moves:
        assert (turn.before.status, turn.after.status) in EDGES[turn.event]
        assert (move.source, move.target) == (turn.before.status, turn.after.status)
        assert turn.after.version == turn.before.version + 1 == move.version + 1
        assert turn.after.operation == move.operation != turn.before.operation


@PROPERTY
@given(WALKS)
def test_a_transition_is_applied_to_the_version_it_was_decided_on_and_to_no_other(walk: Walk) -> None:
    for turn, move in walk.moves:
        with pytest.raises(StaleJobError):
            apply(turn.after, move)


@PROPERTY
@given(WALKS)
def test_the_identity_of_a_job_stays(walk: Walk) -> None:
    names = ("id", "object", "organization_id", "endpoint", "created_at", "metadata", "max_attempts", "ttl", "held")
    for turn in walk.turns:
        assert [getattr(turn.after, name) for name in names] == [getattr(walk.first, name) for name in names]
        assert (turn.after.request == walk.first.request) is (turn.after.cleanup_started_at is None)


@PROPERTY
@given(WALKS)
def test_no_later_event_has_an_earlier_time_whatever_the_clock_does(walk: Walk) -> None:
    for turn, move in walk.moves:
        happened = [time for name in MOMENTS if (time := getattr(turn.before, name)) is not None]
        assert move.at == turn.after.updated_at == max(turn.now, turn.before.updated_at)
        assert move.at >= max([turn.before.created_at, *happened])
        for name in MOMENTS:
            time = getattr(turn.after, name)
            assert time in (None, getattr(turn.before, name), move.at)
            assert time is None or time <= turn.after.updated_at


@PROPERTY
@given(WALKS)
def test_the_lease_of_an_attempt_never_gets_shorter(walk: Walk) -> None:
    for turn, _ in walk.moves:
        old, new = turn.before.lease, turn.after.lease
        if old is not None and new is not None:
            assert new.token == old.token
            assert (old.expires_at is None) is (new.expires_at is None)
            assert (new.expires_at or 0) >= (old.expires_at or 0)


@PROPERTY
@given(WALKS)
def test_attempts_are_the_accepted_starts(walk: Walk) -> None:
    starts = 0
    for turn in walk.turns:
        starts += turn.event is Event.START and isinstance(turn.decision, Accepted)
        assert turn.after.attempt_count == starts >= turn.before.attempt_count
        if turn.after.status is P:
            assert turn.after.lease is not None


@PROPERTY
@given(WALKS)
def test_no_path_exceeds_the_budget(walk: Walk) -> None:
    """Counted here by hand: starts since the last retry, less those that were given back."""
    used = spared = 0
    for turn, _ in walk.moves:
        used = 0 if turn.event is Event.RETRY else used + (turn.event is Event.START) - (turn.event is Event.GIVE_BACK)
        spared = 0 if turn.event is Event.RETRY else spared + (turn.event is Event.GIVE_BACK)
        assert turn.after.attempts_used == used
        assert 0 <= used <= walk.policy.max_attempts
        assert turn.after.give_backs == spared <= walk.policy.max_give_backs


@PROPERTY
@given(WALKS)
def test_each_run_is_started_at_most_once(walk: Walk) -> None:
    runs = [turn.before.run for turn, _ in walk.moves if turn.event is Event.START]
    assert sorted(set(runs)) == runs
    for turn, _ in walk.moves:
        opens = turn.after.status is Q and turn.before.status is not Q
        assert turn.after.run == turn.before.run + opens


@PROPERTY
@given(WALKS)
def test_a_fenced_token_changes_nothing(walk: Walk) -> None:
    for turn, _ in walk.moves:
        if turn.event in (Event.HEARTBEAT, Event.COMPLETE, Event.FAIL, Event.RELEASE, Event.GIVE_BACK):
            assert turn.before.lease is not None
            assert turn.facts.get("token") == turn.before.lease.token


@PROPERTY
@given(WALKS)
def test_every_job_on_the_way_comes_back_from_json_as_it_was(walk: Walk) -> None:
    for job in [walk.first, *(turn.after for turn in walk.turns)]:
        assert type(job).model_validate_json(job.model_dump_json()) == job
        assert type(job).model_validate(job.__dict__) == job


@PROPERTY
@given(WALKS)
def test_the_error_of_a_refusal_comes_back_from_a_pickle_as_it_was(walk: Walk) -> None:
    for _, refused in walk.refusals:
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
def test_an_explanation_is_in_the_words_of_the_answer(walk: Walk) -> None:
    for turn in walk.turns:
        words = explain(turn.before, turn.event, turn.now, policy=walk.policy, **turn.facts)
        answer = turn.decision.error() if isinstance(turn.decision, Refused) else turn.decision
        assert words == str(answer)


@PROPERTY
@given(WALKS)
def test_what_a_refusal_calls_legal_is_what_is_allowed_and_would_be_accepted(walk: Walk) -> None:
    for turn, refused in walk.refusals:
        assert refused.legal == allowed_events(turn.before, turn.now, policy=walk.policy)
        accepted = [
            event for event in Event if explain(turn.before, event, turn.now, policy=walk.policy).count(" is accepted:")
        ]
        assert set(accepted) <= set(refused.legal)
        assert all((turn.before.status, target) in EDGES[event] for event in accepted for target in JobStatus) or True


@PROPERTY
@given(WALKS)
def test_waiting_as_long_as_a_refusal_says_removes_its_obstacle_and_no_shorter(walk: Walk) -> None:
    for turn, refused in walk.refusals:
        end = refused.wait_until
        if end is None or (turn.event, refused.status) == (Event.RETRY, C):
            continue
        assert end > max(turn.now, turn.before.updated_at)
        early = decide(turn.before, turn.event, end - 1, policy=walk.policy, **turn.facts)
        assert isinstance(early, Refused)
        then = decide(turn.before, turn.event, end, policy=walk.policy, **turn.facts)
        assert isinstance(then, Accepted) or (isinstance(then, Refused) and then.code != refused.code)


@PROPERTY
@given(WALKS)
def test_a_completed_job_is_retried_after_the_wait_that_its_refusal_speaks_of(walk: Walk) -> None:
    for turn, refused in walk.refusals:
        if (turn.event, refused.status) == (Event.RETRY, C) and turn.before.run >= 1:
            assert refused.wait_until is not None
            at = max(turn.now, refused.wait_until)
            expired = decide(turn.before, Event.EXPIRE, at, policy=walk.policy)
            assert isinstance(expired, Accepted)
            assert isinstance(decide(apply(turn.before, expired), Event.RETRY, at, policy=walk.policy, **turn.facts), Accepted)


@PROPERTY
@given(WALKS)
def test_the_history_gives_the_job_back(walk: Walk) -> None:
    records = [creation_record(walk.first), *(record for _, move in walk.moves if (record := move.record) is not None)]
    told, job = replay(records), walk.last
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

    @settings(PROPERTY, max_examples=1_000)
    @given(WALKS)
    def collect(walk: Walk) -> None:
        edges.update((turn.event, move.source, move.target) for turn, move in walk.moves)
        answers.update((turn.event, type(turn.decision)) for turn in walk.turns)

    collect()
    assert {(event, *edge) for event in Event for edge in EDGES[event]} - edges == set()
    repeats = (Event.START, Event.HEARTBEAT, Event.COMPLETE, Event.FAIL, Event.RETRY)
    expected: set[tuple[Event, type[Decision]]] = {(event, Already) for event in repeats}
    expected |= {(event, kind) for event in Event for kind in (Accepted, Refused)}
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
