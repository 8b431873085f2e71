"""What the core says, whole: each guard, each illegal event, each repeat, and each input that is refused, with its figures."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, NamedTuple, cast

import pytest

from jobstate import Event, InvalidInputError, Job, JobStatus, Policy, StaleJobError, apply, decide, explain
from jobstate.lifecycle import TABLE, Accepted, Draft, Refused, creation_record, foresee, mark_created, new_job, replay
from jobstate.lifecycle.decision import NEEDS
from jobstate.lifecycle.guards import CODES, NO_ONLY_IN
from jobstate.model import Lease, evolve
from tests.filled import AT, TOKEN, T, facts_for, filled_job
from tests.support import NOW, a_job

V, Q, P = JobStatus.VALIDATING, JobStatus.QUEUED, JobStatus.IN_PROGRESS
C, F, X, E = JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED

_NO_HELP = "waiting does not help; legal now:"
_QUEUED = "dispatched, start, cancel"
_RUNNING = "dispatched, heartbeat, complete, fail, release, give_back, cancel"
_FRESH: Final[dict[str, Any]] = {"retried_at": None, "retry_key": None}


class Case(NamedTuple):
    event: Event
    status: JobStatus
    fields: dict[str, Any]
    facts: dict[str, Any]
    words: str


REFUSED = [
    Case(Event.START, Q, {}, {"run": 3}, f"[run_over]: run 3 was named, the job is in run 4; {_NO_HELP} {_QUEUED}"),
    Case(Event.START, Q, {}, {"run": 5}, f"[run_not_reached]: run 5 was named, the job is in run 4; {_NO_HELP} {_QUEUED}"),
    Case(
        Event.DELAYED,
        Q,
        {"dispatched_at": T + 3},
        {},
        f"[already_dispatched]: run 4 was dispatched at 1000003; {_NO_HELP} {_QUEUED}",
    ),
    Case(
        Event.START,
        Q,
        {"available_at": AT + 5},
        {},
        "[not_available]: it is available from 1001005 on, now is 1001000; it may be accepted from 1001005 on; "
        "legal now: dispatched, cancel",
    ),
    Case(
        Event.START,
        Q,
        {"expires_at": AT},
        {},
        f"[expired]: it expired at 1001000, now is 1001000; {_NO_HELP} dispatched, cancel, expire",
    ),
    Case(
        Event.START,
        Q,
        {"attempt_count": 11},
        {},
        f"[no_attempts_left]: 6 of 6 attempts are used; {_NO_HELP} dispatched, cancel",
    ),
    Case(
        Event.GIVE_BACK,
        P,
        {"give_backs": 100},
        {},
        "[no_give_backs_left]: it was given back 100 times, at most 100 are free; "
        f"{_NO_HELP} dispatched, heartbeat, complete, fail, release, cancel",
    ),
    Case(
        Event.HEARTBEAT,
        P,
        {},
        {"token": "other"},
        f"[lease_lost]: the lease belongs to another attempt, or to none; {_NO_HELP} {_RUNNING}",
    ),
    Case(
        Event.RESCUE,
        P,
        {"lease": Lease(token=TOKEN, expires_at=None)},
        {},
        f"[lease_without_end]: the lease has no end, so nobody can say that its worker is lost; {_NO_HELP} {_RUNNING}",
    ),
    Case(
        Event.RESCUE,
        P,
        {},
        {},
        "[lease_live]: the lease is live until 1001210 (margin included), now is 1001000; it may be accepted from 1001210 on; "
        f"legal now: {_RUNNING}",
    ),
    Case(
        Event.EXPIRE,
        P,
        {"expires_at": AT},
        {},
        "[lease_live]: it is in progress under a lease that is live until 1001210, now is 1001000; "
        f"it may be accepted from 1001210 on; legal now: {_RUNNING}",
    ),
    Case(
        Event.EXPIRE,
        Q,
        {},
        {},
        f"[not_due]: it expires at 1005020, now is 1001000; it may be accepted from 1005020 on; legal now: {_QUEUED}",
    ),
    Case(
        Event.RETRY,
        F,
        {"run": 0, **_FRESH},
        {},
        f"[never_accepted]: it never was in the queue (run 0): create a new job; {_NO_HELP} nothing",
    ),
    Case(
        Event.RETRY,
        E,
        {"cleanup_started_at": T + 60},
        {},
        f"[cleaned_up]: clean-up began at 1000060 and took its request: create a new job; {_NO_HELP} end_cleanup",
    ),
    Case(
        Event.BEGIN_CLEANUP,
        E,
        {},
        {},
        "[not_due]: clean-up is due at 1091420, now is 1001000; it may be accepted from 1091420 on; legal now: retry",
    ),
    Case(Event.END_CLEANUP, E, {}, {}, f"[cleanup_not_begun]: clean-up has not begun; {_NO_HELP} retry"),
    Case(
        Event.END_CLEANUP,
        E,
        {"cleanup_started_at": AT},
        {},
        "[not_due]: a late attempt may still write until 1001310, now is 1001000; it may be accepted from 1001310 on; "
        "legal now: nothing",
    ),
    Case(
        Event.END_CLEANUP,
        E,
        {"cleanup_started_at": T, "cleanup_completed_at": AT},
        {},
        f"[cleaned_up]: clean-up ended at 1001000; {_NO_HELP} nothing",
    ),
    Case(
        Event.COMPLETE,
        C,
        {},
        {},
        f"[already_finished]: this attempt ended the job before: it is completed; {_NO_HELP} nothing",
    ),
    Case(
        Event.COMPLETE,
        X,
        {"result_digest": None},
        {},
        f"[lease_lost]: the attempt is over: the job is cancelled; {_NO_HELP} retry",
    ),
    Case(Event.CANCEL, X, {}, {}, f"[already_cancelled]: it was cancelled at 1000050; {_NO_HELP} retry"),
    Case(
        Event.START,
        P,
        {},
        {"token": "other"},
        f"[already_started]: another attempt of run 4 began at 1000041; {_NO_HELP} {_RUNNING}",
    ),
    Case(
        Event.RETRY,
        C,
        _FRESH,
        {},
        "[illegal_transition]: a completed job is retried once it has expired, at 1005020; "
        "it may be accepted from 1005020 on; legal now: nothing",
    ),
    Case(Event.ACCEPT, Q, {}, {}, f"[illegal_transition]: accept is possible from validating; {_NO_HELP} {_QUEUED}"),
    Case(
        Event.CANCEL,
        F,
        {},
        {},
        f"[illegal_transition]: cancel is possible from validating, queued, in_progress; {_NO_HELP} retry",
    ),
]
ALREADY = [
    Case(Event.START, P, {}, {}, "attempt 7 began at 1000041 under this token"),
    Case(Event.COMPLETE, C, {}, {"digest": "result-before"}, "this attempt brought the same result at 1000050"),
    Case(Event.HEARTBEAT, C, {}, {}, "this attempt ended the job"),
    Case(Event.RETRY, F, {}, {"retry_key": "key-before"}, "retry_key 'key-before' was accepted before"),
    Case(Event.RETRY, P, {}, {}, "it was retried at 1000020 and is active"),
    Case(
        Event.RETRY,
        F,
        {"dispatch_delayed_at": AT - 9},
        {},
        "it was retried at 1000020, and its caller was told at 1000991 that dispatch is delayed",
    ),
]


def _said(case: Case) -> tuple[str, str]:
    """What is said of the job, and how that begins."""
    facts: Any = {**facts_for(*NEEDS.get(case.event, ())), **case.facts}
    decision = decide(filled_job(case.status, **case.fields), case.event, AT, **facts)
    return str(decision), f"{case.event} of {decision.job_id} ({case.status})"


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case.event}-{case.words.split(']')[0][1:]}")
def test_a_refusal_says_why_with_its_figures_what_is_legal_and_whether_waiting_helps(case: Case) -> None:
    said, begins = _said(case)
    assert said == f"{begins} is refused {case.words}"


def test_the_codes_of_every_guard_are_listed_and_are_said_above() -> None:
    assert set(CODES) == {guard for rows in TABLE.values() for row in rows for guard in row.guards}
    assert {guard.__name__: " ".join(codes) for guard, codes in CODES.items()} == {
        "lease_is_own": "lease_lost",
        "lease_is_over": "lease_without_end lease_live",
        "lease_is_not_live": "lease_live",
        "run_is_current": "run_over run_not_reached",
        "not_dispatched": "already_dispatched",
        "available": "not_available",
        "not_expired": "expired",
        "attempts_left": "no_attempts_left",
        "give_backs_left": "no_give_backs_left",
        "accepted_once": "never_accepted",
        "cleanup_not_begun": "cleaned_up",
        "expiry_reached": "not_due",
        "cleanup_is_due": "not_due",
        "cleanup_may_end": "cleanup_not_begun cleaned_up not_due",
    }
    assert {code for codes in CODES.values() for code in codes} <= {case.words.split("]")[0][1:] for case in REFUSED}
    assert {guard.__name__: statuses for guard, statuses in NO_ONLY_IN.items()} == {"lease_is_not_live": {P}}


@pytest.mark.parametrize("case", ALREADY, ids=lambda case: case.words[:30])
def test_a_repeat_says_when_it_was_done(case: Case) -> None:
    said, begins = _said(case)
    assert said == f"{begins} was done already: {case.words}"


def test_an_accepted_event_says_what_becomes_of_the_job() -> None:
    assert _said(Case(Event.CANCEL, Q, {}, {}, ""))[0] == f"cancel of job_{'B' * 21} (queued) is accepted: it becomes cancelled"


@pytest.mark.parametrize("event", Event)
def test_an_explanation_is_what_is_decided_on_right_facts(event: Event) -> None:
    """One's own token, the present run; a start brings a token of its own."""
    for status in JobStatus:
        job = filled_job(status, result_digest=None)
        facts: Any = facts_for(*NEEDS.get(event, ()))
        if event is Event.START:
            facts["token"] = "new"
        assert explain(job, event, AT) == str(decide(job, event, AT, **facts))


@pytest.mark.parametrize("event", Event)
def test_what_is_foreseen_on_given_facts_is_what_is_decided_on_them(event: Event) -> None:
    facts: Any = facts_for(*NEEDS.get(event, ()))
    for status in JobStatus:
        job = filled_job(status, result_digest=None)
        assert foresee(job, event, AT, **facts) == decide(job, event, AT, **facts)


def test_the_error_of_a_refusal_carries_its_parts() -> None:
    refusal = decide(filled_job(Q, available_at=AT + 5), Event.START, AT, token="new", run=4)
    assert isinstance(refusal, Refused)
    assert vars(refusal.error()) == {
        "job_id": "job_" + "B" * 21,
        "code": "not_available",
        "event": "start",
        "status": "queued",
        "reason": "it is available from 1001005 on, now is 1001000",
        "legal": ("dispatched", "cancel"),
        "wait_until": AT + 5,
    }


def test_a_transition_of_another_job_or_version_is_not_applied_and_says_which_it_is_of() -> None:
    job = filled_job(Q)
    transition = decide(job, Event.CANCEL, AT)
    assert isinstance(transition, Accepted)
    assert (transition.operation, transition.actor, transition.reason) == ("", None, None)
    for other in (evolve(job, {"id": "job_" + "C" * 21}), evolve(job, {"version": 10})):
        with pytest.raises(StaleJobError) as caught:
            apply(other, transition)
        assert (caught.value.job_id, caught.value.version) == (job.id, 9)


# What comes in


def _new(**fields: Any) -> Job:
    values: dict[str, Any] = {"organization_id": "org_a", "endpoint": "/x", "request": {}, **fields}
    draft = Draft(**values)
    return new_job(draft, job_id="job_" + "A" * 21, now=NOW, operation="op_1", policy=Policy())


_TTL = "ttl: a timedelta of whole seconds, more than 0 and at most 36600 days, is needed, not"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"organization_id": None}, "organization_id: a job belongs to an organization: pass it, or use for_organization(...)"),
        ({"ttl": timedelta(0)}, f"{_TTL} datetime.timedelta(0)"),
        ({"ttl": timedelta(seconds=0.5)}, f"{_TTL} datetime.timedelta(microseconds=500000)"),
        ({"ttl": timedelta(days=36_600, seconds=1)}, f"{_TTL} datetime.timedelta(days=36600, seconds=1)"),
        ({"ttl": 60}, f"{_TTL} 60"),
    ],
)
def test_a_bad_draft_is_refused_with_its_field_and_its_limit(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        _new(**fields)
    assert str(caught.value) == words


@pytest.mark.parametrize("ttl", [timedelta(seconds=1), timedelta(days=36_600)])
def test_the_shortest_and_the_longest_ttl_are_taken(ttl: timedelta) -> None:
    job = _new(ttl=ttl)
    assert (job.ttl, job.expires_at) == (ttl.total_seconds(), NOW + ttl.total_seconds())


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"progress": 1.01}, "progress: a number from 0 to 1 is needed, not 1.01"),
        ({"progress": -0.01}, "progress: a number from 0 to 1 is needed, not -0.01"),
        ({"retry_key": ""}, "retry_key: 1 to 255 characters are allowed, not 0"),
        ({"retry_key": "k" * 256}, "retry_key: 1 to 255 characters are allowed, not 256"),
    ],
)
def test_a_fact_beyond_its_limit_is_refused_with_it(facts: Any, words: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        decide(a_job(), Event.CANCEL, NOW, **facts)
    assert str(caught.value) == words


@pytest.mark.parametrize("facts", [{"progress": 0}, {"progress": 1}, {"retry_key": "k"}, {"retry_key": "k" * 255}])
def test_a_fact_at_its_limit_is_taken(facts: Any) -> None:
    assert decide(a_job(), Event.CANCEL, NOW, **facts)


@pytest.mark.parametrize(
    ("fact", "words"),
    [
        ("token", "str"),
        ("run", "int"),
        ("task_name", "str"),
        ("response", "JobResponse"),
        ("response_artifacts", "tuple or NoneType"),
        ("error", "JobError"),
        ("digest", "str"),
        ("failure_code", "str"),
        ("progress", "float or int"),
        ("warnings", "tuple"),
        ("retry_key", "str or NoneType"),
        ("past_retry_keys", "frozenset"),
    ],
)
def test_a_fact_of_a_wrong_type_is_refused_with_the_right_ones(fact: str, words: str) -> None:
    with pytest.raises(TypeError) as caught:
        decide(a_job(), Event.CANCEL, NOW, **cast("Any", {fact: {1}}))
    assert str(caught.value) == f"cancel: {fact} must be {words}, not set"


@pytest.mark.parametrize(
    ("event", "needs"),
    [
        (Event.REJECT, "error"),
        (Event.DISPATCHED, "run, task_name"),
        (Event.DELAYED, "run"),
        (Event.START, "token, run"),
        (Event.HEARTBEAT, "token"),
        (Event.COMPLETE, "token, response, digest"),
        (Event.FAIL, "token, error, digest"),
        (Event.RELEASE, "token, failure_code"),
        (Event.GIVE_BACK, "token"),
    ],
)
def test_an_event_names_the_fact_that_is_missing(event: Event, needs: str) -> None:
    for missing in needs.split(", "):
        facts: Any = {name: value for name, value in facts_for(*needs.split(", ")).items() if name != missing}
        with pytest.raises(TypeError) as caught:
            decide(a_job(), event, NOW, **facts)
        assert str(caught.value) == f"{event} needs {needs}: {missing} is missing"


@pytest.mark.parametrize("event", [event for event in Event if event not in NEEDS])
def test_the_other_events_need_no_fact(event: Event) -> None:
    assert decide(a_job(), event, NOW)


def test_a_fact_that_there_is_not_is_refused_with_all_that_there_are() -> None:
    known = (
        "token, run, task_name, response, response_artifacts, error, digest, failure_code, progress, warnings, "
        "retry_key, past_retry_keys"
    )
    with pytest.raises(TypeError) as caught:
        decide(a_job(), Event.CANCEL, NOW, **cast("Any", {"tokn": "x"}))
    assert str(caught.value) == f"cancel: there is no fact 'tokn'; known are {known}"


# The first record


def test_the_first_record_tells_the_whole_job_but_its_payloads() -> None:
    job = mark_created(_new(idempotency_key="k"), "task-1")
    assert (job.task_name, job.dispatched_at, job.dispatch_count) == ("task-1", NOW, 1)
    record = creation_record(job, "someone", "because")
    told = record.model_dump()
    changes = told.pop("changes")
    assert told == {
        "job_id": job.id,
        "version": 1,
        "event": "created",
        "source": None,
        "target": Q,
        "at": NOW,
        "attempt": 0,
        "operation": "op_1",
        "actor": "someone",
        "reason": "because",
    }
    assert set(changes) == set(Job.model_fields) - {"request", "response"}


def test_a_history_that_does_not_join_is_refused_with_the_place() -> None:
    job = a_job()
    first = creation_record(job)
    for records in ([], [first.model_copy(update={"event": "start"})]):
        with pytest.raises(ValueError, match=r"^a history begins with its creation$"):
            replay(records)
    broken = first.model_copy(update={"event": "complete", "source": P, "version": 2})
    with pytest.raises(ValueError, match=r"^version 2: complete from in_progress, but the job was queued$"):
        replay([first, broken])
