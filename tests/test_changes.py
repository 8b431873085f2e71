"""What an accepted event writes: for each row exactly the fields that the design names, with the values it gives them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, NamedTuple

import pytest

from jobstate import Event, Job, JobStatus, JobWarning, Policy, apply, decide
from jobstate.lifecycle import MACHINE, Accepted
from jobstate.lifecycle.decision import NEEDS
from jobstate.model import Lease
from tests.filled import AT, TOKEN, T, facts_for, filled_job

POLICY = Policy(backoff=timedelta(seconds=8), backoff_jitter=0, cleanup_after=timedelta(seconds=100))


def _keeping(seconds: int) -> Policy:
    return Policy(backoff=timedelta(seconds=8), keep_for=timedelta(seconds=seconds))


V, Q, P = JobStatus.VALIDATING, JobStatus.QUEUED, JobStatus.IN_PROGRESS
C, F, X, E = JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED

PENDING = "task_name dispatched_at dispatch_count"
REQUEUED = f"run available_at {PENDING} started_at progress lease"
FAILED = "error completed_at last_failure_code"
RETRIED = (
    "error response response_artifacts result_digest warnings progress started_at completed_at dispatch_delayed_at "
    f"available_at lease {PENDING} cancelled give_backs expires_at retried_at retry_key attempt_base run"
)
LATE = T + 100_000
"""A time after the filled job's expiry, the end of its lease, and the day of its clean-up."""


class Case(NamedTuple):
    event: Event
    source: JobStatus
    target: JobStatus
    writes: str
    """What the design's table names, in a filled job; every write's own fields come on top."""
    at: int = AT
    fields: dict[str, Any] = {}  # never changed
    keeps_longer: bool = False
    """Whether `Policy.keep_for` moves `expires_at`."""


_SPENT = {"attempt_count": 11}
_NO_RESULT = {"result_digest": None}
_UNCANCELLED = {"cancelled": False}

CASES: Final = (
    Case(Event.ACCEPT, V, Q, f"run {PENDING}"),
    Case(Event.REJECT, V, F, FAILED, keeps_longer=True),
    Case(Event.DISPATCHED, Q, Q, PENDING),
    Case(Event.DISPATCHED, P, P, PENDING),
    Case(Event.DELAYED, Q, Q, "dispatch_delayed_at", fields={"dispatched_at": None}),
    Case(Event.START, Q, P, "attempt_count started_at last_attempt_at lease"),
    Case(Event.HEARTBEAT, P, P, "lease progress warnings", fields=_NO_RESULT),
    Case(Event.COMPLETE, P, C, "response response_artifacts result_digest warnings completed_at", keeps_longer=True),
    Case(Event.FAIL, P, F, f"{FAILED} result_digest warnings", keeps_longer=True),
    Case(Event.RELEASE, P, Q, f"{REQUEUED} last_failure_code"),
    Case(Event.GIVE_BACK, P, Q, f"{REQUEUED} attempt_base give_backs"),
    Case(Event.RESCUE, P, Q, f"{REQUEUED} last_failure_code", LATE),
    Case(Event.RESCUE, P, F, FAILED, T + 1_300, _SPENT, keeps_longer=True),
    Case(Event.CANCEL, V, X, "cancelled completed_at", fields=_UNCANCELLED, keeps_longer=True),
    Case(Event.CANCEL, Q, X, "cancelled completed_at", fields=_UNCANCELLED, keeps_longer=True),
    Case(Event.CANCEL, P, X, "cancelled completed_at", fields=_UNCANCELLED, keeps_longer=True),
    Case(Event.RETRY, F, Q, RETRIED),
    Case(Event.RETRY, X, Q, RETRIED),
    Case(Event.RETRY, E, Q, RETRIED, LATE),
    Case(Event.EXPIRE, V, E, "", LATE),
    Case(Event.EXPIRE, Q, E, "", LATE),
    Case(Event.EXPIRE, P, E, "", LATE),
    Case(Event.EXPIRE, C, E, "", LATE),
    Case(Event.EXPIRE, F, E, "", LATE),
    Case(Event.EXPIRE, X, E, "", LATE),
    Case(Event.BEGIN_CLEANUP, E, E, "cleanup_started_at request response", LATE),
    Case(Event.END_CLEANUP, E, E, "cleanup_completed_at request_artifacts response_artifacts", LATE, {"cleanup_started_at": T}),
)
EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.event}-{case.source}-{case.target}")
ENDINGS = pytest.mark.parametrize(
    "case", [case for case in CASES if case.keeps_longer], ids=lambda case: f"{case.event}-{case.source}"
)
_OPTIONAL: Final = {
    Event.HEARTBEAT: ("progress", "warnings"),
    Event.COMPLETE: ("response_artifacts", "warnings"),
    Event.FAIL: ("warnings",),
    Event.RETRY: ("retry_key",),
}


def _move(case: Case, policy: Policy = POLICY, **fields: Any) -> tuple[Job, Job, Accepted]:
    job = filled_job(case.source, **{**case.fields, **fields})
    facts = facts_for(*NEEDS.get(case.event, ()), *_OPTIONAL.get(case.event, ()))
    decision = decide(job, case.event, case.at, policy=policy, operation="op-now", **facts)
    assert isinstance(decision, Accepted), str(decision)
    return job, apply(job, decision), decision


def _differing(before: Job, after: Job) -> set[str]:
    return {name for name in Job.model_fields if getattr(before, name) != getattr(after, name)}


@EACH
def test_an_accepted_event_changes_exactly_the_fields_of_its_row(case: Case) -> None:
    before, after, decision = _move(case)
    expected = {*case.writes.split(), "version", "operation", "updated_at"}
    if case.source is not case.target:
        expected.add("status")
    assert _differing(before, after) == expected
    assert (decision.source, decision.target, after.status) == (case.source, case.target, case.target)
    assert (after.version, after.operation, after.updated_at) == (10, "op-now", case.at)


def test_every_row_of_the_table_has_its_list_of_fields() -> None:
    rows = [
        (name, source, str(rule.dest))
        for name, event in MACHINE.events.items()
        for source, rules in event.transitions.items()
        for rule in rules
    ]
    assert sorted(rows) == sorted((case.event.value, case.source.name, case.target.name) for case in CASES)


@EACH
def test_a_payload_that_an_event_does_not_change_is_the_same_object_afterwards(case: Case) -> None:
    before, after, _ = _move(case)
    for name in {"request", "response"} - set(case.writes.split()):
        assert getattr(after, name) is getattr(before, name)


@ENDINGS
def test_an_ending_keeps_the_job_at_least_as_long_as_the_policy_says(case: Case) -> None:
    _, after, _ = _move(case, _keeping(90_000))
    assert after.expires_at == case.at + 90_000


@ENDINGS
def test_an_ending_never_shortens_what_the_ttl_gave(case: Case) -> None:
    before, after, _ = _move(case, _keeping(60))
    assert after.expires_at == before.expires_at


@ENDINGS
def test_without_keep_for_no_ending_moves_the_expiry_however_late_it_is(case: Case) -> None:
    before, after, _ = _move(case, expires_at=case.at - 7)
    assert after.expires_at == before.expires_at


def _after(event: Event, source: JobStatus, target: JobStatus, policy: Policy = POLICY, **fields: Any) -> Job:
    case = next(case for case in CASES if (case.event, case.source, case.target) == (event, source, target))
    return _move(case, policy, **fields)[1]


def test_accept_queues_the_first_run_and_leaves_its_dispatch_pending() -> None:
    job = _after(Event.ACCEPT, V, Q, run=0)
    assert (job.run, job.dispatch_pending, job.dispatch_count) == (1, True, 0)


def test_dispatched_counts_and_names_the_task() -> None:
    job = _after(Event.DISPATCHED, Q, Q)
    assert (job.task_name, job.dispatched_at, job.dispatch_count) == ("task-now", AT, 3)


def test_delayed_notes_when_the_caller_was_told() -> None:
    assert _after(Event.DELAYED, Q, Q).dispatch_delayed_at == AT


def test_start_counts_one_attempt_and_mints_a_lease() -> None:
    job = _after(Event.START, Q, P)
    assert (job.attempt_count, job.attempt_base, job.started_at, job.last_attempt_at) == (8, 5, AT, AT)
    assert job.lease == Lease(token=TOKEN, expires_at=AT + 300)


def test_a_lease_of_a_policy_without_one_has_no_end() -> None:
    assert _after(Event.START, Q, P, Policy(lease=None)).lease == Lease(token=TOKEN, expires_at=None)


@pytest.mark.parametrize(("end", "expected"), [(AT + 299, AT + 300), (AT + 301, AT + 301), (None, None)])
def test_a_heartbeat_moves_the_end_of_the_lease_forward_only(end: int | None, expected: int | None) -> None:
    job = _after(Event.HEARTBEAT, P, P, lease=Lease(token=TOKEN, expires_at=end))
    assert job.lease == Lease(token=TOKEN, expires_at=expected)


def test_a_heartbeat_tells_progress_and_adds_its_warnings_to_the_others() -> None:
    job = _after(Event.HEARTBEAT, P, P)
    assert job.progress == 0.75
    assert [warning.code for warning in job.warnings or ()] == ["warning_before", "warning_now"]


def test_a_heartbeat_without_news_changes_the_lease_only() -> None:
    job = filled_job(P, result_digest=None)
    decision = decide(job, Event.HEARTBEAT, AT, token=TOKEN)
    assert isinstance(decision, Accepted)
    assert _differing(job, apply(job, decision)) == {"lease", "version", "operation", "updated_at"}


@pytest.mark.parametrize(("event", "target"), [(Event.COMPLETE, C), (Event.FAIL, F)])
def test_a_result_brings_its_digest_and_keeps_the_lease_that_brought_it(event: Event, target: JobStatus) -> None:
    job = _after(event, P, target)
    assert (job.result_digest, job.completed_at) == ("result-now", AT)
    assert job.lease == filled_job(P).lease
    assert [warning.code for warning in job.warnings or ()] == ["warning_before", "warning_now"]


def test_complete_shows_the_response_and_its_artifacts() -> None:
    job = _after(Event.COMPLETE, P, C)
    assert job.response is not None
    assert job.response.body == {"pages": 3}
    assert [artifact.name for artifact in job.response_artifacts or ()] == ["out-now"]


@pytest.mark.parametrize(("event", "source"), [(Event.FAIL, P), (Event.REJECT, V)])
def test_a_failure_shows_its_error_and_remembers_its_code(event: Event, source: JobStatus) -> None:
    job = _after(event, source, F)
    assert job.error is not None
    assert (job.error.code, job.last_failure_code, job.completed_at) == ("error_now", "error_now", AT)


@pytest.mark.parametrize(("used", "pause"), [(1, 8), (2, 16), (3, 32)])
def test_release_opens_another_run_after_a_pause_that_doubles(used: int, pause: int) -> None:
    job = _after(Event.RELEASE, P, Q, attempt_count=5 + used)
    assert (job.run, job.available_at, job.last_failure_code) == (5, AT + pause, "failure_now")
    assert (job.dispatch_pending, job.dispatch_count, job.started_at, job.lease) == (True, 0, None, None)
    assert (job.attempt_count, job.attempts_used, job.progress) == (5 + used, used, None)


def test_a_job_that_is_given_back_is_ready_at_once_and_its_budget_is_spared() -> None:
    job = _after(Event.GIVE_BACK, P, Q)
    assert (job.run, job.available_at, job.give_backs) == (5, None, 2)
    assert (job.attempt_count, job.attempts_used) == (7, filled_job(P).attempts_used - 1)


def test_giving_back_is_no_failure() -> None:
    assert _after(Event.GIVE_BACK, P, Q).last_failure_code == "failure_before"


def test_a_rescue_opens_another_run_and_says_that_the_worker_was_lost() -> None:
    job = _after(Event.RESCUE, P, Q)
    assert (job.run, job.available_at, job.last_failure_code) == (5, LATE + 16, "worker_lost")
    assert (job.attempt_count, job.attempt_base, job.give_backs) == (7, 5, 1)


def test_a_rescue_without_attempts_left_fails_the_job_and_claims_no_result_of_its_worker() -> None:
    job = _after(Event.RESCUE, P, F, result_digest=None)
    assert job.error is not None
    assert (job.error.code, job.last_failure_code, job.result_digest) == ("worker_lost", "worker_lost", None)


def test_cancel_raises_the_flag_and_keeps_the_lease() -> None:
    job = _after(Event.CANCEL, P, X)
    assert (job.cancelled, job.completed_at, job.lease) == (True, AT, filled_job(P).lease)


def test_expiry_leaves_everything_as_it_was() -> None:
    before, after = filled_job(P), _after(Event.EXPIRE, P, E)
    assert (after.lease, after.completed_at, after.response) == (before.lease, before.completed_at, before.response)


def test_clean_up_drops_payloads_first_and_artifact_lists_last() -> None:
    begun = _after(Event.BEGIN_CLEANUP, E, E)
    assert (begun.cleanup_started_at, begun.request, begun.response) == (LATE, None, None)
    assert begun.request_artifacts
    assert begun.response_artifacts
    ended = _after(Event.END_CLEANUP, E, E)
    assert (ended.cleanup_completed_at, ended.request_artifacts, ended.response_artifacts) == (LATE, None, None)


@pytest.mark.parametrize(("lease", "grace"), [(timedelta(seconds=300), 310), (None, 10)])
def test_clean_up_ends_a_lease_and_the_margin_after_it_began(lease: timedelta | None, grace: int) -> None:
    policy = Policy(lease=lease, clock_skew=timedelta(seconds=10))
    job = filled_job(E, cleanup_started_at=T + 60)
    assert not isinstance(decide(job, Event.END_CLEANUP, T + 60 + grace - 1, policy=policy), Accepted)
    assert isinstance(decide(job, Event.END_CLEANUP, T + 60 + grace, policy=policy), Accepted)


@EACH
def test_only_heartbeats_and_dispatch_marks_leave_no_record(case: Case) -> None:
    _, after, decision = _move(case)
    if case.event in (Event.HEARTBEAT, Event.DISPATCHED):
        assert decision.record is None
        return
    assert decision.record is not None
    assert (decision.record.version, decision.record.at, decision.record.attempt) == (10, case.at, after.attempt_count)
    assert not {"request", "response"} & set(decision.record.changes)


def test_a_warning_is_not_lost_when_the_job_had_none() -> None:
    job = _after(Event.COMPLETE, P, C, warnings=None)
    assert job.warnings == (JobWarning(code="warning_now", message="now"),)


def test_a_policy_that_was_copied_with_other_durations_uses_them() -> None:
    _ = _after(Event.CANCEL, Q, X, POLICY), _after(Event.START, Q, P, POLICY)
    copied = POLICY.model_copy(update={"lease": timedelta(seconds=77), "keep_for": timedelta(seconds=90_000)})
    assert _after(Event.START, Q, P, copied).lease == Lease(token=TOKEN, expires_at=AT + 77)
    assert _after(Event.CANCEL, Q, X, copied).expires_at == AT + 90_000
