"""The edges of what is asked from outside the table: forgetting, and what an answer carries."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobstate import Event, JobStatus, Policy, allowed_events, decide, explain
from jobstate.lifecycle import Accepted, Already, Refused, may_be_forgotten
from tests.filled import AT, TOKEN, T, facts_for, filled_job

ENDED = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)
KEEPS = Policy(forget_after=timedelta(seconds=90))
CLEANED = filled_job(JobStatus.EXPIRED, cleanup_started_at=T + 70, cleanup_completed_at=T + 80, updated_at=T + 80)


@pytest.mark.parametrize(("now", "may"), [(T + 169, False), (T + 170, True), (T + 171, True)])
def test_a_cleaned_row_is_forgotten_when_its_time_has_passed_and_not_before(now: int, may: bool) -> None:
    assert may_be_forgotten(CLEANED, now, KEEPS) is may


def test_a_row_is_never_forgotten_without_a_time_for_it_or_before_its_clean_up_has_ended() -> None:
    assert not may_be_forgotten(CLEANED, AT, Policy())
    assert not may_be_forgotten(filled_job(JobStatus.EXPIRED, cleanup_started_at=T + 70), AT, KEEPS)


def test_a_clock_that_was_stepped_back_delays_no_forgetting() -> None:
    late = filled_job(JobStatus.EXPIRED, cleanup_started_at=T + 70, cleanup_completed_at=T + 80, updated_at=T + 170)
    assert may_be_forgotten(late, T, KEEPS)


@pytest.mark.parametrize("status", ENDED)
def test_the_lease_that_an_ended_job_kept_holds_up_no_expiry(status: JobStatus) -> None:
    job = filled_job(status, expires_at=AT)
    assert job.lease is not None
    assert job.lease.expires_at is not None
    assert job.lease.expires_at > AT
    assert isinstance(decide(job, Event.EXPIRE, AT), Accepted)


@pytest.mark.parametrize("progress", [0, 1, 0.5])
def test_progress_may_be_a_whole_number(progress: float) -> None:
    job = filled_job(JobStatus.IN_PROGRESS, result_digest=None)
    answer = decide(job, Event.HEARTBEAT, AT, token=TOKEN, progress=progress)
    assert isinstance(answer, Accepted)
    assert answer.changes["progress"] == progress


def test_what_is_too_early_to_expire_is_told_when_it_may() -> None:
    job = filled_job(JobStatus.QUEUED, expires_at=AT + 1)
    answer = decide(job, Event.EXPIRE, AT)
    assert isinstance(answer, Refused)
    assert (answer.code, answer.words, answer.wait_until) == ("not_due", f"it expires at {AT + 1}, now is {AT}", AT + 1)
    assert isinstance(decide(job, Event.EXPIRE, AT + 1), Accepted)


def test_a_repeat_says_of_which_job_event_and_status_it_is() -> None:
    job = filled_job(JobStatus.COMPLETED)
    answer = decide(job, Event.HEARTBEAT, AT, **facts_for("token"))
    assert answer == Already(job.id, Event.HEARTBEAT, JobStatus.COMPLETED, "this attempt ended the job")


def test_the_record_of_a_transition_tells_it_whole() -> None:
    job = filled_job(JobStatus.IN_PROGRESS)
    facts = facts_for("token", "response", "digest")
    decision = decide(job, Event.COMPLETE, AT, operation="op-now", actor="someone", reason="because", **facts)
    assert isinstance(decision, Accepted)
    assert decision.record is not None
    assert decision.record.model_dump() == {
        "job_id": job.id,
        "version": 10,
        "event": "complete",
        "source": "in_progress",
        "target": "completed",
        "at": AT,
        "attempt": 7,
        "operation": "op-now",
        "actor": "someone",
        "reason": "because",
        "changes": {
            "response_artifacts": None,
            "result_digest": "result-now",
            "warnings": [{"code": "warning_before", "message": "before", "details": None}],
            "completed_at": AT,
            "expires_at": T + 5_020,
            "status": "completed",
            "version": 10,
            "operation": "op-now",
            "updated_at": AT,
        },
    }


@pytest.mark.parametrize("now", [1.5, True, "1", None, -1])
def test_what_is_allowed_is_asked_with_whole_seconds(now: object) -> None:
    with pytest.raises(TypeError, match=r"^now: whole Unix seconds \(int, not negative\) are needed, not "):
        allowed_events(filled_job(JobStatus.QUEUED), now)  # type: ignore[arg-type]


def test_an_explanation_is_asked_with_an_event_and_whole_seconds_too() -> None:
    job = filled_job(JobStatus.QUEUED)
    with pytest.raises(TypeError, match=r"^now: whole Unix seconds"):
        explain(job, Event.START, -1)
    with pytest.raises(TypeError, match=r"^event: a jobstate.Event is needed, not 'start'"):
        explain(job, "start", AT)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^start: run must be int, not str$"):
        explain(job, Event.START, AT, run="4")  # type: ignore[arg-type]


def test_what_is_allowed_depends_on_the_later_of_the_clock_and_the_last_write() -> None:
    job = filled_job(JobStatus.QUEUED, expires_at=T + 60)
    assert allowed_events(job, 0) == (Event.DISPATCHED, Event.CANCEL, Event.EXPIRE)
    assert Event.START in allowed_events(filled_job(JobStatus.QUEUED), 0)
