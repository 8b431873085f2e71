"""Traces and metrics through OpenTelemetry's own SDK: what is exported is what happened, and a failure of it breaks nothing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event as Flag
from time import perf_counter
from typing import Any, cast

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import messaging_attributes as conventions  # pyright: ignore[reportMissingTypeStubs]
from opentelemetry.semconv._incubating.metrics.messaging_metrics import MESSAGING_PROCESS_DURATION  # pyright: ignore[reportMissingTypeStubs]
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import text

from jobstate import (
    AsyncContext,
    AsyncJobs,
    Context,
    IllegalTransitionError,
    Job,
    JobFailed,
    Jobs,
    LeaseLostError,
    Policy,
    async_run_job,
    run_job,
)
from jobstate.adapters.opentelemetry import OpenTelemetryObserver, current_trace_context, observe_counts
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.memory import AsyncMemoryRepository, MemoryRepository
from jobstate.testing import ManualClock
from tests.sql import sqlite_engine
from tests.support import NOW, ORG, BrokenDispatcher, Faulty, World, a_job
from tests.test_observe import busy, done, listened, run

ROOT = Path(__file__).parent.parent
PATH = "/v1/words"


@dataclass
class Eyes:
    """What was exported."""

    tracers: TracerProvider = field(default_factory=lambda: TracerProvider(shutdown_on_exit=False))
    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)

    def __post_init__(self) -> None:
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.observer = OpenTelemetryObserver(self.tracers, self.meters)
        self.tracer = self.tracers.get_tracer("host")

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def span(self, name: str) -> ReadableSpan:
        (span,) = self.spans(name)
        return span

    def metrics(self) -> dict[str, Any]:
        """The metrics of one collection, by their names."""
        data: Any = self.reader.get_metrics_data()
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, name: str) -> list[Any]:
        metrics = self.metrics()
        return list(metrics[name].data.data_points) if name in metrics else []

    def counted(self, name: str) -> dict[tuple[Any, ...], Any]:
        """The values of a counter or a gauge by the values of its attributes, by their names."""
        return {tuple(value for _, value in sorted(point.attributes.items())): point.value for point in self.points(name)}


@pytest.fixture
def eyes() -> Iterator[Eyes]:
    made = Eyes()
    yield made
    made.tracers.shutdown()
    made.meters.shutdown()


@pytest.fixture
def jobs(world: World, eyes: Eyes) -> Jobs:
    return listened(world, eyes.observer)


def create(jobs: Jobs, **options: Any) -> Job:
    return jobs.create(PATH, {}, organization_id=ORG, **options)


def traced(jobs: Jobs, eyes: Eyes, **options: Any) -> Job:
    """A job that was created within a span of the host's."""
    with eyes.tracer.start_as_current_span("POST /jobs"):
        return create(jobs, trace_context=current_trace_context(), **options)


def ids(span: ReadableSpan) -> tuple[str, str]:
    found = span.get_span_context()
    assert found is not None
    return trace.format_trace_id(found.trace_id), trace.format_span_id(found.span_id)


def cancelled_meanwhile(world: World, job: Job) -> Callable[[Any, Any], str]:
    """A handler whose job is cancelled while it runs."""

    def handler(request: Any, context: Any) -> str:
        return world.others.cancel(job.id).id

    return handler


def parent(span: ReadableSpan) -> str | None:
    return None if span.parent is None else trace.format_span_id(span.parent.span_id)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


# Traces


def test_a_job_that_fails_and_completes_in_another_process_is_one_trace(tmp_path: Path, eyes: Eyes) -> None:
    engine = sqlite_engine(tmp_path)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    jobs = Jobs(repository, policy=Policy(max_attempts=2), clock=ManualClock(NOW), observers=[eyes.observer])
    job = traced(jobs, eyes)
    run_job(jobs, job.delivery, busy)
    engine.dispose()
    command = [sys.executable, "-W", "error", "-m", "tests.tracing_worker", str(tmp_path / "jobs.sqlite")]
    arguments = [str(NOW + 3600), job.id, "2"]
    other = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert other.returncode == 0, other.stderr
    theirs = {span["name"]: span for span in map(json.loads, other.stdout.splitlines())}

    origin, first, second = eyes.span("POST /jobs"), eyes.span(f"process {PATH}"), theirs[f"process {PATH}"]
    traces = {ids(origin)[0], ids(eyes.span(f"create {PATH}"))[0], ids(first)[0], second["context"]["trace_id"][2:]}
    assert len(traces) == 1
    parents = [parent(eyes.span(f"create {PATH}")), parent(first), second["parent_id"][2:]]
    assert parents == [ids(origin)[1]] * 3
    assert theirs["jobstate.complete"]["parent_id"] == second["context"]["span_id"]
    assert [link["context"] for link in second["links"]] == [theirs["receive"]["context"]]
    assert [second["attributes"][f"jobstate.{name}"] for name in ("attempt", "run", "outcome")] == [2, 2, "complete"]
    assert (second["status"]["status_code"], second["kind"]) == ("UNSET", "SpanKind.CONSUMER")


def test_spans_of_a_creation_and_an_attempt_have_the_attributes_of_the_conventions(
    world: World, jobs: Jobs, eyes: Eyes
) -> None:
    job = traced(jobs, eyes)
    run(world, jobs, world.take(), busy)
    made, failed = eyes.span(f"create {PATH}"), eyes.span(f"process {PATH}")
    common = {
        conventions.MESSAGING_SYSTEM: "jobstate",
        conventions.MESSAGING_DESTINATION_NAME: PATH,
        conventions.MESSAGING_MESSAGE_ID: job.id,
        "jobstate.job.id": job.id,
    }
    operation = conventions.MESSAGING_OPERATION_NAME, conventions.MESSAGING_OPERATION_TYPE
    types = conventions.MessagingOperationTypeValues
    assert attributes(made) == {**common, **dict.fromkeys(operation, types.CREATE.value)}
    assert attributes(failed) == {
        **common,
        **dict.fromkeys(operation, types.PROCESS.value),
        "jobstate.attempt": 1,
        "jobstate.run": 1,
        "jobstate.outcome": "release",
        ERROR_TYPE: "busy",
    }
    assert (made.kind, failed.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert (made.status.status_code, failed.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert parent(eyes.span("jobstate.fail")) == ids(failed)[1]


def test_each_operation_on_one_job_has_a_span_with_its_id(world: World, jobs: Jobs, eyes: Eyes) -> None:
    job = create(jobs)
    run(world, jobs, world.take(), done)
    with pytest.raises(IllegalTransitionError):
        jobs.cancel(job.id)
    for name in ("start", "complete", "cancel"):
        assert attributes(eyes.span(f"jobstate.{name}"))["jobstate.job.id"] == job.id
    refused = eyes.span("jobstate.cancel")
    assert (refused.status.status_code, attributes(refused)[ERROR_TYPE]) == (StatusCode.ERROR, "illegal_transition")


def test_an_operation_on_many_jobs_has_a_span_with_no_id(world: World, jobs: Jobs, eyes: Eyes) -> None:
    job = create(jobs)
    jobs.cancel_many(ids=[job.id])
    world.clock.advance(timedelta(days=8))
    jobs.sweep()
    assert [attributes(eyes.span(f"jobstate.{name}")) for name in ("cancel_many", "sweep")] == [{}, {}]


def test_no_word_of_an_error_is_exported(world: World, jobs: Jobs, eyes: Eyes) -> None:
    world.repository.fail("insert", RuntimeError("a user's secret"))
    with pytest.raises(RuntimeError, match="secret"):
        create(jobs)

    def handler(request: Any, context: Any) -> None:
        raise JobFailed("bad", "a user's secret")

    def leaving(request: Any, context: Any) -> None:
        raise SystemExit("a user's secret")

    create(jobs)
    run(world, jobs, world.take(), handler)
    create(jobs)
    with pytest.raises(SystemExit, match="secret"):
        run(world, jobs, world.take(), leaving)
    with pytest.raises(RuntimeError), eyes.observer.attempt(a_job(endpoint="/other"), 1):  # a worker lets none through
        raise RuntimeError("a user's secret")
    assert attributes(eyes.span("jobstate.create")) == {ERROR_TYPE: "builtins.RuntimeError"}
    assert eyes.span("jobstate.create").status.status_code is StatusCode.ERROR
    assert [attributes(span)["jobstate.outcome"] for span in eyes.spans(f"process {PATH}")] == ["fail", "give_back"]
    assert "secret" not in "".join(span.to_json() for span in eyes.exporter.get_finished_spans())


def test_a_job_without_a_trace_is_a_child_of_what_is_active_where_it_runs(eyes: Eyes) -> None:
    jobs = Jobs(MemoryRepository(), clock=ManualClock(NOW), observers=[eyes.observer])
    assert current_trace_context() == {}
    run_job(jobs, create(jobs, trace_context=current_trace_context()).delivery, done)
    with eyes.tracer.start_as_current_span("receive"):
        run_job(jobs, create(jobs, trace_context={"traceparent": "no such thing"}).delivery, done)
    first, second = eyes.spans(f"process {PATH}")
    assert (parent(first), parent(second)) == (None, ids(eyes.span("receive"))[1])
    assert (first.links, second.links) == ((), ())


def test_attempts_that_run_at_once_in_one_event_loop_have_their_own_spans(eyes: Eyes) -> None:
    jobs = AsyncJobs(AsyncMemoryRepository(), clock=ManualClock(NOW), observers=[eyes.observer])
    codes: list[str] = []

    async def main() -> None:
        both = asyncio.Barrier(2)

        async def handler(request: Any, context: AsyncContext) -> None:
            await both.wait()
            await context.heartbeat()
            codes.append(context.job.id)
            await both.wait()
            raise JobFailed(context.job.id, "words")

        made = [await jobs.create(PATH, {}, organization_id=ORG) for _ in range(2)]
        await asyncio.gather(*(async_run_job(jobs, job.delivery, handler) for job in made))

    asyncio.run(main())
    attempts = {ids(span)[1]: attributes(span) for span in eyes.spans(f"process {PATH}")}
    assert {found[ERROR_TYPE] for found in attempts.values()} == {*codes}
    for name in ("jobstate.heartbeat", "jobstate.fail"):
        told = eyes.spans(name)
        assert {parent(span) for span in told} == attempts.keys()
        assert all(attempts[str(parent(span))][ERROR_TYPE] == attributes(span)["jobstate.job.id"] for span in told)


def test_baggage_comes_to_the_handler_and_ends_with_it(world: World, jobs: Jobs, eyes: Eyes) -> None:
    token = context.attach(baggage.set_baggage("plan", "gold"))
    traced(jobs, eyes)
    context.detach(token)
    found: list[object] = []

    def handler(request: Any, context: Any) -> None:
        found.append(baggage.get_baggage("plan"))

    run(world, jobs, world.take(), handler)
    assert (found, baggage.get_baggage("plan")) == (["gold"], None)


class Heard(SpanProcessor):
    """Set when a heartbeat's span ended."""

    def __init__(self) -> None:
        self.beat = Flag()

    def on_end(self, span: ReadableSpan) -> None:
        if span.name == "jobstate.heartbeat":
            self.beat.set()


def test_a_heartbeat_in_the_background_belongs_to_its_attempt(eyes: Eyes) -> None:
    heard, beat = Heard(), Policy(lease=timedelta(seconds=1))
    eyes.tracers.add_span_processor(heard)
    jobs = Jobs(MemoryRepository(), policy=beat, clock=ManualClock(NOW), observers=[eyes.observer])
    run_job(jobs, traced(jobs, eyes).delivery, lambda request, context: heard.beat.wait(60))
    attempt = eyes.span(f"process {PATH}")
    assert {parent(span) for span in eyes.spans("jobstate.heartbeat")} == {ids(attempt)[1]}


def test_an_attempt_that_lost_its_lease_has_failed(world: World, jobs: Jobs, eyes: Eyes) -> None:
    job = create(jobs)
    run(world, jobs, world.take(), cancelled_meanwhile(world, job))
    lost = eyes.span(f"process {PATH}")
    assert (attributes(lost)["jobstate.outcome"], attributes(lost)[ERROR_TYPE]) == ("lost", "lease_lost")
    assert lost.status.status_code is StatusCode.ERROR


def test_what_a_handler_does_to_another_job_is_not_how_its_own_attempt_ends(eyes: Eyes) -> None:
    jobs = Jobs(MemoryRepository(), clock=ManualClock(NOW), observers=[eyes.observer])
    job, other = create(jobs), create(jobs)

    def handler(request: Any, context: Context) -> str:
        attempt = jobs.start(other.delivery)
        jobs.cancel(other.id)
        with pytest.raises(LeaseLostError):
            attempt.fail(JobFailed("bad", "words").error)
        return "done"

    run_job(jobs, job.delivery, handler)
    assert (attributes(eyes.span(f"process {PATH}"))["jobstate.outcome"]) == "complete"
    assert ERROR_TYPE not in attributes(eyes.span(f"process {PATH}"))


# Metrics


def test_transitions_refusals_and_deliveries_are_counted_exactly(world: World, jobs: Jobs, eyes: Eyes) -> None:
    jobs.cancel(create(jobs, validating=True).id)
    job = create(jobs)
    delivery = world.take()
    for _ in range(3):
        run(world, jobs, delivery, done)
    with pytest.raises(IllegalTransitionError):
        jobs.cancel(job.id)
    assert eyes.counted("jobstate.transitions") == {
        ("created", "validating"): 1,
        ("cancel", "cancelled"): 1,
        ("created", "queued"): 1,
        ("dispatched", "queued"): 1,
        ("start", "in_progress"): 1,
        ("complete", "completed"): 1,
    }
    assert eyes.counted("jobstate.refusals") == {("illegal_transition", "start"): 2, ("illegal_transition", "cancel"): 1}
    assert eyes.counted("jobstate.deliveries") == {("completed",): 1, ("dropped", "illegal_transition"): 2}


def test_sweeps_are_counted_by_kind_and_by_what_they_moved(world: World, jobs: Jobs, eyes: Eyes) -> None:
    for _ in range(2):
        create(jobs)
    world.clock.advance(timedelta(days=7))
    world.repository.by_row = True
    world.repository.fail("save_many", RuntimeError("down"))
    assert jobs.expire().failed == 2
    jobs.expire()
    jobs.rescue()
    assert eyes.counted("jobstate.sweeps") == {("expire",): 2, ("rescue",): 1}
    moved = {key: value for key, value in eyes.counted("jobstate.swept.jobs").items() if value}
    assert moved == {("failed", "expire"): 2, ("moved", "expire"): 2}


def delays(eyes: Eyes) -> list[tuple[Any, int, float]]:
    return [(dict(point.attributes), point.count, point.sum) for point in eyes.points("jobstate.queue.delay")]


def test_the_delay_in_the_queue_is_from_when_an_attempt_could_start(world: World, jobs: Jobs, eyes: Eyes) -> None:
    where = {conventions.MESSAGING_DESTINATION_NAME: PATH}
    job = create(jobs)
    world.clock.advance(5)
    run(world, jobs, world.take(), busy)
    assert delays(eyes) == [(where, 1, 5)]
    available = world.row(job.id).available_at
    assert available is not None
    world.clock.advance(available - world.clock.now() + 7)
    run(world, jobs, world.row(job.id).delivery, done)
    assert delays(eyes) == [(where, 2, 5 + 7)]


def test_a_delay_that_the_row_does_not_tell_is_not_measured(world: World, jobs: Jobs, eyes: Eyes) -> None:
    job = create(jobs, validating=True)
    jobs.accept(job.id)
    run(world, jobs, world.take(), cancelled_meanwhile(world, job))
    other = create(jobs)
    jobs.start(other.delivery).give_back()
    run(world, jobs, world.row(other.id).delivery, done)
    assert delays(eyes) == []
    jobs.retry(job.id)
    world.clock.advance(3)
    run(world, jobs, world.row(job.id).delivery, done)
    assert [(count, total) for _, count, total in delays(eyes)] == [(1, 3)]


def test_a_pause_after_a_failure_is_told_by_the_row_of_a_job_that_was_given_back_before(
    world: World, jobs: Jobs, eyes: Eyes
) -> None:
    job = create(jobs)
    jobs.start(world.take()).give_back()
    jobs.start(world.row(job.id).delivery).fail(JobFailed("busy", "later").error, retryable=True)
    world.clock.advance(cast("int", world.row(job.id).available_at) - world.clock.now() + 4)
    run(world, jobs, world.row(job.id).delivery, done)
    assert [(count, total) for _, count, total in delays(eyes)] == [(1, 4)]


def test_the_buckets_are_of_seconds_and_reach_an_hour(world: World, jobs: Jobs, eyes: Eyes) -> None:
    create(jobs)
    run(world, jobs, world.take(), done)
    for name, least in ((MESSAGING_PROCESS_DURATION, 0.005), ("jobstate.queue.delay", 1)):
        (point,) = eyes.points(name)
        assert (point.explicit_bounds[0], point.explicit_bounds[-1]) == (least, 3600)


def test_the_duration_of_attempts_is_measured_in_seconds_by_how_they_failed(world: World, jobs: Jobs, eyes: Eyes) -> None:
    began = perf_counter()
    for handler in (busy, done, done):
        create(jobs)
        run(world, jobs, world.take(), handler)
    took = perf_counter() - began
    points = {point.attributes.get(ERROR_TYPE): point for point in eyes.points(MESSAGING_PROCESS_DURATION)}
    assert {error: point.count for error, point in points.items()} == {"busy": 1, None: 2}
    assert 0 < sum(point.sum for point in points.values()) < took
    assert points[None].attributes == {
        conventions.MESSAGING_SYSTEM: "jobstate",
        conventions.MESSAGING_OPERATION_NAME: "process",
        conventions.MESSAGING_OPERATION_TYPE: "process",
        conventions.MESSAGING_DESTINATION_NAME: PATH,
    }


def test_gauges_tell_what_is_stored_and_leave_no_span(eyes: Eyes) -> None:
    repository, clock = MemoryRepository(), ManualClock(NOW)
    jobs = Jobs(repository, BrokenDispatcher(), clock=clock, observers=[eyes.observer])
    observe_counts(jobs, repository=repository, meter_provider=eyes.meters)
    made = [create(jobs) for _ in range(3)]
    create(jobs, available_at=4_000_000_000)
    jobs.cancel(made[0].id)
    eyes.exporter.clear()
    stored = {key: value for key, value in eyes.counted("jobstate.jobs").items() if value}
    assert stored == {("cancelled",): 1, ("queued",): 3}
    assert eyes.counted("jobstate.dispatches.pending") == {(): 2}
    assert eyes.exporter.get_finished_spans() == ()
    jobs.count()
    assert [span.name for span in eyes.exporter.get_finished_spans()] == ["jobstate.count"]


def test_rows_that_cannot_be_read_are_counted(tmp_path: Path, eyes: Eyes) -> None:
    engine = sqlite_engine(tmp_path)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    clock = ManualClock(NOW)
    jobs = Jobs(repository, clock=clock, observers=[eyes.observer])
    observe_counts(jobs, repository=repository, meter_provider=eyes.meters)
    create(jobs)
    with engine.begin() as connection:
        connection.execute(text("UPDATE jobstate_jobs SET metadata = 'spoiled'"))
    clock.advance(timedelta(days=8))
    jobs.expire()
    assert eyes.counted("jobstate.dispatches.pending") == {(): 1}
    assert eyes.counted("jobstate.swept.jobs")["unreadable", "expire"] == 1
    engine.dispose()


def test_without_its_repository_dispatches_have_no_gauge(eyes: Eyes) -> None:
    observe_counts(Jobs(MemoryRepository()), meter_provider=eyes.meters)
    assert len(eyes.counted("jobstate.jobs")) == 7
    assert eyes.points("jobstate.dispatches.pending") == []


def test_a_store_that_fails_costs_a_collection_its_gauge_and_no_other_metric(
    eyes: Eyes, caplog: pytest.LogCaptureFixture
) -> None:
    repository = Faulty(MemoryRepository())
    jobs = Jobs(cast("Any", repository), observers=[eyes.observer])
    observe_counts(jobs, repository=cast("Any", repository), meter_provider=eyes.meters)
    create(jobs)
    repository.fail("count", RuntimeError("down"))
    repository.fail("due", RuntimeError("down"))
    assert "jobstate.jobs" not in eyes.metrics()
    assert {"jobstate.jobs", "jobstate.dispatches.pending"} < eyes.metrics().keys()
    assert sum("down" in (record.exc_text or "") for record in caplog.records) == 2


# It breaks nothing


class Broken(SpanProcessor):
    """An exporter's end that raises."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise RuntimeError("on_start")

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("on_end")


class BrokenEnd(Broken):
    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Nothing is wrong yet."""


@pytest.mark.parametrize("broken", [Broken, BrokenEnd])
def test_a_tracer_that_raises_breaks_nothing_and_leaves_no_context_behind(
    world: World, jobs: Jobs, eyes: Eyes, broken: type[Broken], caplog: pytest.LogCaptureFixture
) -> None:
    job = traced(jobs, eyes)
    eyes.tracers.add_span_processor(broken())
    before = context.get_current()
    run(world, jobs, world.take(), done)
    with pytest.raises(IllegalTransitionError):
        jobs.cancel(job.id)
    assert context.get_current() == before
    assert world.row(job.id).status == "completed"
    assert {record.name for record in caplog.records} == {"jobstate.observe"}
    assert eyes.counted("jobstate.deliveries") == {("completed",): 1}


def test_a_meter_that_raises_breaks_nothing(world: World, jobs: Jobs, eyes: Eyes, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("add")

    for instrument in ("_transitions", "_refusals", "_deliveries", "_sweeps"):
        monkeypatch.setattr(getattr(eyes.observer, instrument), "add", add)
    job = create(jobs)
    run(world, jobs, world.take(), done)
    jobs.sweep()
    with pytest.raises(IllegalTransitionError):
        jobs.cancel(job.id)
    assert world.row(job.id).status == "completed"


def test_without_the_extra_the_import_says_which_it_is() -> None:
    code = "import sys; sys.modules['opentelemetry'] = None; import jobstate.adapters.opentelemetry"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: opentelemetry is not installed: pip install 'jobstate[opentelemetry]'"
    )


def test_without_providers_the_global_ones_are_asked() -> None:
    observer = OpenTelemetryObserver()
    jobs = Jobs(MemoryRepository(), clock=ManualClock(NOW), observers=[observer])
    observe_counts(jobs)
    result = run_job(jobs, create(jobs).delivery, done)
    assert result.fate == "completed"
