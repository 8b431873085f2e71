"""Dispatchers and artifact stores with one fault each, and the clause that catches it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from threading import Event
from typing import Any

from jobstate.errors import ArtifactConflictError, ArtifactNotFoundError, DispatchError
from jobstate.memory import AsyncMemoryArtifactStore, AsyncMemoryDispatcher, MemoryArtifactStore, MemoryDispatcher
from jobstate.model import Delivery


class SwallowsADispatch(MemoryDispatcher):
    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        return task_name if delivery.run == 2 else super().dispatch(delivery, task_name)


class DeliversAnotherRun(MemoryDispatcher):
    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        return super().dispatch(delivery.model_copy(update={"run": delivery.run % 256}), task_name)


class DropsASecondDeliveryOfAJob(MemoryDispatcher):
    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        return (
            task_name
            if any(task[1].job_id == delivery.job_id for task in self._tasks)
            else super().dispatch(delivery, task_name)
        )


class AnswersNothing(MemoryDispatcher):
    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        super().dispatch(delivery, task_name)
        return ""


class DropsARunItHasSeen(MemoryDispatcher):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, int]] = set()

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        run = (delivery.job_id, delivery.run)
        if run not in self.seen:
            self.seen.add(run)
            super().dispatch(delivery, task_name)
        return task_name


class RaisesOnAnUnknownTask(MemoryDispatcher):
    def revoke(self, task_name: str) -> None:
        if all(task[0] != task_name for task in self._tasks):
            raise DispatchError(f"no task {task_name}")
        super().revoke(task_name)


class DropsWhatWaitsUnderAnotherName(MemoryDispatcher):
    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        waits = any(task[1] == delivery for task in self._tasks)
        return task_name if waits else super().dispatch(delivery, task_name)


class CutsNames(MemoryDispatcher):
    """And drops what it then takes for a repeat."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        name = task_name[:32]
        if name not in self.seen:
            self.seen.add(name)
            super().dispatch(delivery, task_name)
        return task_name


class RevokesAll(MemoryDispatcher):
    def revoke(self, task_name: str) -> None:
        self._tasks.clear()


class RevokesNamesThatBeginAlike(MemoryDispatcher):
    def revoke(self, task_name: str) -> None:
        self._tasks = deque(task for task in self._tasks if not task[0].startswith(task_name))


class AnswersOneNameForAll(MemoryDispatcher):
    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        return super().dispatch(delivery, "queue")


class Delaying(MemoryDispatcher):
    """Holds what is delayed until its time."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[int, str, Delivery]] = []

    def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        self.held.append((not_before, task_name, delivery))
        return task_name

    def take(self) -> Delivery | None:
        for task in [task for task in self.held if task[0] <= time.time()]:
            self.held.remove(task)
            super().dispatch(task[2], task[1])
        return super().take()


class TakesNoNoticeOfItsTransaction(Delaying):
    """Takes a delivery whether its transaction commits or not."""

    transactional = True


class TakesNoNoticeOfTheTime(Delaying):
    def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        return self.dispatch(delivery, task_name)


class TakesTheTimeForAPause(Delaying):
    def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        return super().dispatch_at(delivery, task_name, int(time.time()) + not_before)


class LosesWhatIsPast(Delaying):
    def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        return task_name if not_before < time.time() - 1 else super().dispatch_at(delivery, task_name, not_before)


class OverwritesArtifacts(MemoryArtifactStore):
    def put(self, key: str, data: bytes) -> None:
        try:
            super().put(key, data)
        except ArtifactConflictError:
            self.delete(key)
            super().put(key, data)


class RefusesTheSameBytes(MemoryArtifactStore):
    def put(self, key: str, data: bytes) -> None:
        if key in self.keys():
            raise ArtifactConflictError(key)
        super().put(key, data)


class CutsBytes(MemoryArtifactStore):
    def put(self, key: str, data: bytes) -> None:
        super().put(key, data[:2_000_000])


class AnswersNoBytesForAnUnknownKey(MemoryArtifactStore):
    def get(self, key: str) -> bytes:
        try:
            return super().get(key)
        except ArtifactNotFoundError:
            return b""


class LeaksAKeyError(MemoryArtifactStore):
    def get(self, key: str) -> bytes:
        try:
            return super().get(key)
        except ArtifactNotFoundError as error:
            raise KeyError(key) from error


class DeletesLikeAPrefix(MemoryArtifactStore):
    def delete(self, prefix: str) -> None:
        super().delete(prefix.rstrip("/"))


class DeletesOneKeyOnly(MemoryArtifactStore):
    def delete(self, prefix: str) -> None:
        for key in [key for key in self.keys() if key.startswith(prefix)][:1]:
            super().delete(key)


class NeedsSomethingToDelete(MemoryArtifactStore):
    def delete(self, prefix: str) -> None:
        if not any(key.startswith(prefix) for key in self.keys()):
            raise ArtifactNotFoundError(prefix)
        super().delete(prefix)


# What shows in a race only


def wire() -> None:
    """As long as an answer takes on its way: others come in between."""
    Event().wait(0.001)


class ForgetsWhatIsAddedMeanwhile(MemoryDispatcher):
    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        tasks = [*self._tasks, (task_name, delivery)]
        wire()
        self._tasks = deque(tasks)
        return task_name


class LooksForATaskWhileOthersAreAdded(MemoryDispatcher):
    def revoke(self, task_name: str) -> None:
        found: list[tuple[str, Delivery]] = []
        for task in self._tasks:
            wire()
            if task[0] == task_name:
                found.append(task)
        for task in found:
            self._tasks.remove(task)


class AsyncForgetsWhatIsAddedMeanwhile(AsyncMemoryDispatcher):
    async def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        tasks = [*self._sync._tasks, (task_name, delivery)]
        await asyncio.sleep(0)
        self._sync._tasks = deque(tasks)
        return task_name


class LooksBeforeItPuts(MemoryArtifactStore):
    def put(self, key: str, data: bytes) -> None:
        if key in self._data and self._data[key] != data:
            raise ArtifactConflictError(key)
        wire()
        self._data[key] = data


class PutsPartByPart(MemoryArtifactStore):
    def put(self, key: str, data: bytes) -> None:
        for end in (len(data) // 2, len(data)):
            self._data[key] = data[:end]
            wire()


class AsyncLooksBeforeItPuts(AsyncMemoryArtifactStore):
    async def put(self, key: str, data: bytes) -> None:
        if self._sync._data.get(key, data) != data:
            raise ArtifactConflictError(key)
        await asyncio.sleep(0)
        self._sync._data[key] = data


DISPATCHERS: list[tuple[type[MemoryDispatcher], str]] = [
    (SwallowsADispatch, "D01"),
    (DeliversAnotherRun, "D01"),
    (DropsASecondDeliveryOfAJob, "D01"),
    (AnswersNothing, "D02"),
    (DropsARunItHasSeen, "D03"),
    (DropsWhatWaitsUnderAnotherName, "D03"),
    (CutsNames, "D03"),
    (RaisesOnAnUnknownTask, "D04"),
    (RevokesAll, "D04"),
    (RevokesNamesThatBeginAlike, "D04"),
    (AnswersOneNameForAll, "D04"),
]
DELAYING: list[tuple[type[Delaying], str]] = [
    (TakesNoNoticeOfTheTime, "L01"),
    (TakesTheTimeForAPause, "L02"),
    (LosesWhatIsPast, "L02"),
]
STORES: list[tuple[type[MemoryArtifactStore], str]] = [
    (CutsBytes, "A01"),
    (RefusesTheSameBytes, "A02"),
    (OverwritesArtifacts, "A03"),
    (AnswersNoBytesForAnUnknownKey, "A04"),
    (LeaksAKeyError, "A04"),
    (DeletesLikeAPrefix, "A05"),
    (DeletesOneKeyOnly, "A05"),
    (NeedsSomethingToDelete, "A06"),
]
