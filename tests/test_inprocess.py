"""The dispatchers in the own process: they run what is created, take no more than they can hold, and stop in good order."""

from __future__ import annotations

from collections.abc import Callable
from threading import Barrier, Event, Thread
from threading import enumerate as all_threads
from typing import Any, cast

import pytest

from jobstate import Context, DispatchError, Job, Jobs
from jobstate.flows.dispatch import DISPATCH_DELAYED
from jobstate.inprocess import AsyncioDispatcher, ThreadDispatcher
from jobstate.memory import MemoryRepository
from jobstate.testing import ManualClock
from tests.support import ENDPOINT, NOW, ORG, REQUEST, Faulty, until

SOON = 60
"""Seconds until a test gives up waiting for what comes at once."""


class Service:
    """Jobs on a memory repository and a thread dispatcher, under a clock that is set by hand."""

    def __init__(self, *, workers: int = 2, limit: int = 100) -> None:
        self.clock = ManualClock(NOW)
        self.repository = Faulty(MemoryRepository())
        self.dispatcher = ThreadDispatcher(workers=workers, limit=limit, clock=self.clock)
        self.jobs = Jobs(cast(Any, self.repository), self.dispatcher, clock=self.clock)
        self.others = Jobs(self.repository._inner, clock=self.clock)

    def create(self, **options: Any) -> Job:
        return self.jobs.for_organization(ORG).create(ENDPOINT, REQUEST, **options)

    def row(self, job: Job) -> Job:
        return self.jobs.retrieve(job.id, include_response=True)


def done(request: Any, context: Context) -> Any:
    return "done"


def codes(job: Job) -> list[str]:
    return [warning.code for warning in job.warnings or ()]


def in_thread(call: Callable[[], object]) -> Thread:
    thread = Thread(target=call, daemon=True)
    thread.start()
    return thread


class Held:
    """A handler that waits to be let go, and notes what it saw."""

    def __init__(self) -> None:
        self.entered = Event()
        self.go = Event()
        self.context: Context | None = None

    def __call__(self, request: Any, context: Context) -> Any:
        self.context = context
        self.entered.set()
        assert self.go.wait(SOON)
        return "late"


# Threads


def test_what_is_created_runs() -> None:
    service = Service()
    with service.dispatcher.running(service.jobs, done):
        jobs = [service.create() for _ in range(20)]
        assert service.dispatcher.join(SOON)
    assert {service.row(job).status for job in jobs} == {"completed"}
    assert {service.row(job).attempt_count for job in jobs} == {1}


def test_what_waits_before_the_start_runs_after_it() -> None:
    service = Service()
    job = service.create()
    assert not service.dispatcher.join(0)
    with service.dispatcher.running(service.jobs, done):
        assert service.dispatcher.join(SOON)
    assert service.row(job).status == "completed"


def test_as_many_jobs_run_at_once_as_there_are_workers() -> None:
    service = Service(workers=3)
    together = Barrier(3)

    def meet(request: Any, context: Context) -> Any:
        together.wait(SOON)

    with service.dispatcher.running(service.jobs, meet):
        jobs = [service.create() for _ in range(3)]
        assert service.dispatcher.join(SOON)
    assert {service.row(job).status for job in jobs} == {"completed"}


def test_a_full_dispatcher_leaves_the_job_pending_and_its_caller_told_until_the_relay() -> None:
    service = Service(workers=1, limit=2)
    waiting = [service.create() for _ in range(2)]
    refused = service.create()
    assert [job.dispatch_pending for job in waiting] == [False, False]
    assert (refused.dispatch_pending, codes(refused)) == (True, [DISPATCH_DELAYED])
    with pytest.raises(DispatchError, match="limit is 2"):
        service.dispatcher.dispatch(refused.delivery, "name")
    with service.dispatcher.running(service.jobs, done):
        assert service.dispatcher.join(SOON)
        assert service.jobs.sweep().relay.moved == 1
        assert service.dispatcher.join(SOON)
    assert service.row(refused).status == "completed"


def test_what_runs_takes_no_room_from_what_waits() -> None:
    service = Service(workers=1, limit=1)
    held = Held()
    with service.dispatcher.running(service.jobs, held):
        service.create()
        assert held.entered.wait(SOON)
        assert not service.create().dispatch_pending
        assert service.create().dispatch_pending
        held.go.set()
        assert service.dispatcher.join(SOON)


def test_a_task_that_waits_twice_runs_once_and_takes_room_once() -> None:
    service = Service(limit=2)
    job = service.create()
    seen: list[str] = []
    for _ in range(3):
        assert service.dispatcher.dispatch(job.delivery, str(job.task_name)) == job.task_name
    other = service.create()
    assert not other.dispatch_pending
    with service.dispatcher.running(service.jobs, lambda request, context: seen.append(context.job.id)):
        assert service.dispatcher.join(SOON)
    assert sorted(seen) == sorted([job.id, other.id])


def test_a_task_that_was_taken_back_does_not_run_and_leaves_its_room() -> None:
    service = Service(limit=2)
    kept, cancelled = service.create(), service.create()
    service.jobs.cancel(cancelled.id)
    other = service.create()
    assert not other.dispatch_pending
    seen: list[str] = []
    with service.dispatcher.running(service.jobs, lambda request, context: seen.append(context.job.id)):
        assert service.dispatcher.join(SOON)
    assert sorted(seen) == sorted([kept.id, other.id])


def test_an_early_delivery_waits_for_the_clock() -> None:
    service = Service()
    runs: list[float] = []

    def handle(request: Any, context: Context) -> Any:
        runs.append(service.clock.now())
        return "done"

    with service.dispatcher.running(service.jobs, handle):
        job = service.others.for_organization(ORG).create(ENDPOINT, REQUEST, available_at=NOW + 10)
        service.dispatcher.dispatch(job.delivery, "early")
        assert not service.dispatcher.join(0.05)
        assert service.row(job).version == job.version
        service.clock.time = NOW + 10
        service.dispatcher.wake()
        assert service.dispatcher.join(SOON)
    assert runs == [NOW + 10]
    assert service.row(job).status == "completed"


def test_a_delivery_whose_start_met_an_error_is_tried_again_a_little_later() -> None:
    service = Service(workers=1)
    job = service.create()
    service.repository.fail("load", ConnectionError("the network is down"))
    service.repository.calls.clear()
    with service.dispatcher.running(service.jobs, done):
        until(lambda: service.repository.calls == ["load"])
        assert not service.dispatcher.join(0.05)
        service.clock.advance(1)
        service.dispatcher.wake()
        assert service.dispatcher.join(SOON)
    assert service.row(job).status == "completed"


def test_a_delivery_finds_an_idle_worker_while_somebody_joins() -> None:
    service = Service(workers=2)
    held = Held()
    second = Event()

    def handle(request: Any, context: Context) -> Any:
        if context.job.id == first.id:
            held(request, context)
        else:
            second.set()

    first = service.create()
    waiters: list[object] = vars(service.dispatcher._crew.more)["_waiters"]
    joiner = in_thread(lambda: service.dispatcher.join(SOON))
    until(lambda: bool(vars(service.dispatcher._crew.changed)["_waiters"]))
    with service.dispatcher.running(service.jobs, handle):
        assert held.entered.wait(SOON)
        until(lambda: len(waiters) == 1)
        service.create()
        try:
            assert second.wait(2), "a worker is idle and nobody told it"
        finally:
            held.go.set()
        joiner.join(SOON)


# Threads that stop


def test_what_runs_at_the_stop_is_told_and_may_finish() -> None:
    service = Service()
    entered = Event()

    def handle(request: Any, context: Context) -> Any:
        entered.set()
        until(lambda: context.stopping)
        return "in time"

    service.dispatcher.start(service.jobs, handle)
    job = service.create()
    assert entered.wait(SOON)
    service.dispatcher.stop(grace=SOON)
    row = service.row(job)
    assert (row.status, row.response and row.response.body) == ("completed", "in time")
    assert not any(thread.name.startswith("jobstate-") for thread in all_threads())


def test_what_does_not_finish_in_time_is_given_back_and_its_late_result_dropped() -> None:
    service = Service()
    held = Held()
    service.dispatcher.start(service.jobs, held)
    job = service.create()
    assert held.entered.wait(SOON)
    service.dispatcher.stop(grace=0)
    row = service.row(job)
    assert (row.status, row.run, row.attempt_base, row.attempts_used) == ("queued", 2, 1, 0)
    assert row.dispatch_pending
    held.go.set()
    assert service.dispatcher.join(SOON)
    assert service.row(job).version == row.version


def test_what_was_given_back_runs_elsewhere() -> None:
    service = Service()
    held = Held()
    service.dispatcher.start(service.jobs, held)
    job = service.create(max_attempts=1)
    assert held.entered.wait(SOON)
    service.dispatcher.stop(grace=0)
    attempt = service.others.start(service.row(job).delivery)
    held.go.set()
    assert service.dispatcher.join(SOON)
    assert attempt.complete("elsewhere").status == "completed"
    assert service.row(job).attempt_count == 2


def test_nothing_is_accepted_after_the_stop() -> None:
    service = Service()
    service.dispatcher.start(service.jobs, done)
    service.dispatcher.stop(grace=SOON)
    job = service.create()
    assert (job.dispatch_pending, codes(job)) == (True, [DISPATCH_DELAYED])
    with pytest.raises(DispatchError, match="stopped"):
        service.dispatcher.dispatch(job.delivery, "name")


def test_what_waits_at_the_stop_is_not_begun() -> None:
    service = Service(workers=1)
    held = Held()
    service.dispatcher.start(service.jobs, held)
    service.create()
    assert held.entered.wait(SOON)
    waiting = service.create()
    stopper = in_thread(lambda: service.dispatcher.stop(grace=SOON))
    until(lambda: held.context is not None and held.context.stopping)
    held.go.set()
    stopper.join(SOON)
    assert service.row(waiting).status == "queued"
    assert service.row(waiting).attempt_count == 0


def test_a_start_that_is_on_its_way_at_the_stop_is_given_back_in_time_too() -> None:
    service = Service(workers=1)
    held, starting, go_on = Held(), Event(), Event()
    job = service.create()

    def slow() -> None:
        starting.set()
        assert go_on.wait(SOON)

    service.repository.then("load", slow)
    service.dispatcher.start(service.jobs, held)
    assert starting.wait(SOON)
    stopper = in_thread(lambda: service.dispatcher.stop(grace=0.05))
    until(lambda: service.dispatcher._crew.closed)
    go_on.set()
    try:
        stopper.join(2)
        assert not stopper.is_alive(), "the stop waits for a handler longer than its grace"
        assert service.row(job).status == "queued"
    finally:
        held.go.set()


def test_a_start_that_ends_after_the_grace_is_given_back_at_once() -> None:
    service = Service(workers=1)
    held, starting, go_on = Held(), Event(), Event()
    job = service.create()

    def slow() -> None:
        starting.set()
        assert go_on.wait(SOON)

    service.repository.then("load", slow)
    service.dispatcher.start(service.jobs, held)
    assert starting.wait(SOON)
    service.dispatcher.stop(grace=0)
    go_on.set()
    try:
        until(lambda: service.row(job).run == 2)
        assert (service.row(job).status, service.row(job).attempts_used) == ("queued", 0)
        assert not held.entered.is_set()
    finally:
        held.go.set()


def test_a_handler_that_exits_takes_no_worker_along() -> None:
    service = Service(workers=1)
    exits = [SystemExit(1)]

    def handle(request: Any, context: Context) -> Any:
        if exits:
            raise exits.pop()
        return "done"

    with service.dispatcher.running(service.jobs, handle):
        job = service.create()
        assert service.dispatcher.join(2), "what was taken is not run"
    assert service.row(job).status == "completed"


def test_a_dispatcher_starts_once() -> None:
    service = Service()
    with service.dispatcher.running(service.jobs, done), pytest.raises(RuntimeError, match="make another one"):
        service.dispatcher.start(service.jobs, done)


def test_a_dispatcher_that_never_started_stops_at_once() -> None:
    service = Service()
    service.create()
    service.dispatcher.stop(grace=SOON)


@pytest.mark.parametrize("kind", [ThreadDispatcher, AsyncioDispatcher])
@pytest.mark.parametrize(("options", "word"), [({"workers": 0}, "workers"), ({"limit": 0}, "limit")])
def test_a_dispatcher_that_could_run_or_hold_nothing_is_refused(kind: Any, options: dict[str, int], word: str) -> None:
    with pytest.raises(ValueError, match=f"{word}: at least 1"):
        kind(**options)
