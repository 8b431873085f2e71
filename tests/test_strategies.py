"""The strategies: every drawn job is one that the lifecycle reaches, and what is found is small."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Any, assert_type

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from pydantic import BaseModel, Field, ValidationError

from jobstate import Accepted, Already, Endpoint, Event, Job, JobStatus, Policy, apply, decide
from jobstate.lifecycle import TABLE
from jobstate.testing.history import JobHistory
from jobstate.testing.strategies import BEGIN, events, histories, jobs, policies
from jobstate.testing.table_coverage import TableCoverage

DRAWN = settings(max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
FIRST = settings(DRAWN, max_examples=10, phases=[Phase.generate])
PLAIN = st.just(Policy())

V, Q, P = JobStatus.VALIDATING, JobStatus.QUEUED, JobStatus.IN_PROGRESS
C, F, X, E = JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED


class Extract(BaseModel):
    text: str
    pages: Annotated[int, Field(ge=1, le=9)]


class Extracted(BaseModel):
    words: int


class Endpoints(StrEnum):
    EXTRACT = "/v1/documents/extract"
    PARSE = "/v1/documents/parse"


class OurJob(Job[Extract, Extracted], frozen=True):
    endpoint: Endpoints


EXTRACT = Endpoint("/v1/documents/extract", request=Extract, response=Extracted)


# What a history is


@DRAWN
@given(histories(asides=True))
def test_a_history_is_what_decide_answers_step_by_step(history: JobHistory[Job]) -> None:
    job = history.first
    for step in history.steps:
        assert step.before == job
        operation = step.decision.operation if isinstance(step.decision, Accepted) else ""
        asked = step.asked
        decision = decide(job, asked.event, asked.now, policy=history.policy, operation=operation, **asked.facts)
        assert decision == step.decision
        job = apply(job, decision) if isinstance(decision, Accepted) else job
        assert step.after == job
    assert history.job == job


@DRAWN
@given(histories())
def test_every_step_of_a_legal_history_is_accepted(history: JobHistory[Job]) -> None:
    assert len(history.accepted) == len(history.steps)
    assert history.refusal is None
    assert history.first.version == 1
    assert history.job.version == 1 + len(history.steps)


@DRAWN
@given(histories(refused=True))
def test_an_illegal_history_ends_with_its_only_refusal(history: JobHistory[Job]) -> None:
    *legal, last = history.steps
    assert all(isinstance(step.decision, Accepted) for step in legal)
    assert history.refusal is last.decision
    assert last.after is last.before


@pytest.mark.parametrize("status", JobStatus)
def test_a_job_of_a_wanted_status_has_it(status: JobStatus) -> None:
    @settings(DRAWN, max_examples=10)
    @given(jobs(status=status), histories(status={status, E}, refused=True))
    def check(job: Job, history: JobHistory[Job]) -> None:
        assert job.status is status
        assert history.job.status in {status, E}

    check()


@DRAWN
@given(jobs())
def test_a_drawn_job_is_valid(job: Job) -> None:
    assert Job.model_validate(job.__dict__) == job
    assert Job.model_validate_json(job.model_dump_json()) == job


@DRAWN
@given(st.data())
def test_events_of_a_status_have_a_row_there(data: st.DataObject) -> None:
    status = data.draw(st.sampled_from(JobStatus))
    assert (data.draw(events(status)), status) in TABLE


def test_histories_reach_every_row_of_the_table_and_every_status() -> None:
    """In one run of Hypothesis: what is never drawn is never tested."""
    declared = {(row.event, row.source, row.target) for group in TABLE.values() for row in group}
    repeatable = {Event.START, Event.HEARTBEAT, Event.COMPLETE, Event.FAIL, Event.RETRY}
    rows: set[tuple[Event, JobStatus, JobStatus]] = set()
    repeated: set[Event] = set()

    def all_seen(history: JobHistory[Job]) -> bool:
        rows.update((move.event, move.source, move.target) for move in history.accepted)
        repeated.update(step.asked.event for step in history.steps if isinstance(step.decision, Already))
        return declared <= rows and repeatable <= repeated

    with suppress(NoSuchExample):
        find(histories(asides=True).map(all_seen), bool, settings=settings(DRAWN, max_examples=800, phases=[Phase.generate]))
    assert declared - rows == set()
    assert repeated == repeatable


def test_default_jobs_are_of_every_kind_in_a_few_hundred_draws() -> None:
    met: Counter[str] = Counter()

    @settings(DRAWN, max_examples=300, phases=[Phase.generate])
    @given(jobs())
    def draw(job: Job) -> None:
        met[job.status] += 1
        met[f"{job.status} again"] += job.run >= 2
        met["response artifacts"] += bool(job.response_artifacts)
        met["worker_lost"] += job.error is not None and job.error.code == "worker_lost"
        met["cleaned"] += job.cleanup_completed_at is not None

    draw()
    few = {status.value: met[status] for status in JobStatus if not 15 <= met[status] <= 75}
    assert few == {}, "each about as often: 300 are 43 for each"
    wanted = ["completed again", "failed again", "cancelled again", "response artifacts", "worker_lost", "cleaned"]
    assert [what for what in wanted if not met[what]] == []


def test_what_is_decided_to_draw_a_history_does_not_count_as_tested() -> None:
    coverage = TableCoverage()
    coverage.start()
    try:

        @settings(DRAWN, max_examples=10)
        @given(histories(asides=True, refused=True))
        def draw(history: JobHistory[Job]) -> None:
            assert coverage.seen == set()

        draw()
        decide(find(jobs(), lambda job: True, settings=DRAWN), Event.CANCEL, BEGIN)
        assert {item.event for item in coverage.seen} == {"cancel"}
    finally:
        coverage.stop()


# What is found is small


def told(history: JobHistory[Job]) -> list[str]:
    return [repr(step) for step in history.steps]


SMALLEST: list[tuple[str, Callable[[JobHistory[Job]], bool], list[str]]] = [
    ("in progress", lambda history: history.job.status is P, ["start at 1000000: in_progress"]),
    ("cancelled", lambda history: history.job.status is X, ["cancel at 1000000: cancelled"]),
    (
        "completed",
        lambda history: history.job.status is C,
        ["start at 1000000: in_progress", "complete at 1000000: completed"],
    ),
    (
        "two attempts",
        lambda history: history.job.attempt_count == 2,
        ["start at 1000000: in_progress", "give_back at 1000000: queued", "start at 1000000: in_progress"],
    ),
    ("late", lambda history: history.job.updated_at > BEGIN, ["start at 1000001: in_progress"]),
]


@pytest.mark.parametrize(
    ("wanted", "smallest"), [(wanted, steps) for _, wanted, steps in SMALLEST], ids=[n for n, *_ in SMALLEST]
)
def test_what_is_found_shrinks_to_few_steps_at_round_times(
    wanted: Callable[[JobHistory[Job]], bool], smallest: list[str]
) -> None:
    found = find(histories(policy=PLAIN), wanted, settings=settings(DRAWN, max_examples=1_000))
    assert told(found) == smallest
    assert found.first.id == "job_" + "0" * 21
    assert (found.first.organization_id, found.first.metadata, found.first.request) == ("org_a", {}, {})


def test_the_smallest_policy_is_plain() -> None:
    policy = find(policies(), lambda policy: True, settings=DRAWN)
    assert (policy.ttl.total_seconds(), policy.max_attempts, policy.keep_for) == (1_000, 1, None)


# The host's types


@DRAWN
@given(histories(EXTRACT))
def test_an_endpoint_draws_its_own_models(history: JobHistory[Job[Extract, Extracted]]) -> None:
    assert type(history.job) is EXTRACT.job_type
    for step in history.steps:
        assert step.after.endpoint == EXTRACT.name
        if step.after.request is not None:
            assert_type(step.after.request, Extract)
            assert 1 <= step.after.request.pages <= 9
        if step.after.response is not None:
            assert_type(step.after.response.body, Extracted)
            assert isinstance(step.after.response.body, Extracted)


@DRAWN
@given(jobs(OurJob, status=C))
def test_a_subclass_of_a_narrowed_job_draws_its_own_endpoints(job: OurJob) -> None:
    assert type(job) is OurJob
    assert isinstance(job.endpoint, Endpoints)
    assert isinstance(job.request, Extract)
    assert job.response is not None
    assert isinstance(job.response.body, Extracted)


MINE = jobs(
    Job[Extract, Extracted], request=st.just(Extract(text="a", pages=2)), response=st.just(Extracted(words=7)), status=C
)


@DRAWN
@given(MINE)
def test_a_host_may_draw_payloads_itself(job: Job[Extract, Extracted]) -> None:
    assert job.request == Extract(text="a", pages=2)
    assert job.response is not None
    assert job.response.body == Extracted(words=7)


# What cannot be drawn is told at the call


@pytest.mark.parametrize(
    ("kind", "drawing", "error", "says"),
    [
        (Job, {"statuses": F}, TypeError, "statuses: .* known are policy, request, response, status"),
        (Job, {"status": "finished"}, ValueError, "status: 'finished' is none; there are validating, queued, in_progress"),
        (Job, {"status": [F, "finished"]}, ValueError, "status: 'finished' is none"),
        (Job, {"status": None}, ValueError, "status: None is none"),
        (Job, {"status": []}, ValueError, "leave status out for any"),
        (int, {}, TypeError, "kind: <class 'int'> is neither Job, nor a subclass of it, nor an Endpoint"),
        ("/v1/a", {}, TypeError, "kind: '/v1/a' is neither"),
        (Job, {"policy": Policy()}, TypeError, r"policy: expected a strategy, .* hypothesis.strategies.just\(\.\.\.\)"),
        (OurJob, {"request": Extract(text="a", pages=1)}, TypeError, "request: expected a strategy, and it is Extract"),
        (OurJob, {"response": 1}, TypeError, "response: expected a strategy, and it is 1"),
    ],
)
def test_a_bad_argument_is_told_at_the_call(kind: Any, drawing: dict[str, Any], error: type[Exception], says: str) -> None:
    for strategy in (jobs, histories):
        with pytest.raises(error, match=says):
            strategy(kind, **drawing)


def test_a_status_may_be_a_word() -> None:
    assert find(jobs(status="completed"), lambda job: True, settings=FIRST).status is C
    assert find(jobs(status=["failed"]), lambda job: True, settings=FIRST).status is F
    assert find(events("queued"), lambda event: True, settings=FIRST) is find(events(Q), lambda event: True, settings=FIRST)
    with pytest.raises(ValueError, match="status: 'finished' is none"):
        events("finished")


def test_a_drawn_response_is_validated_as_a_request_is() -> None:
    job = find(jobs(EXTRACT, status=C, response=st.just({"words": 7})), lambda job: True, settings=FIRST)
    assert job.response is not None
    assert job.response.body == Extracted(words=7)
    many: st.SearchStrategy[Any] = st.just({"pages": "many", "words": "many"})
    for wrong in (jobs(EXTRACT, request=many), jobs(EXTRACT, status=C, response=many)):
        with pytest.raises(ValidationError):
            find(wrong, lambda job: True, settings=FIRST)
