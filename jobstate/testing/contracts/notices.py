"""The contract of a repository that tells of new jobs: a case for each clause of `Notices`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jobstate.drivers import Ports, perform, perform_async
from jobstate.effects import Effect, Flow, Save, SaveMany
from jobstate.model import Event, JobStatus
from jobstate.testing.contracts.clauses import Contract, Hook, clause
from jobstate.testing.contracts.repository import AsyncRepositoryPorts, RepositoryPorts
from jobstate.testing.contracts.samples import example, insert, transition

SOON = 30.0
"""Seconds that a notice has at most; one that keeps its contract needs a few thousandths."""
A_MOMENT = 0.1


def _writes(effect: Effect[Any]) -> Hook:
    """The effect, carried out by the repository that announces."""
    return Hook("_announced", (effect,))


def _hears(seconds: float) -> Hook:
    return Hook("_hears", (seconds,))


class NoticesCases(Contract):
    """A case for each clause."""

    @clause("N01")
    def test_N01_a_queued_job_that_is_due_is_told_of(self) -> Flow[None]:
        """To each that listens; one notice for what follows at once."""
        yield from Hook("_listen")
        yield from Hook("_listen")
        yield from _writes(insert(example(0)))
        yield from _writes(insert(example(1)))
        assert (yield from _hears(SOON)) == [True, True]

    @clause("N02")
    def test_N02_without_one_the_time_passes(self) -> Flow[None]:
        """A job that is not due yet, or not queued, is nothing to tell of, nor one that was queued before."""
        job, failed = example(0), example(1, JobStatus.FAILED)
        yield from insert(job)
        yield from insert(failed)
        yield from Hook("_listen")
        yield from _writes(insert(example(2, available_at=job.updated_at + 60)))
        yield from _writes(insert(example(3, JobStatus.VALIDATING)))
        yield from _writes(Save(transition(job, Event.CANCEL, status=JobStatus.CANCELLED)))
        assert (yield from _hears(A_MOMENT)) == [False]
        queued = transition(failed, Event.RETRY, status=JobStatus.QUEUED)
        yield from _writes(SaveMany([queued]))
        assert (yield from _hears(SOON)) == [True]
        assert (yield from _hears(A_MOMENT)) == [False]


class NoticesContract(RepositoryPorts, NoticesCases):
    """The contract of `Notices`; it is given what `RepositoryContract` is given."""

    def open_ports(self, folder: Any) -> Ports:
        """As `Sync.open_ports`."""
        self._listeners: list[Any] = []
        return super().open_ports(folder)

    def close_ports(self, ports: Ports) -> None:
        """As `Sync.close_ports`."""
        for listener in self._listeners:
            listener.close()
        super().close_ports(ports)

    def _listen(self, ports: Ports) -> None:
        self._listeners.append(ports.repository.listen())

    def _announced(self, ports: Ports, effect: Effect[Any]) -> Any:
        return perform(effect, replace(ports, repository=ports.repository.announcing()))

    def _hears(self, ports: Ports, seconds: float) -> list[bool]:
        return [listener.wait(seconds) for listener in self._listeners]


class AsyncNoticesContract(AsyncRepositoryPorts, NoticesCases):
    """The contract of `AsyncNotices`."""

    async def open_ports(self, folder: Any) -> Ports:
        """As `Async.open_ports`."""
        self._listeners: list[Any] = []
        return await super().open_ports(folder)

    async def close_ports(self, ports: Ports) -> None:
        """As `Async.close_ports`."""
        for listener in self._listeners:
            await listener.close()
        await super().close_ports(ports)

    async def _listen(self, ports: Ports) -> None:
        self._listeners.append(await ports.repository.listen())

    async def _announced(self, ports: Ports, effect: Effect[Any]) -> Any:
        return await perform_async(effect, replace(ports, repository=ports.repository.announcing()))

    async def _hears(self, ports: Ports, seconds: float) -> list[bool]:
        return [await listener.wait(seconds) for listener in self._listeners]
