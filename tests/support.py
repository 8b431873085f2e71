"""What the tests stand on: worlds (a service with all its ports in hand), faults, and jobs in any status."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial, wraps
from inspect import iscoroutinefunction
from pathlib import Path
from threading import Barrier, Thread, local
from typing import Any, TypeVar, cast

from jobstate import (
    AsyncJobs,
    Attempt,
    Delivery,
    DispatchError,
    Job,
    Jobs,
    OutcomeUnknownError,
    Policy,
    RepositoryError,
    StaleJobError,
)
from jobstate.drivers import Ports, perform
from jobstate.effects import Decide, Effect, Flow, Moved
from jobstate.lifecycle import new_job
from jobstate.lifecycle.creation import Draft
from jobstate.memory import (
    AsyncMemoryArtifactStore,
    AsyncMemoryDispatcher,
    AsyncMemoryRepository,
    MemoryArtifactStore,
    MemoryDispatcher,
    MemoryRepository,
)
from jobstate.model import evolve
from jobstate.ports import offers
from jobstate.query import Cursor, Due
from jobstate.testing import ManualClock

NOW = 1_700_000_000
ORG = "org_a"
ENDPOINT = "/v1/documents/extract"
REQUEST = {"document": "invoice.pdf", "pages": [1, 2]}

WORLDS = ("memory", "async-memory", "sqlite")
"""The worlds that a test of the service runs in, unless it says otherwise."""

SOON = 30.0
"""Seconds until a test gives up waiting for what comes at once."""

Write = Callable[[], object]


class Synced:
    """An async object whose methods are called like sync ones: one text of a test serves both colours."""

    def __init__(self, inner: Any, runner: asyncio.Runner) -> None:
        self._inner = inner
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return value

        @wraps(value)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = value(*args, **kwargs)
            if asyncio.iscoroutine(result):
                result = self._runner.run(result)
            if type(result).__name__ in ("AsyncAttempt", "AsyncJobs"):
                return Synced(result, self._runner)
            return result

        return call


class Faulty:
    """A port of either colour, some of whose next calls go wrong.

    `lose("save")`: the call is made and its answer lost (OutcomeUnknownError). `drop("save")`: the same answer, and the call is
    not made. `stale("save")`, `fail("save", error)`: not made, with that error. `then("save", write)`: after the call was made,
    somebody else's write, before the answer. Faults of one method apply to its next calls, in order; `skip` lets some pass.
    `late("save", until="load")`: the answer is lost at once, and the call is made only right before the next one of `until`.
    With `by_row`, a `save_many` that goes wrong answers so for each row, as its contract has it, and raises nothing.
    It offers no `move_due`: a sweep then asks for `due` and `save_many`, which tests know by name.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._faults: dict[str, list[tuple[bool, Exception | None, Write | None]]] = {}
        self._late: dict[str, tuple[str, Write | None]] = {}
        self._landing: list[tuple[str, Callable[[], Any], Write | None]] = []
        self.by_row = False
        self.calls: list[str] = []
        if offers(inner, "dispatch_at"):
            self.dispatch_at = self.__getattr__("dispatch_at")

    def lose(self, method: str, *, then: Write | None = None, skip: int = 0) -> None:
        self._add(method, skip, (True, OutcomeUnknownError("job", "the answer was lost"), then))

    def drop(self, method: str, *, then: Write | None = None, skip: int = 0) -> None:
        self._add(method, skip, (False, OutcomeUnknownError("job", "the answer was lost"), then))

    def stale(self, method: str, *, then: Write | None = None, skip: int = 0) -> None:
        self._add(method, skip, (False, StaleJobError("job", 0), then))

    def fail(self, method: str, error: Exception, *, skip: int = 0) -> None:
        self._add(method, skip, (False, error, None))

    def then(self, method: str, write: Write, *, skip: int = 0) -> None:
        self._add(method, skip, (True, None, write))

    def late(self, method: str, *, until: str, then: Write | None = None, skip: int = 0) -> None:
        self.drop(method, skip=skip)
        self._late[method] = (until, then)

    def _hold(self, method: str, call: Callable[[], Any]) -> Any:
        if method in self._late:
            until, write = self._late.pop(method)
            self._landing.append((until, call, write))

    def _due(self, method: str) -> list[tuple[Callable[[], Any], Write | None]]:
        due = [(call, write) for until, call, write in self._landing if until == method]
        self._landing = [landing for landing in self._landing if landing[0] != method]
        return due

    def _add(self, method: str, skip: int, fault: tuple[bool, Exception | None, Write | None]) -> None:
        self._faults.setdefault(method, []).extend([(True, None, None)] * skip + [fault])

    def _next(self, method: str) -> tuple[bool, Exception | None, Write | None]:
        self.calls.append(method)
        waiting = self._faults.get(method)
        return waiting.pop(0) if waiting else (True, None, None)

    def __len__(self) -> int:
        return len(self._inner)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name.startswith("_") or not callable(value) or name in ("take", "keys"):
            return value
        return self._async_call(name, value) if iscoroutinefunction(value) else self._sync_call(name, value)

    def _sync_call(self, name: str, value: Any) -> Any:
        @wraps(value)
        def call(*args: Any, **kwargs: Any) -> Any:
            for landing, then in self._due(name):
                with suppress(RepositoryError):
                    landing()
                self._answer(None, None, then)
            done, error, write = self._next(name)
            result = value(*args, **kwargs) if done else self._hold(name, partial(value, *args, **kwargs))
            return self._answer(result, error, write, len(args[0]) if self.by_row and name == "save_many" else None)

        return call

    def _async_call(self, name: str, value: Any) -> Any:
        @wraps(value)
        async def call(*args: Any, **kwargs: Any) -> Any:
            for landing, then in self._due(name):
                with suppress(RepositoryError):
                    await landing()
                self._answer(None, None, then)
            done, error, write = self._next(name)
            result = await value(*args, **kwargs) if done else self._hold(name, partial(value, *args, **kwargs))
            return self._answer(result, error, write, len(args[0]) if self.by_row and name == "save_many" else None)

        return call

    @staticmethod
    def _answer(result: Any, error: Exception | None, write: Write | None, rows: int | None = None) -> Any:
        if write is not None:
            write()
        if error is not None and rows is not None:
            return [error] * rows
        if error is not None:
            raise error
        return result


class HoldingRepository(MemoryRepository):
    """A repository in memory that holds the rows of a sweep."""

    def move_due(
        self,
        due: Due,
        *,
        until: int,
        limit: int,
        after: Cursor | None = None,
        decide: Decide,
        include_request: bool = False,
    ) -> Moved:
        with self._lock:
            page = self.due(due, until=until, limit=limit, after=after)
            jobs = [self.load(job.id, include_request=include_request) for job in page.jobs]
            transitions = decide(jobs)
            return Moved(page._replace(jobs=jobs), transitions, self.save_many(transitions))


@dataclass
class World:
    """A service and all its ports. `jobs` and `attempt` objects are called like sync ones in every colour.

    `others` is a second face on the same data without faults: somebody else, who may be called in the middle of a fault.
    """

    jobs: Jobs
    others: Jobs
    repository: Any
    dispatcher: Any
    artifacts: Any
    clock: ManualClock
    policy: Policy
    organization: str = ORG
    create_options: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def ours(self) -> Jobs:
        return self.jobs.for_organization(self.organization)

    def create(self, **options: Any) -> Job:
        return self.ours.create(ENDPOINT, REQUEST, **options)

    def take(self) -> Delivery:
        delivery = self.dispatcher.take()
        assert delivery is not None, "nothing was dispatched"
        return cast("Delivery", delivery)

    def start(self, job: Job | None = None) -> Attempt[Any, Any]:
        """An attempt: of this job's present run, or of the next delivery."""
        return self.jobs.start(self.take() if job is None else self.row(job.id).delivery)

    def row(self, job_id: str) -> Job:
        """The row as it stands, payloads included, without faults."""
        return self.others._run("row", _load_all(job_id))


def until(condition: Callable[[], bool]) -> None:
    """Look again and again, up to a deadline."""
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.001)


def _load_all(job_id: str) -> Any:
    from jobstate.effects import Load

    return (yield from Load(job_id, None, True, True))


class BrokenDispatcher:
    """Takes nothing."""

    transactional = False

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        raise DispatchError("the broker is down")

    def revoke(self, task_name: str) -> None:
        raise DispatchError("the broker is down")


class Delaying(MemoryDispatcher):
    """Takes deliveries with a time, and notes it; they can be taken out at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[Delivery, int] = {}

    def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        self.times[delivery] = not_before
        return self.dispatch(delivery, task_name)


class AsyncDelaying(AsyncMemoryDispatcher):
    """The same, awaited."""

    def __init__(self, shared: Delaying) -> None:
        super().__init__(shared)
        self.shared = shared

    async def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        return self.shared.dispatch_at(delivery, task_name, not_before)


@contextmanager
def make_world(
    kind: str,
    folder: Path,
    policy: Policy | None = None,
    *,
    dispatcher: bool = True,
    delaying: Delaying | None = None,
    url: Any = None,
) -> Generator[World]:
    """A fresh world of one of WORLDS, or `postgresql` at this address; with a dispatcher that delays if one is given."""
    policy = policy or Policy()
    clock = ManualClock(NOW)
    deliveries, store = MemoryDispatcher() if delaying is None else delaying, MemoryArtifactStore()
    if kind == "async-memory":
        with asyncio.Runner() as runner:
            shared = MemoryRepository()
            ports = [
                Faulty(AsyncMemoryRepository(shared)),
                Faulty(AsyncMemoryDispatcher(deliveries) if delaying is None else AsyncDelaying(delaying)),
            ]
            artifacts = Faulty(AsyncMemoryArtifactStore(store))
            jobs = AsyncJobs(
                cast("Any", ports[0]),
                cast("Any", ports[1] if dispatcher else None),
                policy=policy,
                clock=clock,
                artifacts=cast("Any", artifacts),
            )
            others = Jobs(
                shared, deliveries if dispatcher else None, policy=policy, clock=clock, artifacts=store
            )  # sync, so that it can be called while the loop runs
            synced = cast("Jobs", Synced(jobs, runner))
            yield World(synced, others, ports[0], ports[1], artifacts, clock, policy)
        return
    with _repository(kind, folder, url) as inner:
        repository, faulty, artifacts = Faulty(inner), Faulty(deliveries), Faulty(store)
        face = Jobs(
            cast("Any", repository),
            cast("Any", faulty if dispatcher else None),
            policy=policy,
            clock=clock,
            artifacts=cast("Any", artifacts),
        )
        others = Jobs(inner, deliveries if dispatcher else None, policy=policy, clock=clock, artifacts=store)
        yield World(face, others, repository, faulty, artifacts, clock, policy)


@contextmanager
def _repository(kind: str, folder: Path, url: Any) -> Generator[Any]:
    if kind == "memory":
        yield MemoryRepository()
        return
    from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
    from tests.postgresql import emptied, engine_of
    from tests.sql import sqlite_engine

    engine = sqlite_engine(folder) if kind == "sqlite" else engine_of(url)
    if kind == "postgresql":
        emptied(engine)
    try:
        repository = SQLAlchemyRepository(engine)
        repository.create_schema()
        yield repository
    finally:
        engine.dispose()


def a_job(**fields: Any) -> Job:
    """A job of the pure core, queued in run 1 and not dispatched, with any fields changed (not validated)."""
    draft = Draft(organization_id=ORG, endpoint=ENDPOINT, request=REQUEST)
    job = new_job(draft, job_id="job_" + "A" * 21, now=NOW, operation="op_create", policy=Policy())
    return evolve(job, fields)


R = TypeVar("R")


class Meeting:
    """A sync port whose callers wait for one another before their first call of a method: all decided, and none has written.

    Several methods, with blanks between them, are one meeting.
    """

    def __init__(self, inner: Any, methods: str, parties: int) -> None:
        self._inner = inner
        self._methods = methods.split()
        self._barrier = Barrier(parties)
        self._thread = local()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name not in self._methods:
            return value

        @wraps(value)
        def call(*args: Any, **kwargs: Any) -> Any:
            if not getattr(self._thread, "met", False):
                self._thread.met = True
                self._barrier.wait(timeout=60)
            return value(*args, **kwargs)

        return call


def meeting(world: World, methods: str, parties: int) -> Jobs:
    """A face on a sync world's data, without faults, whose callers meet before their first call of a repository's method."""
    ports = world.others._ports
    return Jobs(
        cast("Any", Meeting(ports.repository, methods, parties)),
        ports.dispatcher,
        policy=world.policy,
        clock=world.clock,
        artifacts=ports.artifacts,
    )


def at_once(calls: Sequence[Callable[[], R]]) -> list[R | Exception]:
    """Each call in a thread of its own, all released together: what each returned or raised, in order."""
    barrier = Barrier(len(calls))
    answers: list[R | Exception] = [RuntimeError("no answer")] * len(calls)

    def answer(index: int) -> None:
        barrier.wait(timeout=60)
        try:
            answers[index] = calls[index]()
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this thread's answer
            answers[index] = error

    threads = [Thread(target=answer, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@dataclass
class Actor:
    """A flow that is run effect by effect: what is never stepped again was killed there."""

    flow: Flow[Any]
    ports: Ports
    effect: Effect[Any] | None = field(init=False)

    def __post_init__(self) -> None:
        self.effect = next(self.flow)

    def step(self) -> None:
        assert self.effect is not None
        try:
            try:
                result = perform(self.effect, self.ports)
            except Exception as error:  # noqa: BLE001  # thrown in, as the drivers do
                self.effect = self.flow.throw(error)
            else:
                self.effect = self.flow.send(result)
        except StopIteration:
            self.effect = None

    def finish(self) -> None:
        while self.effect is not None:
            self.step()
