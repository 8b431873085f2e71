"""The sync face, one line for each operation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, Unpack, overload

from jobstate.attempt import Attempt
from jobstate.drivers import Ports, SystemClock, run
from jobstate.effects import Flow
from jobstate.endpoint import Endpoint
from jobstate.face import Creation, Face, Filter, Order, announced, by_name, check_colour, make_scope
from jobstate.flows import reading, sweeps
from jobstate.flows.many import BulkOutcome
from jobstate.flows.sweeps import SweepReport, Swept
from jobstate.gather import Gatherer
from jobstate.model import Delivery, Event, HistoryRecord, Job, JobError
from jobstate.model import RequestT as Request
from jobstate.model import ResponseT as Response
from jobstate.notices import Polling
from jobstate.observe import Observer, listening, observed
from jobstate.policy import Policy
from jobstate.ports import ArtifactStore, Clock, Dispatcher, Listener, Repository, offers
from jobstate.query import JobPage

R = TypeVar("R")


class Jobs(Face):
    """Job semantics on a repository, a dispatcher and an artifact store of the host's choice.

    Without a dispatcher jobs stay pending until somebody takes them from the repository. Operations raise the errors of
    `jobstate.errors`; InvalidInputError before anything is stored. Thread-safe.
    """

    def __init__(
        self,
        repository: Repository,
        dispatcher: Dispatcher | None = None,
        *,
        policy: Policy | None = None,
        artifacts: ArtifactStore | None = None,
        clock: Clock | None = None,
        endpoints: Iterable[Endpoint[Any, Any]] = (),
        observers: Iterable[Observer] = (),
    ) -> None:
        check_colour("Jobs", "AsyncJobs", False, repository=repository, dispatcher=dispatcher, artifacts=artifacts, clock=clock)
        ports = Ports(
            announced(repository, dispatcher),
            dispatcher,
            artifacts,
            SystemClock() if clock is None else clock,
            listeners=listening(observers),
        )
        super().__init__(ports, make_scope(policy, repository, dispatcher, artifacts), by_name(endpoints))

    def _run(self, name: str, flow: Flow[R]) -> R:
        if (listeners := self._ports.listeners) is None:
            return run(flow, self._ports)
        with listeners.around("operation", name):
            return run(observed(flow, listeners, name), self._ports)

    @overload
    def create(
        self, endpoint: Endpoint[Request, Response], request: Request, **options: Unpack[Creation]
    ) -> Job[Request, Response]: ...
    @overload
    def create(self, endpoint: str, request: Mapping[str, Any], **options: Unpack[Creation]) -> Job: ...
    def create(self, endpoint: str | Endpoint[Any, Any], request: Any, **options: Unpack[Creation]) -> Job[Any, Any]:
        """A new job, stored and dispatched; the same idempotency key and request answer with the first one.

        When dispatch is delayed the job is returned all the same, `dispatch_pending`, with a `dispatch_delayed` warning: it
        is stored, and must not be created again. Raises IdempotencyConflictError for the same key with another request,
        OutcomeUnknownError when nobody can say whether it was stored (then repeat it under the same key).
        """
        return self._run("create", self._create(endpoint, request, options))

    def accept(self, job_id: str, *, actor: str | None = None, reason: str | None = None) -> Job:
        """Queue a job that was created with `validating=True`.

        A job whose `create` raised while its artifacts were being put is validating too: do not accept it, some may be missing.
        Repeat the `create` under its idempotency key: that puts the same artifacts and accepts it, unless it is held.
        """
        return self._run("accept", self._change(Event.ACCEPT, job_id, {}, actor, reason))

    def reject(self, job_id: str, error: JobError, *, actor: str | None = None, reason: str | None = None) -> Job:
        """Fail a job that was created with `validating=True`; it can not be retried."""
        return self._run("reject", self._reject(job_id, error, actor, reason))

    @overload
    def retrieve(
        self,
        job_id: str,
        endpoint: Endpoint[Request, Response],
        *,
        include_request: bool = False,
        include_response: bool = False,
    ) -> Job[Request, Response]: ...
    @overload
    def retrieve(
        self, job_id: str, endpoint: None = None, *, include_request: bool = False, include_response: bool = False
    ) -> Job: ...
    def retrieve(
        self,
        job_id: str,
        endpoint: Endpoint[Any, Any] | None = None,
        *,
        include_request: bool = False,
        include_response: bool = False,
    ) -> Job[Any, Any]:
        """One job; payloads only when asked for. A response is shown only while the job is completed."""
        return self._run("retrieve", self._retrieve(job_id, endpoint, include_request, include_response))

    def list(
        self,
        *,
        limit: int = 20,
        after: str | None = None,
        before: str | None = None,
        order: Order = "desc",
        include_request: bool = False,
        include_response: bool = False,
        **conditions: Unpack[Filter],
    ) -> JobPage:
        """A page of 1 to 1000 jobs by creation, newest first by default; `after` and `before` are job ids."""
        return self._run("list", self._list(conditions, limit, after, before, order, include_request, include_response))

    def count(self, **conditions: Unpack[Filter]) -> int:
        """How many jobs the conditions find."""
        return self._run("count", reading.count(self._filter(conditions)))

    def history(self, job_id: str, *, after_version: int = 0) -> Sequence[HistoryRecord]:
        """What happened to a job, oldest first: a record for each save but heartbeats and dispatch marks."""
        return self._run("history", self._history(job_id, after_version))

    def cancel(self, job_id: str, *, actor: str | None = None, reason: str | None = None, include_request: bool = False) -> Job:
        """Cancel a job at once; its worker learns it from its next heartbeat. A second cancel is refused."""
        return self._run("cancel", self._change(Event.CANCEL, job_id, {}, actor, reason, include_request))

    def retry(
        self,
        job_id: str,
        *,
        retry_key: str | None = None,
        actor: str | None = None,
        reason: str | None = None,
        include_request: bool = False,
    ) -> Job:
        """Queue a failed, cancelled or expired job once more, with a fresh budget.

        A repetition finds the first retry: under the same `retry_key` always, without one while the job is active, or when
        the caller was told of a delayed dispatch just before.
        """
        return self._run("retry", self._retry(job_id, retry_key, actor, reason, include_request))

    def dispatch(self, job_id: str) -> Job:
        """Give a job to the dispatcher now, if it is pending: after the commit of the transaction that queued it.

        One that is not due yet is given to a dispatcher that can delay, and else left to the sweep that finds it due.
        A dispatcher's failure is no error: the next sweep dispatches what is still pending.
        """
        return self._run("dispatch", self._dispatch(job_id))

    def retry_many(
        self, *, dry_run: bool = False, actor: str | None = None, reason: str | None = None, **conditions: Unpack[Filter]
    ) -> Sequence[BulkOutcome]:
        """Retry all that the conditions find, with one outcome for each; no condition is an error."""
        return self._run("retry_many", self._many(Event.RETRY, conditions, dry_run, actor, reason))

    def cancel_many(
        self, *, dry_run: bool = False, actor: str | None = None, reason: str | None = None, **conditions: Unpack[Filter]
    ) -> Sequence[BulkOutcome]:
        """Cancel all that the conditions find, with one outcome for each; no condition is an error."""
        return self._run("cancel_many", self._many(Event.CANCEL, conditions, dry_run, actor, reason))

    @overload
    def start(
        self, delivery: Delivery, endpoint: Endpoint[Request, Response], *, include_request: bool = True
    ) -> Attempt[Request, Response]: ...
    @overload
    def start(self, delivery: Delivery, endpoint: None = None, *, include_request: bool = True) -> Attempt[Any, Any]: ...
    def start(
        self, delivery: Delivery, endpoint: Endpoint[Any, Any] | None = None, *, include_request: bool = True
    ) -> Attempt[Any, Any]:
        """Begin an attempt for a delivery, under a lease of its own.

        Raises GuardRefusedError or IllegalTransitionError for a delivery that is early (`not_available`), late (`run_over`)
        or repeated (`already_started`).
        """
        hold = self._run("start", self._start(delivery, endpoint, include_request))
        return Attempt(self._ports, self._scope, hold, endpoint or self._endpoints.get(hold.job.endpoint))

    def take(self, limit: int = 1) -> Sequence[Attempt[Any, Any]]:
        """Start at most `limit` (1 to 1000) jobs that are pending and due, the longest due first: the database is the queue.

        For jobs without a dispatcher. Of several workers at once each gets others. A job that cannot start is passed by.
        """
        return [
            Attempt(self._ports, self._scope, hold, self._endpoints.get(hold.job.endpoint))
            for hold in self._run("take", self._take(limit))
        ]

    def gathering(self, *, linger: float = 0.0) -> Jobs:
        """The same face, with group commit: commands of several threads at once are saved by one `save_many`.

        Each waits `linger` seconds for others to come.
        """
        return self._gathering(Gatherer(self._ports.repository, linger=linger))

    def listen(self) -> Listener:
        """Listen for notices of jobs that were queued for `take`; where the repository tells of none, only time passes."""
        repository: Any = self._ports.repository
        return repository.listen() if offers(repository, "listen") else Polling()

    def sweep(self) -> SweepReport:
        """Expire, rescue, clean up, forget and relay, once. Safe to run anywhere, at any time, several at once."""
        return self._run("sweep", sweeps.sweep(self._trusted()))

    def sweep_lag(self) -> int:
        """Seconds for which jobs have waited to be rescued or expired: about a sweep's interval where somebody sweeps."""
        return self._run("sweep_lag", sweeps.lag(self._trusted()))

    def relay(self) -> Swept:
        """Dispatch what is pending and due, and again what was dispatched long ago and has not started."""
        return self._run("relay", sweeps.relay(self._trusted()))

    def rescue(self) -> Swept:
        """Take over jobs whose worker's lease is not live any more."""
        return self._run("rescue", sweeps.rescue(self._trusted()))

    def expire(self) -> Swept:
        """Expire jobs that have reached `expires_at`."""
        return self._run("expire", sweeps.expire(self._trusted()))

    def cleanup(self) -> Swept:
        """Begin and end the clean-up of expired jobs."""
        return self._run("cleanup", sweeps.cleanup(self._trusted()))

    def forget(self) -> Swept:
        """Delete rows whose clean-up ended `Policy.forget_after` ago."""
        return self._run("forget", sweeps.forget(self._trusted()))
