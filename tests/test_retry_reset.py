"""A retry resets exactly the design's list, keeps exactly the rest, and happens once for each time it is meant."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import pytest

from jobstate import Event, GuardRefusedError, IllegalTransitionError, Job, JobStatus, Policy, apply, decide
from jobstate.lifecycle import Accepted, Already, Facts, Refused
from tests.filled import AT, TOKEN, T, facts_for, filled_job

RETRYABLE: Final = (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED)

RESET: Final[dict[str, Any]] = {
    "status": JobStatus.QUEUED,
    "error": None,
    "response": None,
    "response_artifacts": None,
    "result_digest": None,
    "warnings": None,
    "progress": None,
    "started_at": None,
    "completed_at": None,
    "task_name": None,
    "dispatched_at": None,
    "dispatch_delayed_at": None,
    "available_at": None,
    "lease": None,
    "cancelled": False,
    "dispatch_count": 0,
    "give_backs": 0,
    "expires_at": AT + 5_000,
    "retried_at": AT,
    "retry_key": "key-now",
    "attempt_base": 7,
    "run": 5,
    "version": 10,
    "operation": "op-now",
    "updated_at": AT,
}
"""What a filled job has after a retry: at AT, with a ttl of 5000 seconds, after 7 attempts, in run 4, at version 9."""

KEPT: Final = (
    *("id", "object", "endpoint", "organization_id", "request", "request_artifacts", "request_digest", "metadata"),
    *("idempotency_key", "trace_context", "held", "created_at", "ttl", "max_attempts"),
    *("attempt_count", "last_attempt_at", "last_failure_code", "cleanup_started_at", "cleanup_completed_at"),
)


def _retried(job: Job, at: int = AT, key: str | None = "key-now", policy: Policy | None = None) -> Job:
    decision = decide(job, Event.RETRY, at, policy=policy or Policy(), operation="op-now", retry_key=key)
    assert isinstance(decision, Accepted), str(decision)
    return apply(job, decision)


def _answer(job: Job, at: int = AT, **facts: Any) -> Accepted | Already | Refused:
    return decide(job, Event.RETRY, at, **facts)


def _moved(job: Job, event: Event, at: int, *names: str, policy: Policy | None = None, **facts: Any) -> Job:
    known: dict[str, Any] = {**facts_for(*names), **facts}
    decision = decide(job, event, at, policy=policy or Policy(), **known)
    assert isinstance(decision, Accepted), str(decision)
    return apply(job, decision)


# Reset, or kept


def test_every_field_is_either_reset_or_kept() -> None:
    assert set(RESET) | set(KEPT) == set(Job.model_fields)
    assert not set(RESET) & set(KEPT)


@pytest.mark.parametrize("status", RETRYABLE)
@pytest.mark.parametrize("name", RESET)
def test_a_retry_resets(name: str, status: JobStatus) -> None:
    before = filled_job(status)
    assert getattr(before, name) != RESET[name], "a field that has its new value before proves nothing"
    assert getattr(_retried(before), name) == RESET[name]


@pytest.mark.parametrize("status", RETRYABLE)
@pytest.mark.parametrize("name", KEPT)
def test_a_retry_keeps(name: str, status: JobStatus) -> None:
    before = filled_job(status)
    assert getattr(_retried(before), name) == getattr(before, name)


@pytest.mark.parametrize(
    "name", [name for name in KEPT if name not in ("object", "cleanup_started_at", "cleanup_completed_at")]
)
def test_what_is_kept_was_no_default(name: str) -> None:
    field = Job.model_fields[name]
    if not field.is_required():
        assert getattr(filled_job(JobStatus.FAILED), name) != field.get_default(call_default_factory=True)


@pytest.mark.parametrize("status", RETRYABLE)
def test_a_retry_without_a_key_forgets_the_key_of_the_one_before(status: JobStatus) -> None:
    assert _retried(filled_job(status), key=None).retry_key is None


@pytest.mark.parametrize("status", RETRYABLE)
def test_a_retry_opens_a_fresh_budget_and_counts_no_attempt(status: JobStatus) -> None:
    spent = filled_job(status, attempt_count=11)
    job = _retried(spent)
    assert (spent.attempts_used, job.attempts_used, job.attempt_count) == (6, 0, 11)


@pytest.mark.parametrize("status", RETRYABLE)
def test_a_retried_job_waits_for_its_dispatch_and_may_start_at_once(status: JobStatus) -> None:
    job = _retried(filled_job(status))
    assert job.dispatch_pending
    assert job.is_available(AT)
    started = _moved(job, Event.START, AT, token="token-new", run=5)
    assert (started.attempt_count, started.attempts_used) == (8, 1)


def test_a_retried_job_has_its_own_ttl_whatever_the_policy_says_now() -> None:
    job = _retried(filled_job(JobStatus.FAILED), policy=Policy(ttl=timedelta(seconds=9), keep_for=timedelta(days=900)))
    assert job.expires_at == AT + 5_000


def test_nothing_of_an_earlier_delay_is_left_to_explain_a_later_retry_away() -> None:
    job = _moved(_retried(filled_job(JobStatus.FAILED), key=None), Event.CANCEL, AT + 1)
    assert isinstance(_answer(job, AT + 2), Accepted)


# Once


def test_a_second_retry_while_the_first_is_active_is_done_already() -> None:
    queued = _retried(filled_job(JobStatus.FAILED), key=None)
    running = _moved(queued, Event.START, AT + 1, token="token-new", run=5)
    released = _moved(running, Event.RELEASE, AT + 2, "failure_code", token="token-new")
    started = _moved(released, Event.START, AT + 5_000 - 1, token="token-3", run=6)
    rescued = _moved(started, Event.RESCUE, AT + 9_000)
    for active in (queued, running, released, started, rescued):
        assert isinstance(_answer(active, AT + 9_001), Already)
        assert active.retried_at == AT
    assert [job.run for job in (queued, running, released, started, rescued)] == [5, 5, 6, 6, 7]


def test_an_active_job_that_was_never_retried_refuses_a_retry() -> None:
    for status in (JobStatus.QUEUED, JobStatus.IN_PROGRESS):
        answer = _answer(filled_job(status, retried_at=None, retry_key=None))
        assert isinstance(answer, Refused)
        assert answer.code == "illegal_transition"


def test_a_new_key_on_an_active_retry_is_another_retry_and_is_refused() -> None:
    answer = _answer(_retried(filled_job(JobStatus.FAILED)), retry_key="key-other")
    assert isinstance(answer, Refused)
    assert type(answer.error()) is IllegalTransitionError


@pytest.mark.parametrize("status", [status for status in JobStatus if status is not JobStatus.VALIDATING])
def test_the_key_of_a_retry_finds_it_in_every_status(status: JobStatus) -> None:
    job = filled_job(status)
    assert isinstance(_answer(job, AT + 10_000_000, retry_key="key-before"), Already)
    assert isinstance(_answer(job, retry_key="key-first", past_retry_keys=frozenset({"key-first"})), Already)


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED])
@pytest.mark.parametrize(("later", "found"), [(0, True), (45, True), (46, False), (100_000, False)])
def test_a_client_that_was_told_of_a_delay_finds_its_retry_for_as_long_as_the_window(
    status: JobStatus, later: int, found: bool
) -> None:
    job = filled_job(status, dispatch_delayed_at=AT, retry_key=None, updated_at=AT)
    answer = decide(job, Event.RETRY, AT + later, policy=Policy(resend_window=timedelta(seconds=45)))
    assert isinstance(answer, Already) is found


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED])
def test_a_delay_of_the_creation_hides_no_retry(status: JobStatus) -> None:
    job = filled_job(status, dispatch_delayed_at=AT, retried_at=None, retry_key=None, updated_at=AT)
    assert not isinstance(_answer(job), Already)


def test_a_delay_that_was_told_does_not_cover_an_expired_job() -> None:
    job = filled_job(JobStatus.EXPIRED, dispatch_delayed_at=AT, retry_key=None, updated_at=AT)
    assert isinstance(_answer(job), Accepted)


# Refused


def test_a_completed_job_refuses_a_retry_and_takes_one_once_it_has_expired() -> None:
    completed = filled_job(JobStatus.COMPLETED)
    refusal = _answer(completed)
    assert isinstance(refusal, Refused)
    assert (refusal.code, refusal.wait_until) == ("illegal_transition", completed.expires_at)
    expired = _moved(completed, Event.EXPIRE, completed.expires_at)
    assert expired.response is not None, "a retry must have something to reset"
    retried = _retried(expired, completed.expires_at)
    assert (retried.status, retried.response, retried.request) == (JobStatus.QUEUED, None, completed.request)


@pytest.mark.parametrize("status", RETRYABLE)
def test_a_job_that_was_never_accepted_has_nothing_to_run_again(status: JobStatus) -> None:
    answer = _answer(filled_job(status, run=0, retried_at=None, retry_key=None))
    assert isinstance(answer, Refused)
    assert (answer.code, answer.wait_until) == ("never_accepted", None)
    assert type(answer.error()) is GuardRefusedError


def test_once_accepted_is_enough() -> None:
    assert isinstance(_answer(filled_job(JobStatus.FAILED, run=1)), Accepted)


@pytest.mark.parametrize("ended", [None, AT])
def test_an_expired_job_is_not_retried_once_its_clean_up_has_begun(ended: int | None) -> None:
    answer = _answer(filled_job(JobStatus.EXPIRED, cleanup_started_at=T + 60, cleanup_completed_at=ended))
    assert isinstance(answer, Refused)
    assert (answer.code, answer.wait_until) == ("cleaned_up", None)


def test_an_expired_job_is_retried_however_long_ago_it_expired_as_long_as_its_clean_up_has_not_begun() -> None:
    assert isinstance(_answer(filled_job(JobStatus.EXPIRED), AT + 100_000_000), Accepted)


def test_the_worker_of_the_run_before_is_fenced_out_by_a_retry() -> None:
    job = _retried(filled_job(JobStatus.FAILED))
    running = _moved(job, Event.START, AT, token="token-new", run=5)
    for event in (Event.HEARTBEAT, Event.COMPLETE, Event.FAIL, Event.RELEASE, Event.GIVE_BACK):
        facts: Facts = {**facts_for("response", "error", "failure_code"), "token": TOKEN, "digest": "result-before"}
        for present in (job, running):
            answer = decide(present, event, AT, **facts)
            assert isinstance(answer, Refused)
            assert answer.code == "lease_lost"
