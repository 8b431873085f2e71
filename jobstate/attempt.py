"""What a worker holds: `Attempt` and `AsyncAttempt`. Every command carries the attempt's lease token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import Any, Generic, NamedTuple, TypeGuard, TypeVar

from pydantic import ValidationError

from jobstate.drivers import Ports, run, run_async
from jobstate.effects import Flow
from jobstate.endpoint import Endpoint
from jobstate.errors import InvalidInputError
from jobstate.flows import attempts
from jobstate.flows.reading import as_shown
from jobstate.flows.settle import Scope
from jobstate.model import AnyJob, Event, Job, JobError, JobResponse, JobWarning, RequestT, ResponseT
from jobstate.observe import Listeners, observed
from jobstate.payload import check_artifacts, invalid_input, json_value, rebuilt
from jobstate.policy import Policy
from jobstate.together import together

R = TypeVar("R")


class _Held(Generic[RequestT, ResponseT]):
    """What both colours have in common: the hold, the checks of results, and the flow for each command."""

    def __init__(self, ports: Ports, scope: Scope, hold: attempts.Hold, endpoint: Endpoint[RequestT, ResponseT] | None) -> None:
        self._ports = ports
        self._scope = scope
        self._hold = hold
        self._endpoint = endpoint
        self._request: Any = hold.job.request
        self._unreadable: InvalidInputError | None = None
        if endpoint is not None:
            try:
                endpoint.check(hold.job)
                self._request = endpoint.decode_request(hold.job.request)
            except InvalidInputError as error:
                self._unreadable, self._endpoint = error, None
        self._lock = Lock()
        self._ended: Event | None = None

    @property
    def job(self) -> Job[RequestT, ResponseT]:
        """The job as this attempt last saw it. Raises InvalidInputError when its request is not of the endpoint's type."""
        if self._unreadable is not None:
            raise self._unreadable
        return self._shown(self._hold.job)

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self._hold.job.id

    @property
    def number(self) -> int:
        """Which attempt of the job this is, from 1; never used twice."""
        return self._hold.attempt

    @property
    def token(self) -> str:
        """The lease token."""
        return self._hold.token

    @property
    def held(self) -> AnyJob:
        """The job as this attempt last saw it, as it is stored."""
        return self._hold.job

    @property
    def listeners(self) -> Listeners | None:
        """Who is told of it; None when nobody is."""
        listeners: Listeners | None = self._ports.listeners
        return listeners

    @property
    def policy(self) -> Policy:
        """The policy that its decisions follow."""
        return self._scope.policy

    @property
    def ended(self) -> Event | None:
        """How this attempt ended: complete, fail, release or give_back; None while nothing of it is known here."""
        return self._ended

    def _ending(self, flow: Flow[attempts.Ended]) -> Flow[Job[RequestT, ResponseT]]:
        """Run a command that ends the attempt, and keep how."""
        ended = yield from flow
        self._ended = ended.event
        return self._see(ended.job)

    def _beating(self, flow: Flow[AnyJob]) -> Flow[Job[RequestT, ResponseT]]:
        return self._see((yield from flow))

    def _see(self, job: AnyJob) -> Job[RequestT, ResponseT]:
        """Keep the newest job: a heartbeat in the background may answer late."""
        with self._lock:
            if job.version > self._hold.job.version:
                self._hold = self._hold._replace(job=job)
        return self._shown(job)

    def _shown(self, job: AnyJob) -> Job[RequestT, ResponseT]:
        job = as_shown(job)
        return job if self._endpoint is None else self._endpoint.dress(job, self._request if job.request is not None else None)

    def _heartbeat(self, progress: float | None, warnings: Iterable[JobWarning]) -> Flow[AnyJob]:
        if progress is not None and (type(progress) not in (int, float) or not 0 <= progress <= 1):
            raise InvalidInputError("progress", f"a number from 0 to 1 is needed, not {progress!r}")
        return attempts.heartbeat(self._scope, self._hold, progress, _checked(warnings))

    def _complete(
        self, response: Any, status_code: int, artifacts: Mapping[str, bytes] | None, warnings: Iterable[JobWarning]
    ) -> Flow[attempts.Ended]:
        checked = self._response(response, status_code)
        parts = check_artifacts("artifacts", artifacts)
        if parts and self._scope.bound:
            raise InvalidInputError("artifacts", "a store cannot roll back: start the job on the face that is not bound")
        return attempts.complete(self._scope, self._hold, checked, parts, _checked(warnings))

    def _response(self, response: Any, status_code: int) -> JobResponse[Any]:
        """A copy of it, checked."""
        if _is_response(response):
            status_code, response = response.status_code, response.body
        body = self._endpoint.encode_response(response) if self._endpoint else json_value("response", response)
        try:
            return JobResponse[Any](status_code=status_code, body=body)
        except ValidationError as error:
            raise invalid_input(error) from None

    def _fail(self, error: JobError, retryable: bool, warnings: Iterable[JobWarning]) -> Flow[attempts.Ended]:
        error = rebuilt("error", error, JobError)
        return attempts.fail(self._scope, self._hold, error, retryable=retryable, warnings=_checked(warnings))


class Ends(NamedTuple):
    """What ends an attempt, as often as it is told: the operation, and what it runs."""

    operation: str
    flow: Callable[[], Flow[AnyJob]]


def completing(attempt: Attempt[Any, Any] | AsyncAttempt[Any, Any], response: Any) -> Ends:
    """What `complete` runs. The response is checked, and copied, now; raises InvalidInputError."""
    checked = attempt._response(response, 200)
    return Ends("complete", lambda: attempt._ending(attempts.complete(attempt._scope, attempt._hold, checked, {}, ())))


def failing(attempt: Attempt[Any, Any] | AsyncAttempt[Any, Any], error: JobError, *, retryable: bool) -> Ends:
    """What `fail` runs; the error is copied now."""
    checked = rebuilt("error", error, JobError)
    return Ends("fail", lambda: attempt._ending(attempt._fail(checked, retryable, ())))


def end_together(attempts: Sequence[Attempt[Any, Any]], ends: Sequence[Ends]) -> list[AnyJob | Exception]:
    """End attempts of one worker: the job of each, or the error that its own command would have raised."""
    return run(together([end.flow() for end in ends]), attempts[0]._ports)


async def async_end_together(attempts: Sequence[AsyncAttempt[Any, Any]], ends: Sequence[Ends]) -> list[AnyJob | Exception]:
    """`end_together`, awaited."""
    return await run_async(together([end.flow() for end in ends]), attempts[0]._ports)


def end_alone(attempt: Attempt[Any, Any], ends: Ends) -> AnyJob:
    """End one attempt. Raises what its own command would raise."""
    return attempt._run(ends.operation, ends.flow())


async def async_end_alone(attempt: AsyncAttempt[Any, Any], ends: Ends) -> AnyJob:
    """`end_alone`, awaited."""
    return await attempt._run(ends.operation, ends.flow())


def _checked(warnings: Iterable[JobWarning]) -> tuple[JobWarning, ...]:
    if not isinstance(warnings, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]  # it comes from outside
        raise InvalidInputError("warnings", f"an iterable of JobWarning is needed, not {type(warnings).__name__}")
    return tuple(rebuilt("warnings", warning, JobWarning) for warning in warnings)


def _is_response(value: object) -> TypeGuard[JobResponse[Any]]:
    return isinstance(value, JobResponse)


class Attempt(_Held[RequestT, ResponseT]):
    """One execution of a job, from `Jobs.start`.

    Every command raises LeaseLostError once the job was rescued, cancelled, retried or expired: stop work then, and drop the
    result. OutcomeUnknownError leaves open whether it was done; the same command again is safe. Thread-safe.
    """

    def _run(self, name: str, flow: Flow[R]) -> R:
        if (listeners := self._ports.listeners) is None:
            return run(flow, self._ports)
        with listeners.around("operation", name):
            return run(observed(flow, listeners, name), self._ports)

    def heartbeat(self, progress: float | None = None, *, warnings: Iterable[JobWarning] = ()) -> Job[RequestT, ResponseT]:
        """Keep the lease, and tell progress (0 to 1) and warnings (added to those told before)."""
        return self._run("heartbeat", self._beating(self._heartbeat(progress, warnings)))

    def complete(
        self,
        response: ResponseT | JobResponse[ResponseT],
        *,
        status_code: int = 200,
        artifacts: Mapping[str, bytes] | None = None,
        warnings: Iterable[JobWarning] = (),
    ) -> Job[RequestT, ResponseT]:
        """Bring the result: the job is completed. The same result again is fine; another one is refused."""
        return self._run("complete", self._ending(self._complete(response, status_code, artifacts, warnings)))

    def fail(
        self, error: JobError, *, retryable: bool = False, warnings: Iterable[JobWarning] = ()
    ) -> Job[RequestT, ResponseT]:
        """End without a result: failed, or queued again after a pause when `retryable` and attempts are left."""
        return self._run("fail", self._ending(self._fail(error, retryable, warnings)))

    def give_back(self) -> Job[RequestT, ResponseT]:
        """Stop in good order: the job is queued again at once, at no cost to its budget."""
        return self._run("give_back", self._ending(attempts.give_back(self._scope, self._hold)))

    def artifact(self, name: str) -> bytes:
        """A part of the request that was put into the artifact store."""
        return self._run("artifact", attempts.get_artifact(self._scope, self._hold, name))


class AsyncAttempt(_Held[RequestT, ResponseT]):
    """`Attempt`, awaited."""

    async def _run(self, name: str, flow: Flow[R]) -> R:
        if (listeners := self._ports.listeners) is None:
            return await run_async(flow, self._ports)
        with listeners.around("operation", name):
            return await run_async(observed(flow, listeners, name), self._ports)

    async def heartbeat(
        self, progress: float | None = None, *, warnings: Iterable[JobWarning] = ()
    ) -> Job[RequestT, ResponseT]:
        """As `Attempt.heartbeat`."""
        return await self._run("heartbeat", self._beating(self._heartbeat(progress, warnings)))

    async def complete(
        self,
        response: ResponseT | JobResponse[ResponseT],
        *,
        status_code: int = 200,
        artifacts: Mapping[str, bytes] | None = None,
        warnings: Iterable[JobWarning] = (),
    ) -> Job[RequestT, ResponseT]:
        """As `Attempt.complete`."""
        return await self._run("complete", self._ending(self._complete(response, status_code, artifacts, warnings)))

    async def fail(
        self, error: JobError, *, retryable: bool = False, warnings: Iterable[JobWarning] = ()
    ) -> Job[RequestT, ResponseT]:
        """As `Attempt.fail`."""
        return await self._run("fail", self._ending(self._fail(error, retryable, warnings)))

    async def give_back(self) -> Job[RequestT, ResponseT]:
        """As `Attempt.give_back`."""
        return await self._run("give_back", self._ending(attempts.give_back(self._scope, self._hold)))

    async def artifact(self, name: str) -> bytes:
        """As `Attempt.artifact`."""
        return await self._run("artifact", attempts.get_artifact(self._scope, self._hold, name))
