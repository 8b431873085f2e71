"""How a stop of an engine's worker reaches what runs in it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from threading import Barrier, Thread, get_ident
from types import FrameType
from typing import Any

import pytest
from dramatiq.middleware import Shutdown, raise_thread_exception  # pyright: ignore[reportUnknownVariableType]

from jobstate import Jobs
from jobstate.context import Context
from jobstate.memory import MemoryDispatcher, MemoryRepository
from jobstate.model import Event
from jobstate.running import Running
from jobstate.worker import Handler, RunFate, RunResult
from tests.support import ENDPOINT, ORG

STOP = signal.SIGUSR1


class Worker:
    """A service, and the worker's side of it."""

    def __init__(self, *signals: int) -> None:
        self.running = Running(*signals)
        self.repository = Saving()
        self.jobs = Jobs(self.repository, MemoryDispatcher())
        self.job = self.jobs.create(ENDPOINT, {}, organization_id=ORG)

    def run(self, handler: Handler) -> RunResult:
        return self.running.run(self.jobs, self.job.delivery, handler)

    def events(self) -> list[Any]:
        return [record.event for record in self.jobs.history(self.job.id)]


class Saving(MemoryRepository):
    """A signal can come in the middle of a save."""

    signal_in: Event | None = None

    def save(self, transition: Any, **options: Any) -> None:
        if transition.event is self.signal_in:
            signal.raise_signal(STOP)
        super().save(transition, **options)


@pytest.fixture(params=["default", "exits", "raises"])
def ends(request: pytest.FixtureRequest) -> Iterator[str]:
    """A signal that ends the process, in one of the ways of engines."""

    def exits(number: int, frame: FrameType | None) -> None:
        signal.signal(STOP, signal.SIG_DFL)  # as Celery's children do: the next one is for good
        raise SystemExit(7)

    def raises(number: int, frame: FrameType | None) -> None:
        raise RuntimeError("shut down imminent")

    ways: dict[str, Any] = {"default": signal.SIG_DFL, "exits": exits, "raises": raises}
    before = signal.signal(STOP, ways[request.param])
    yield request.param
    signal.signal(STOP, before)


def interrupted(request: Any, context: Context) -> None:
    signal.raise_signal(STOP)
    raise AssertionError("it went on")


def test_a_signal_in_the_handler_gives_the_job_back_and_goes_on(ends: str) -> None:
    worker = Worker(STOP)
    with pytest.raises(SystemExit) as exit_of:
        worker.run(interrupted)
    assert exit_of.value.code == (7 if ends == "exits" else 128 + STOP)
    job = worker.jobs.retrieve(worker.job.id)
    assert (job.status, job.attempts_used, job.give_backs) == ("queued", 0, 1)


@pytest.mark.parametrize("ends", ["exits"], indirect=True)
@pytest.mark.parametrize("event", [Event.START, Event.COMPLETE, Event.GIVE_BACK])
def test_a_signal_in_a_save_waits_until_it_is_saved(ends: str, event: Event) -> None:
    """What is saved is told to its end; a handler that has not begun does not begin."""
    worker, called = Worker(STOP), list[int]()
    worker.repository.signal_in = event

    def handler(request: Any, context: Context) -> None:
        called.append(1)
        if event is Event.GIVE_BACK:
            signal.raise_signal(STOP)

    with pytest.raises(SystemExit):
        worker.run(handler)
    ended = Event.COMPLETE if event is Event.COMPLETE else Event.GIVE_BACK
    assert worker.events()[-2:] == [Event.START, ended]
    assert called == ([] if event is Event.START else [1])


def test_a_signal_that_ends_nothing_tells_the_handler_and_reaches_who_had_it() -> None:
    """A warm shutdown, of a worker whose handlers run in its own main thread."""
    seen: list[int] = []
    told: list[bool] = []

    def second(number: int, frame: FrameType | None) -> None:
        seen.append(2)

    def first(number: int, frame: FrameType | None) -> None:
        seen.append(1)
        signal.signal(STOP, second)

    before = signal.signal(STOP, first)
    try:
        worker = Worker(STOP)

        def handler(request: Any, context: Context) -> None:
            told.append(context.stopping)
            signal.raise_signal(STOP)
            told.append(context.stopping)
            signal.raise_signal(STOP)

        assert worker.run(handler).fate is RunFate.COMPLETED
        assert (seen, told) == ([1, 2], [False, True])
        assert signal.getsignal(STOP) is second
    finally:
        signal.signal(STOP, before)


def test_signals_are_as_before_when_a_delivery_was_run() -> None:
    before = signal.getsignal(STOP)
    assert Worker(STOP).run(lambda request, context: None).fate is RunFate.COMPLETED
    assert signal.getsignal(STOP) is before


def in_a_thread(work: Any) -> Thread:
    thread = Thread(target=work)
    thread.start()
    return thread


def test_a_handler_in_a_thread_is_told_then_given_back_and_interrupted() -> None:
    worker, started, told, ends = Worker(STOP), Barrier(2), Barrier(2), list[type[BaseException]]()

    def handler(request: Any, context: Context) -> None:
        started.wait(30)
        told.wait(30)
        assert context.stopping
        while True:
            get_ident()

    def work() -> None:
        try:
            worker.run(handler)
        except Shutdown as error:
            ends.append(type(error))

    thread = in_a_thread(work)
    started.wait(30)
    worker.running.stop()
    told.wait(30)
    worker.running.interrupt(lambda ident: raise_thread_exception(ident, Shutdown))  # type: ignore[no-untyped-call]
    thread.join(30)
    assert ends == [Shutdown]
    job = worker.jobs.retrieve(worker.job.id)
    assert (job.status, job.attempts_used, job.give_backs) == ("queued", 0, 1)


def test_what_would_start_behind_an_interruption_goes_back() -> None:
    worker = Worker()
    worker.running.interrupt(lambda ident: None)
    assert worker.run(lambda request, context: None).fate is RunFate.RETURNED
    assert Event.START not in worker.events()


def test_what_starts_behind_a_stop_is_told_so() -> None:
    worker = Worker()
    worker.running.stop()
    assert worker.run(lambda request, context: {"stopping": context.stopping}).fate is RunFate.COMPLETED
    job = worker.jobs.retrieve(worker.job.id, include_response=True)
    assert job.response is not None
    assert job.response.body == {"stopping": True}
