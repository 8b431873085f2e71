"""What ends at once is told as one: each attempt as if it had been alone, none forgotten, and no handler waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from threading import Event as Flag
from threading import Lock, Semaphore, Thread
from typing import Any

import pytest

from jobstate import (
    Accepted,
    AsyncContext,
    AsyncJobs,
    AsyncWorker,
    Attempt,
    Context,
    Job,
    Jobs,
    OutcomeUnknownError,
    RepositoryError,
    Worker,
)
from jobstate.effects import Flow, Load
from jobstate.endings import AsyncEndings, Endings
from jobstate.memory import AsyncMemoryRepository, MemoryRepository
from jobstate.observe import Observer
from jobstate.telling import Ended, RunFate, RunResult, tell_together
from jobstate.together import together
from jobstate.worker import JobFailed, async_handle, handle
from tests.support import ENDPOINT, ORG, SOON, until


class Noted(MemoryRepository):
    """Notes what is saved as one; `faults` says what befalls the next savings, after they were done or before."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[list[str]] = []
        self.held = Flag()
        self.held.set()
        self.entered = Flag()
        self.faults: list[tuple[Exception, bool]] = []

    def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        self.sent.append([transition.job_id for transition in transitions])
        self.entered.set()
        assert self.held.wait(SOON)
        error, done = self.faults.pop(0) if self.faults else (None, True)
        answers = list(super().save_many(transitions)) if done else []
        if error is not None:
            raise error
        return answers


def started(jobs: Jobs, count: int) -> list[Attempt[Any, Any]]:
    for number in range(count):
        jobs.create(ENDPOINT, {"number": number}, organization_id=ORG)
    return list(jobs.take(count))


def ended(attempt: Attempt[Any, Any], handler: Callable[[Any, Context], Any] = lambda request, _: request["number"]) -> Ended:
    ends = handle(attempt, handler, True, None)
    assert not isinstance(ends, RunResult)
    return attempt, ends


def fails(request: Any, context: Context) -> None:
    raise JobFailed("broken", "it is broken")


def test_each_ends_in_its_own_way_in_one_saving() -> None:
    """Completed, failed, released, a result that is no JSON, and one whose job was cancelled meanwhile."""
    repository = Noted()
    jobs = Jobs(repository)
    attempts = started(jobs, 5)
    jobs.cancel(attempts[4].job_id)
    endings = [
        ended(attempts[0]),
        ended(attempts[1], fails),
        ended(attempts[2], lambda request, _: 1 / 0),
        ended(attempts[3], lambda request, _: {1, 2}),
        ended(attempts[4]),
    ]
    fates = [result.fate for result in tell_together(endings)]
    assert fates == [RunFate.COMPLETED, RunFate.FAILED, RunFate.RELEASED, RunFate.FAILED, RunFate.LOST]
    assert repository.sent[0] == [attempt.job_id for attempt in attempts]
    rows = [jobs.retrieve(attempt.job_id, include_response=True) for attempt in attempts]
    assert [row.status for row in rows] == ["completed", "failed", "queued", "failed", "cancelled"]
    assert [row.error and row.error.code for row in rows] == [None, "broken", None, "invalid_result", None]
    assert [record.event for record in jobs.history(attempts[0].job_id)] == ["created", "start", "complete"]


@pytest.mark.parametrize("done", [True, False])
def test_whose_answer_was_lost_is_found_or_told_again(done: bool) -> None:
    """Whether the saving was done or not, each attempt ends once."""
    repository = Noted()
    jobs = Jobs(repository)
    attempts = started(jobs, 3)
    repository.faults = [(OutcomeUnknownError("several jobs", "lost"), done)]
    assert tell_together([ended(attempt) for attempt in attempts]) == [RunResult(RunFate.COMPLETED)] * 3
    for attempt in attempts:
        assert [record.event for record in jobs.history(attempt.job_id)] == ["created", "start", "complete"]


def test_an_answer_that_stays_lost_is_told_by_itself_in_the_end() -> None:
    repository = Noted()
    jobs = Jobs(repository)
    attempts = started(jobs, 2)
    repository.faults = [(OutcomeUnknownError("several jobs", "lost"), False)] * 10
    assert tell_together([ended(attempt) for attempt in attempts]) == [RunResult(RunFate.COMPLETED)] * 2


def test_an_error_of_all_is_told_of_each() -> None:
    repository = Noted()
    jobs = Jobs(repository)
    attempts = started(jobs, 2)
    repository.faults = [(RepositoryError("the database is gone"), False)]
    results = tell_together([ended(attempt) for attempt in attempts])
    assert results == [RunResult(RunFate.UNKNOWN, "RepositoryError")] * 2


def test_two_endings_of_one_job_follow_one_another() -> None:
    """`save_many` is asked of different jobs only; the second one finds what the first has done."""
    repository = Noted()
    jobs = Jobs(repository)
    (attempt,) = started(jobs, 1)
    results = tell_together([ended(attempt), ended(attempt)])
    assert [result.fate for result in results] == [RunFate.COMPLETED] * 2
    assert repository.sent == [[attempt.job_id], [attempt.job_id]]
    assert [record.event for record in jobs.history(attempt.job_id)] == ["created", "start", "complete"]


def test_flows_side_by_side_end_each_for_itself() -> None:
    """One that saves nothing, one that raises, and one whose effect raises."""

    def plain() -> Flow[int]:
        yield from ()
        return 1

    def raises() -> Flow[int]:
        yield from ()
        raise ValueError("no")

    def asks() -> Flow[str]:
        try:
            yield from Load("job_" + "0" * 21)
        except RepositoryError as error:
            return type(error).__name__
        return "found"

    jobs = Jobs(MemoryRepository())
    one, error, name = jobs._run("together", together([plain(), raises(), asks()]))
    assert (one, name) == (1, "JobNotFoundError")
    assert isinstance(error, ValueError)


def test_what_comes_while_one_tells_is_told_as_one_and_nobody_waits() -> None:
    repository = Noted()
    jobs = Jobs(repository)
    attempts = started(jobs, 6)
    endings = Endings()
    repository.held.clear()
    leader = Thread(target=endings.add, args=(ended(attempts[0]),), daemon=True)
    leader.start()
    assert repository.entered.wait(SOON)
    for attempt in attempts[1:]:
        endings.add(ended(attempt))
    assert len(endings) == 5
    repository.held.set()
    leader.join(SOON)
    assert [len(batch) for batch in repository.sent] == [1, 5]
    assert jobs.count(status="completed") == 6
    assert len(endings) == 0


@pytest.mark.parametrize("lost", [True, False])
def test_what_a_handler_returned_is_told_as_it_was_then(lost: bool) -> None:
    """Whatever becomes of the object while it waits, also when it is told again."""
    repository = Noted()
    jobs = Jobs(repository)
    first, second = started(jobs, 2)
    kept = {"number": 1}
    endings = Endings()
    repository.held.clear()
    repository.faults = [(OutcomeUnknownError("several jobs", "lost"), False)] * 4 if lost else []
    leader = Thread(target=endings.add, args=(ended(first),), daemon=True)
    leader.start()
    assert repository.entered.wait(SOON)
    endings.add(ended(second, lambda request, _: kept))
    kept["number"] = 2
    repository.held.set()
    leader.join(SOON)
    response = jobs.retrieve(second.job_id, include_response=True).response
    assert response is not None
    assert response.body == {"number": 1}


def test_who_tells_and_breaks_leaves_the_telling_to_the_next() -> None:
    repository = Noted()
    jobs = Jobs(repository)
    first, second = started(jobs, 2)
    endings = Endings()
    interrupt: Any = KeyboardInterrupt()
    repository.faults = [(interrupt, False)]
    with pytest.raises(KeyboardInterrupt):
        endings.add(ended(first))
    endings.add(ended(second))
    assert jobs.retrieve(second.job_id).status == "completed"


def test_what_waits_behind_one_who_breaks_is_told_with_his_when_the_worker_looks() -> None:
    """With no further end to come: all hands are done, and wait for one that was interrupted while he told."""
    repository = Noted()
    jobs = Jobs(repository)
    for number in range(9):
        jobs.create(ENDPOINT, {"number": number}, organization_id=ORG)
    interrupt: Any = SystemExit()
    repository.faults = [(interrupt, False)]
    repository.held.clear()
    worker = Worker(jobs, lambda request, _: request["number"], concurrency=3, poll=0.01)
    thread = Thread(target=worker.run, daemon=True)
    thread.start()
    try:
        until(lambda: len(worker._endings) >= 3 and worker._crew.busy == 1 and not worker._taken.attempts)
        repository.held.set()
        until(lambda: jobs.count(status="completed") == 9)
    finally:
        repository.held.set()
        worker.stop()
        thread.join(SOON)
    for job in jobs.list().data:
        assert [record.event for record in jobs.history(job.id)] == ["created", "start", "complete"]


def test_answers_that_are_too_few_stop_nobody() -> None:
    """A repository that breaks its contract: what it was told is in doubt, what follows is told."""

    class Short(Noted):
        def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
            answers = super().save_many(transitions)
            return answers[1:] if len(self.sent) == 1 else answers

    repository = Short()
    jobs = Jobs(repository)
    first, second = started(jobs, 2)
    endings = Endings()
    endings.add(ended(first))
    endings.add(ended(second))
    assert jobs.retrieve(second.job_id).status == "completed"


def test_a_worker_runs_on_while_ends_are_told_and_takes_no_more_than_it_can_tell() -> None:
    """With a saving that stands still: three hands end as many jobs as they may, and then nothing more is taken."""
    repository = Noted()
    jobs = Jobs(repository)
    lock, seen = Lock(), list[int]()

    def handler(request: Any, context: Context) -> None:
        with lock:
            seen.append(request["number"])

    for number in range(30):
        jobs.create(ENDPOINT, {"number": number}, organization_id=ORG)
    repository.held.clear()
    worker = Worker(jobs, handler, concurrency=3, poll=0.01)
    thread = Thread(target=worker.run, daemon=True)
    thread.start()
    try:
        until(lambda: len(seen) > 3)
        until(lambda: len(worker._endings) >= 3)
        assert worker._idle() == 0
        assert jobs.count(status="in_progress") <= 9
        assert jobs.count(status="completed") == 0
        repository.held.set()
        until(lambda: jobs.count(status="completed") == 30)
    finally:
        repository.held.set()
        worker.stop()
        thread.join(SOON)
    assert not thread.is_alive()
    assert sorted(seen) == list(range(30))


def test_a_worker_that_stops_has_told_all_that_ended() -> None:
    repository = Noted()
    jobs = Jobs(repository)
    for number in range(40):
        jobs.create(ENDPOINT, {"number": number}, organization_id=ORG)
    worker = Worker(jobs, lambda request, _: request["number"], concurrency=4, poll=0.01)
    thread = Thread(target=worker.run, daemon=True)
    thread.start()
    until(lambda: jobs.count(status="completed") > 0)
    worker.stop()
    thread.join(SOON)
    assert not thread.is_alive()
    assert jobs.count(status="in_progress") == 0


class OneByOne(MemoryRepository):
    """Lets one saving after the other through."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[int] = []
        self.turns = Semaphore(0)

    def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        self.begun.append(len(transitions))
        assert self.turns.acquire(timeout=SOON)
        return super().save_many(transitions)


def test_who_leaves_waits_for_what_another_is_telling() -> None:
    """A worker without grace, say: the hands of these attempts are free, nothing waits, and they are not told yet."""
    repository = OneByOne()
    jobs = Jobs(repository)
    attempts = started(jobs, 3)
    endings = Endings()
    teller = Thread(target=endings.add, args=(ended(attempts[0]),), daemon=True)
    teller.start()
    until(lambda: repository.begun == [1])
    endings.add(ended(attempts[1]))
    endings.add(ended(attempts[2]))
    repository.turns.release()
    until(lambda: repository.begun == [1, 2])
    leaves = Thread(target=endings.tell, daemon=True)
    leaves.start()
    leaves.join(0.2)
    assert leaves.is_alive()
    repository.turns.release()
    leaves.join(SOON)
    assert jobs.count(status="completed") == 3
    teller.join(SOON)


class Hears(Observer):
    def __init__(self) -> None:
        self.fates: list[str] = []

    def delivery(self, delivery: Any, fate: str, reason: str | None) -> None:
        self.fates.append(fate)


def test_who_is_observed_ends_by_himself() -> None:
    """Within his own span, with the fate that the observer is told."""
    hears = Hears()
    repository = MemoryRepository()
    jobs = Jobs(repository, observers=[hears])
    for number in range(5):
        jobs.create(ENDPOINT, {"number": number}, organization_id=ORG)
    worker = Worker(jobs, lambda request, _: request["number"], concurrency=2, poll=0.01)
    thread = Thread(target=worker.run, daemon=True)
    thread.start()
    until(lambda: len(hears.fates) == 5)
    worker.stop()
    thread.join(SOON)
    assert hears.fates == ["completed"] * 5


# Awaited


class AsyncNoted(AsyncMemoryRepository):
    """`Noted`, awaited."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[int] = []
        self.held = asyncio.Event()
        self.held.set()
        self.faults: list[Exception] = []

    async def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        self.sent.append(len(transitions))
        await self.held.wait()
        if self.faults:
            raise self.faults.pop()
        return await super().save_many(transitions)


def test_tasks_end_together_and_run_on_meanwhile() -> None:
    async def main() -> None:
        repository = AsyncNoted()
        jobs = AsyncJobs(repository)
        seen: list[int] = []

        async def handler(request: Any, context: AsyncContext) -> None:
            seen.append(request["number"])

        for number in range(30):
            await jobs.create(ENDPOINT, {"number": number}, organization_id=ORG)
        repository.held.clear()
        repository.faults = [OutcomeUnknownError("several jobs", "lost")]
        worker = AsyncWorker(jobs, handler, concurrency=5, poll=0.01)
        running = asyncio.create_task(worker.run())
        async with asyncio.timeout(SOON):
            while not repository.sent or len(worker._endings) < 5:
                await asyncio.sleep(0)
            assert worker._idle() == 0
            assert len(seen) > 5
            repository.held.set()
            while await jobs.count(status="completed") < 30:
                await asyncio.sleep(0)
            worker.stop()
            await running
        assert sorted(seen) == list(range(30))
        assert len(repository.sent) < 20

    asyncio.run(main())


def test_a_cancelled_async_worker_tells_what_has_ended() -> None:
    async def main() -> None:
        repository = AsyncNoted()
        jobs = AsyncJobs(repository)
        job: Job = await jobs.create(ENDPOINT, {"number": 1}, organization_id=ORG)
        repository.held.clear()

        async def handler(request: Any, context: AsyncContext) -> int:
            return 1

        running = asyncio.create_task(AsyncWorker(jobs, handler, concurrency=2, poll=0.01).run())
        async with asyncio.timeout(SOON):
            while not repository.sent:
                await asyncio.sleep(0)
            running.cancel()
            for _ in range(200):
                await asyncio.sleep(0)
            assert not running.done(), "it leaves while something is being told"
            repository.held.set()
            with pytest.raises(asyncio.CancelledError):
                await running
        assert (await jobs.retrieve(job.id)).status == "completed"

    asyncio.run(main())


def test_what_waits_is_told_when_all_tasks_are_cancelled() -> None:
    """As `asyncio.run` does at its end, and many a program before: the task that tells is among them."""

    async def main() -> None:
        repository = AsyncNoted()
        jobs = AsyncJobs(repository)
        for number in range(9):
            await jobs.create(ENDPOINT, {"number": number}, organization_id=ORG)
        repository.held.clear()

        async def handler(request: Any, context: AsyncContext) -> None:
            return

        worker = AsyncWorker(jobs, handler, concurrency=3, poll=0.01)
        running = asyncio.create_task(worker.run())
        async with asyncio.timeout(SOON):
            while not repository.sent or len(worker._endings) < 3:
                await asyncio.sleep(0)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            repository.held.set()
            with pytest.raises(asyncio.CancelledError):
                await running
        assert await jobs.count(status="completed") >= 4
        assert await jobs.count(status="in_progress") == 0

    asyncio.run(main())


def test_tasks_that_wait_behind_a_telling_that_was_cancelled_are_told() -> None:
    async def main() -> None:
        repository = AsyncNoted()
        jobs = AsyncJobs(repository)
        for number in range(9):
            await jobs.create(ENDPOINT, {"number": number}, organization_id=ORG)
        repository.held.clear()

        async def handler(request: Any, context: AsyncContext) -> None:
            return

        worker = AsyncWorker(jobs, handler, concurrency=3, poll=0.01)
        running = asyncio.create_task(worker.run())
        async with asyncio.timeout(SOON):
            while len(worker._endings) < 3 or worker._crew.busy or worker._taken.attempts:
                await asyncio.sleep(0)
            (teller,) = [task for task in asyncio.all_tasks() if task.get_name() == "jobstate-endings"]
            teller.cancel()
            repository.held.set()
            while await jobs.count(status="completed") < 9:
                await asyncio.sleep(0)
            worker.stop()
            await running
        assert [row.attempt_count for row in (await jobs.list()).data] == [1] * 9

    asyncio.run(main())


def test_who_cannot_wait_any_longer_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        repository = AsyncNoted()
        jobs = AsyncJobs(repository)
        job = await jobs.create(ENDPOINT, {"number": 1}, organization_id=ORG)
        (attempt,) = await jobs.take()

        async def handler(request: Any, context: AsyncContext) -> int:
            return 1

        async def nothing() -> None:
            return

        ends = await async_handle(attempt, handler, True, None)
        assert not isinstance(ends, RunResult)
        endings = AsyncEndings(nothing)
        repository.held.clear()
        endings.add((attempt, ends))
        await endings.told(0)
        assert "still being told after 0 s" in caplog.text
        repository.held.set()
        await endings.told(SOON)
        assert (await jobs.retrieve(job.id)).status == "completed"

    asyncio.run(main())
