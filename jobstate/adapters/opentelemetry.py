"""Traces and metrics of jobs, as OpenTelemetry has them. Extra: `opentelemetry`.

Only what an observer is told: no request, response or message of an error is read. Names and attributes are those of the
semantic conventions for messaging where they have one, and begin with `jobstate.` otherwise.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter, time
from typing import Any

from jobstate.errors import LeaseLostError, TransitionError
from jobstate.extra import needs_extra
from jobstate.flows.sweeps import PAGE, Swept
from jobstate.lifecycle import Accepted
from jobstate.model import AnyJob, Delivery, Event, JobStatus
from jobstate.observe import Observer
from jobstate.ports import Repository
from jobstate.query import Due
from jobstate.service import Jobs

with needs_extra("opentelemetry"):
    from opentelemetry import context as otel
    from opentelemetry import metrics, propagate, trace
    from opentelemetry.context import Context
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import Link, Span, SpanKind, StatusCode, TracerProvider


SCOPE = "jobstate"
"""The name of the tracer and of the meter."""

_DESTINATION, _ERROR, _JOB = "messaging.destination.name", "error.type", "jobstate.job.id"
_SHORT = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5)
_LONG = (5, 7.5, 10, 30, 60, 300, 900, 3600)
"""Bounds of buckets (seconds): those that the conventions advise, and what a job may take beyond."""
_OURS: dict[str, Any] = {"record_exception": False, "set_status_on_exception": False}
"""An exception's words may hold what its user sent."""
_QUIET = otel.create_key("jobstate-quiet")
_MANY = frozenset({"take", "retry_many", "cancel_many", "sweep", "relay", "rescue", "expire", "cleanup", "forget"})
"""Operations on many jobs: their spans have no job's id."""
_FAILURES = (Event.FAIL, Event.RELEASE)
_ENDS = (*_FAILURES, Event.COMPLETE, Event.GIVE_BACK)


def current_trace_context() -> dict[str, str]:
    """The active span as text, for `create(trace_context=...)`, written by the global propagator; empty when none is active."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier


@dataclass
class _Running:
    """An attempt whose span is open."""

    span: Span
    job_id: str
    error: str | None = None

    def ended(self, outcome: str, error: str | None = None) -> None:
        self.span.set_attribute("jobstate.outcome", outcome)
        if error is not None:
            self.error = error
            _fail(self.span, error)


class OpenTelemetryObserver(Observer):
    """A span for each operation and each attempt, and metrics; of the global providers, if none are given.

    An attempt is a child of the span in the job's `trace_context`, in whatever process it runs, and linked to the span that was
    active there. Where a job has none, it is a child of the span that was active, if one was.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None) -> None:
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        self._operation, self._attempt = otel.create_key("jobstate-operation"), otel.create_key("jobstate-attempt")
        meter = metrics.get_meter(SCOPE, meter_provider=meter_provider)
        self._transitions = meter.create_counter("jobstate.transitions", "{transition}", "Transitions that were saved")
        self._refusals = meter.create_counter("jobstate.refusals", "{refusal}", "Commands that were refused")
        self._deliveries = meter.create_counter("jobstate.deliveries", "{delivery}", "Deliveries, by what became of them")
        self._sweeps = meter.create_counter("jobstate.sweeps", "{sweep}", "Sweeps that were made")
        self._swept = meter.create_counter("jobstate.swept.jobs", "{job}", "Jobs that sweeps moved, or could not move")
        self._delay = meter.create_histogram(
            "jobstate.queue.delay",
            "s",
            "From when an attempt could start to its start",
            explicit_bucket_boundaries_advisory=[1, *_LONG],
        )
        self._duration = meter.create_histogram(
            "messaging.process.duration", "s", "Duration of an attempt", explicit_bucket_boundaries_advisory=[*_SHORT, *_LONG]
        )

    # Metrics

    def created(self, job: AnyJob) -> None:
        """As `Observer.created`: counted as the transition `created`; the operation's span is named for its endpoint."""
        self._transitions.add(1, {"jobstate.event": "created", "jobstate.target": str(job.status)})
        if (span := self._noted(job.id)) is not None:
            span.update_name(f"create {job.endpoint}")
            span.set_attributes(_about(job, "create"))

    def transition(self, transition: Accepted) -> None:
        """As `Observer.transition`: the end of an attempt is noted on its span."""
        event = transition.event
        self._transitions.add(1, {"jobstate.event": str(event), "jobstate.target": str(transition.target)})
        self._noted(transition.job_id)
        running = self._running(transition.job_id)
        if running is not None and event in _ENDS:
            running.ended(str(event), transition.changes["last_failure_code"] if event in _FAILURES else None)

    def refused(self, error: TransitionError) -> None:
        """As `Observer.refused`: an attempt that lost its lease has failed."""
        self._refusals.add(1, {"jobstate.event": str(error.event), "jobstate.code": error.code})
        self._noted(error.job_id)
        running = self._running(error.job_id)
        if running is not None and isinstance(error, LeaseLostError):
            running.ended("lost", error.code)

    def delivery(self, delivery: Delivery, fate: str, reason: str | None) -> None:
        """As `Observer.delivery`."""
        self._deliveries.add(1, {"jobstate.fate": str(fate)} | ({} if reason is None else {"jobstate.reason": reason}))

    def swept(self, kind: str, swept: Swept) -> None:
        """As `Observer.swept`."""
        self._sweeps.add(1, {"jobstate.sweep": kind})
        for outcome, jobs in (("moved", swept.moved), ("failed", swept.failed), ("unreadable", len(swept.unreadable))):
            self._swept.add(jobs, {"jobstate.sweep": kind, "jobstate.outcome": outcome})

    # Spans

    @contextmanager
    def operation(self, name: str) -> Generator[None]:
        """As `Observer.operation`: a span `jobstate.cancel` and the like; for a new job a producer's, `create /v1/words`."""
        if otel.get_value(_QUIET):
            yield
            return
        kind = SpanKind.PRODUCER if name == "create" else SpanKind.INTERNAL
        with self._tracer.start_as_current_span(f"{SCOPE}.{name}", kind=kind, **_OURS) as span:
            try:
                with _attached(otel.set_value(self._operation, None if name in _MANY else span)):
                    yield
            except Exception as error:
                _fail(span, error.code if isinstance(error, TransitionError) else _path(type(error)))
                raise

    @contextmanager
    def attempt(self, job: AnyJob, number: int) -> Generator[None]:
        """As `Observer.attempt`: a consumer's span `process /v1/words`; how long the job waited, and how long this took."""
        began = perf_counter()
        if (since := _waiting_since(job)) is not None and job.started_at is not None:
            self._delay.record(job.started_at - since, {_DESTINATION: job.endpoint})
        with self._consumer(job, number) as span:
            running = _Running(span, job.id)
            try:
                with _attached(otel.set_value(self._attempt, running)):
                    yield
            finally:
                error = {} if running.error is None else {_ERROR: running.error}
                self._duration.record(perf_counter() - began, {**_messaging("process"), _DESTINATION: job.endpoint, **error})

    @contextmanager
    def _consumer(self, job: AnyJob, number: int) -> Generator[Span]:
        here = trace.get_current_span().get_span_context()
        origin = propagate.extract(job.trace_context or {}, otel.get_current())
        elsewhere = trace.get_current_span(origin).get_span_context() != here
        links = [Link(here)] if here.is_valid and elsewhere else []
        attributes: dict[str, str | int] = {**_about(job, "process"), "jobstate.attempt": number, "jobstate.run": job.run}
        name, kind = f"process {job.endpoint}", SpanKind.CONSUMER
        with (
            _attached(origin),
            self._tracer.start_as_current_span(name, kind=kind, links=links, attributes=attributes, **_OURS) as span,
        ):
            yield span

    def _noted(self, job_id: str) -> Span | None:
        """The span of the operation on this one job, with its id."""
        span = otel.get_value(self._operation)
        if not isinstance(span, Span):
            return None
        span.set_attribute(_JOB, job_id)
        return span

    def _running(self, job_id: str) -> _Running | None:
        """The attempt of this job that runs here."""
        running = otel.get_value(self._attempt)
        return running if isinstance(running, _Running) and running.job_id == job_id else None


def observe_counts(jobs: Jobs, *, repository: Repository | None = None, meter_provider: MeterProvider | None = None) -> None:
    """Gauges of what is stored: `jobstate.jobs` by status, and `jobstate.dispatches.pending` where the repository is given.

    Each collection asks `jobs.count` once for each status, and the repository for at most 1000 rows: of more that are queued,
    due and not dispatched, 1000 are told. One process is enough. A store that fails costs that collection its gauge.
    """

    def by_status(_: CallbackOptions) -> Iterator[Observation]:
        with _attached(otel.set_value(_QUIET, True)):
            found = {status: jobs.count(status=status) for status in JobStatus}
        for status, number in found.items():
            yield Observation(number, {"jobstate.status": str(status)})

    meter = metrics.get_meter(SCOPE, meter_provider=meter_provider)
    meter.create_observable_gauge("jobstate.jobs", [by_status], "{job}", "Jobs in the store")
    if repository is not None:
        pending = partial(_pending, repository)
        meter.create_observable_gauge("jobstate.dispatches.pending", [pending], "{job}", "Queued, due and not dispatched")


def _pending(repository: Repository, _: CallbackOptions) -> Iterator[Observation]:
    page = repository.due(Due.PENDING, until=int(time()), limit=PAGE)
    yield Observation(len(page.jobs) + len(page.unreadable))


def _waiting_since(job: AnyJob) -> int | None:
    """From when on this attempt could start; None where the row does not say: given back, or accepted, some time ago."""
    untold = job.give_backs > 0 or (job.held and job.retried_at is None)
    return None if untold and job.available_at is None else job.ready_at


def _messaging(operation: str) -> dict[str, str]:
    return {"messaging.system": SCOPE, "messaging.operation.name": operation, "messaging.operation.type": operation}


def _about(job: AnyJob, operation: str) -> dict[str, str]:
    return {**_messaging(operation), _DESTINATION: job.endpoint, "messaging.message.id": job.id, _JOB: job.id}


def _fail(span: Span, error: str) -> None:
    span.set_status(StatusCode.ERROR)
    span.set_attribute(_ERROR, error)


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


@contextmanager
def _attached(context: Context) -> Generator[None]:
    token = otel.attach(context)
    try:
        yield
    finally:
        otel.detach(token)
