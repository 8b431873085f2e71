"""The service under test with its ports in hand: asked through ports that go wrong, looked at through the ports themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from inspect import iscoroutine
from typing import Any, TypeVar, cast

from jobstate.effects import Flow, IdKind, NewId
from jobstate.errors import JobstateError
from jobstate.memory import AsyncMemoryArtifactStore, MemoryArtifactStore
from jobstate.model import AnyJob, HistoryRecord
from jobstate.policy import Policy
from jobstate.query import JobFilter, PageRequest
from jobstate.service import AsyncJobs, Jobs
from jobstate.testing.clock import ManualClock
from jobstate.testing.stateful.faults import READS, WRITES, FaultyPort, PortError
from jobstate.testing.stateful.look import RIVAL, Look

R = TypeVar("R")

BEGIN = 1_000_000
"""When its clock begins (Unix seconds)."""

_EVERYTHING = JobFilter()
_DISPATCHES = ("dispatch", "dispatch_at")


class _Clock(ManualClock):
    """A clock by hand, which also numbers the jobs: the same steps give the same ids, in the same order."""

    jobs = 0

    def mint(self) -> str:
        """The next job's id."""
        self.jobs += 1
        return f"job_{self.jobs:021d}"


def _numbered(flow: Flow[R], clock: _Clock) -> Flow[R]:
    """The same flow, with numbers for the ids of jobs."""
    try:
        effect = next(flow)
        while True:
            if isinstance(effect, NewId) and effect.kind is IdKind.JOB:
                effect = flow.send(clock.mint())
                continue
            try:
                result = yield effect
            except Exception as error:  # noqa: BLE001  # as the drivers do
                effect = flow.throw(error)
            else:
                effect = flow.send(result)
    except StopIteration as stop:
        return cast(R, stop.value)


class _Jobs(Jobs):
    def _run(self, name: str, flow: Flow[R]) -> R:
        return super()._run(name, _numbered(flow, self._ports.clock))


class _AsyncJobs(AsyncJobs):
    async def _run(self, name: str, flow: Flow[R]) -> R:
        return await super()._run(name, _numbered(flow, self._ports.clock))


class Service:
    """A service of either colour, whose methods are called like sync ones.

    Attributes:
        jobs: the face that is asked; its ports go wrong as planned.
        repository, dispatcher, artifacts: these ports.
        clock: the clock of both.
    """

    def __init__(self, repository: Any, dispatcher: Any, policy: Policy, runner: asyncio.Runner | None) -> None:
        self._runner = runner
        self._inner = repository
        self._store = MemoryArtifactStore()
        self.clock = _Clock(BEGIN)
        self.latest = BEGIN
        store: Any = self._store if runner is None else AsyncMemoryArtifactStore(self._store)
        make: Any = _Jobs if runner is None else _AsyncJobs
        self._others = make(repository, policy=policy, clock=self.clock)
        self.dispatcher = FaultyPort(dispatcher, (*_DISPATCHES, "revoke"))
        self.repository = FaultyPort(repository, (*WRITES, *READS), self._cancel, self.dispatcher)
        self.artifacts = FaultyPort(store, ("put", "get", "delete"))
        self.jobs: Any = make(self.repository, self.dispatcher, policy=policy, clock=self.clock, artifacts=self.artifacts)

    @property
    def ports(self) -> dict[str, FaultyPort]:
        """What can go wrong, by name."""
        return {"repository": self.repository, "dispatcher": self.dispatcher, "artifacts": self.artifacts}

    @property
    def now(self) -> int:
        """The reading of the clock (Unix seconds)."""
        return int(self.clock.time)

    def pass_time(self, seconds: int) -> None:
        """Move the clock, on or back."""
        self.clock.advance(seconds)
        self.latest = max(self.latest, self.now)

    def ask(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a method of whatever colour."""
        answer = method(*args, **kwargs)
        return self._runner.run(answer) if self._runner is not None and iscoroutine(answer) else answer

    def ask_for_answer(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, bool]:
        """The same: what is returned, or the error that is raised; and whether a port went wrong meanwhile."""
        struck = self.struck
        try:
            answer = self.ask(method, *args, **kwargs)
        except Exception as error:  # noqa: BLE001  # the answer
            answer = error
        return answer, self.struck > struck

    @property
    def struck(self) -> int:
        """How often a port went wrong."""
        return sum(port.struck for port in self.ports.values())

    def take_dispatched(self) -> set[tuple[str, int]]:
        """Job and run of what the dispatcher took since the last call, and did not roll back."""
        done, self.dispatcher.done = self.dispatcher.done, []
        return {(args[0].job_id, args[0].run) for name, args in done if name in _DISPATCHES}

    def land(self) -> None:
        """Make the calls that are late, as far as they still can be made."""
        for call in self.repository.take_landing():
            with suppress(JobstateError, PortError):
                self.ask(call)

    def calm_down(self) -> None:
        """No port goes wrong from here on."""
        for port in self.ports.values():
            port.planned.clear()
        self.land()

    def look(self, before: Look) -> Look:
        """Everything, read without faults. What has not changed since the look before is not read again."""
        listing = self.ask(self._inner.list, _EVERYTHING, PageRequest(1_000), include_request=True, include_response=True)
        rows: dict[str, AnyJob] = {job.id: job for job in listing.jobs}
        records = {job_id: self._history(row, before) for job_id, row in rows.items()}
        parts = {key: self._store.get(key) for key in self._store.keys()}  # noqa: SIM118  # a store is no mapping
        return Look(self.latest, rows, records, parts)

    def _history(self, row: AnyJob, before: Look) -> list[HistoryRecord]:
        known = before.rows.get(row.id)
        if known is not None and known.version == row.version:
            return before.records[row.id]
        return list(self.ask(self._inner.history, row.id))

    def _cancel(self, job_ids: list[str]) -> Any:
        """What the rival does, in the service's own colour."""
        if self._runner is not None:
            return self._cancel_async(job_ids)
        for job_id in job_ids:
            with suppress(JobstateError):
                self._others.cancel(job_id, actor=RIVAL)
        return None

    async def _cancel_async(self, job_ids: list[str]) -> None:
        for job_id in job_ids:
            with suppress(JobstateError):
                await self._others.cancel(job_id, actor=RIVAL)
