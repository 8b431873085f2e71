"""The face, awaited: one line for each operation, in the order of `Jobs`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, Unpack, overload

from jobstate.attempt import AsyncAttempt
from jobstate.drivers import Ports, SystemClock, run_async
from jobstate.effects import Flow
from jobstate.endpoint import Endpoint
from jobstate.face import Creation, Face, Filter, Order, announced, by_name, check_colour, make_scope
from jobstate.flows import reading, sweeps
from jobstate.flows.many import BulkOutcome
from jobstate.flows.sweeps import SweepReport, Swept
from jobstate.gather import AsyncGatherer
from jobstate.model import Delivery, Event, HistoryRecord, Job, JobError
from jobstate.model import RequestT as Request
from jobstate.model import ResponseT as Response
from jobstate.notices import AsyncPolling
from jobstate.observe import Observer, listening, observed
from jobstate.policy import Policy
from jobstate.ports import AsyncArtifactStore, AsyncClock, AsyncDispatcher, AsyncListener, AsyncRepository, Clock, offers
from jobstate.query import JobPage

R = TypeVar("R")


class AsyncJobs(Face):
    """`Jobs`, awaited: the same operations on async ports."""

    def __init__(
        self,
        repository: AsyncRepository,
        dispatcher: AsyncDispatcher | None = None,
        *,
        policy: Policy | None = None,
        artifacts: AsyncArtifactStore | None = None,
        clock: Clock | AsyncClock | None = None,
        endpoints: Iterable[Endpoint[Any, Any]] = (),
        observers: Iterable[Observer] = (),
    ) -> None:
        check_colour("AsyncJobs", "Jobs", True, repository=repository, dispatcher=dispatcher, artifacts=artifacts, clock=clock)
        ports = Ports(
            announced(repository, dispatcher),
            dispatcher,
            artifacts,
            SystemClock() if clock is None else clock,
            listeners=listening(observers),
        )
        super().__init__(ports, make_scope(policy, repository, dispatcher, artifacts), by_name(endpoints))

    async def _run(self, name: str, flow: Flow[R]) -> R:
        if (listeners := self._ports.listeners) is None:
            return await run_async(flow, self._ports)
        with listeners.around("operation", name):
            return await run_async(observed(flow, listeners, name), self._ports)

    @overload
    async def create(
        self, endpoint: Endpoint[Request, Response], request: Request, **options: Unpack[Creation]
    ) -> Job[Request, Response]: ...
    @overload
    async def create(self, endpoint: str, request: Mapping[str, Any], **options: Unpack[Creation]) -> Job: ...
    async def create(self, endpoint: str | Endpoint[Any, Any], request: Any, **options: Unpack[Creation]) -> Job[Any, Any]:
        """As `Jobs.create`."""
        return await self._run("create", self._create(endpoint, request, options))

    async def accept(self, job_id: str, *, actor: str | None = None, reason: str | None = None) -> Job:
        """As `Jobs.accept`."""
        return await self._run("accept", self._change(Event.ACCEPT, job_id, {}, actor, reason))

    async def reject(self, job_id: str, error: JobError, *, actor: str | None = None, reason: str | None = None) -> Job:
        """As `Jobs.reject`."""
        return await self._run("reject", self._reject(job_id, error, actor, reason))

    @overload
    async def retrieve(
        self,
        job_id: str,
        endpoint: Endpoint[Request, Response],
        *,
        include_request: bool = False,
        include_response: bool = False,
    ) -> Job[Request, Response]: ...
    @overload
    async def retrieve(
        self, job_id: str, endpoint: None = None, *, include_request: bool = False, include_response: bool = False
    ) -> Job: ...
    async def retrieve(
        self,
        job_id: str,
        endpoint: Endpoint[Any, Any] | None = None,
        *,
        include_request: bool = False,
        include_response: bool = False,
    ) -> Job[Any, Any]:
        """As `Jobs.retrieve`."""
        return await self._run("retrieve", self._retrieve(job_id, endpoint, include_request, include_response))

    async def list(
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
        """As `Jobs.list`."""
        return await self._run("list", self._list(conditions, limit, after, before, order, include_request, include_response))

    async def count(self, **conditions: Unpack[Filter]) -> int:
        """As `Jobs.count`."""
        return await self._run("count", reading.count(self._filter(conditions)))

    async def history(self, job_id: str, *, after_version: int = 0) -> Sequence[HistoryRecord]:
        """As `Jobs.history`."""
        return await self._run("history", self._history(job_id, after_version))

    async def cancel(
        self, job_id: str, *, actor: str | None = None, reason: str | None = None, include_request: bool = False
    ) -> Job:
        """As `Jobs.cancel`."""
        return await self._run("cancel", self._change(Event.CANCEL, job_id, {}, actor, reason, include_request))

    async def retry(
        self,
        job_id: str,
        *,
        retry_key: str | None = None,
        actor: str | None = None,
        reason: str | None = None,
        include_request: bool = False,
    ) -> Job:
        """As `Jobs.retry`."""
        return await self._run("retry", self._retry(job_id, retry_key, actor, reason, include_request))

    async def dispatch(self, job_id: str) -> Job:
        """As `Jobs.dispatch`."""
        return await self._run("dispatch", self._dispatch(job_id))

    async def retry_many(
        self, *, dry_run: bool = False, actor: str | None = None, reason: str | None = None, **conditions: Unpack[Filter]
    ) -> Sequence[BulkOutcome]:
        """As `Jobs.retry_many`."""
        return await self._run("retry_many", self._many(Event.RETRY, conditions, dry_run, actor, reason))

    async def cancel_many(
        self, *, dry_run: bool = False, actor: str | None = None, reason: str | None = None, **conditions: Unpack[Filter]
    ) -> Sequence[BulkOutcome]:
        """As `Jobs.cancel_many`."""
        return await self._run("cancel_many", self._many(Event.CANCEL, conditions, dry_run, actor, reason))

    @overload
    async def start(
        self, delivery: Delivery, endpoint: Endpoint[Request, Response], *, include_request: bool = True
    ) -> AsyncAttempt[Request, Response]: ...
    @overload
    async def start(
        self, delivery: Delivery, endpoint: None = None, *, include_request: bool = True
    ) -> AsyncAttempt[Any, Any]: ...
    async def start(
        self, delivery: Delivery, endpoint: Endpoint[Any, Any] | None = None, *, include_request: bool = True
    ) -> AsyncAttempt[Any, Any]:
        """As `Jobs.start`."""
        hold = await self._run("start", self._start(delivery, endpoint, include_request))
        return AsyncAttempt(self._ports, self._scope, hold, endpoint or self._endpoints.get(hold.job.endpoint))

    async def take(self, limit: int = 1) -> Sequence[AsyncAttempt[Any, Any]]:
        """As `Jobs.take`."""
        return [
            AsyncAttempt(self._ports, self._scope, hold, self._endpoints.get(hold.job.endpoint))
            for hold in await self._run("take", self._take(limit))
        ]

    def gathering(self, *, linger: float = 0.0) -> AsyncJobs:
        """As `Jobs.gathering`, for the tasks of one event loop."""
        return self._gathering(AsyncGatherer(self._ports.repository, linger=linger))

    async def listen(self) -> AsyncListener:
        """As `Jobs.listen`."""
        repository: Any = self._ports.repository
        return await repository.listen() if offers(repository, "listen") else AsyncPolling()

    async def sweep(self) -> SweepReport:
        """As `Jobs.sweep`."""
        return await self._run("sweep", sweeps.sweep(self._trusted()))

    async def sweep_lag(self) -> int:
        """As `Jobs.sweep_lag`."""
        return await self._run("sweep_lag", sweeps.lag(self._trusted()))

    async def relay(self) -> Swept:
        """As `Jobs.relay`."""
        return await self._run("relay", sweeps.relay(self._trusted()))

    async def rescue(self) -> Swept:
        """As `Jobs.rescue`."""
        return await self._run("rescue", sweeps.rescue(self._trusted()))

    async def expire(self) -> Swept:
        """As `Jobs.expire`."""
        return await self._run("expire", sweeps.expire(self._trusted()))

    async def cleanup(self) -> Swept:
        """As `Jobs.cleanup`."""
        return await self._run("cleanup", sweeps.cleanup(self._trusted()))

    async def forget(self) -> Swept:
        """As `Jobs.forget`."""
        return await self._run("forget", sweeps.forget(self._trusted()))
