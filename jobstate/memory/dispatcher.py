"""The dispatcher in memory, of both colours."""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import Any

from jobstate.model import Delivery


class MemoryDispatcher:
    """A `Dispatcher` whose deliveries wait in memory until they are taken: for tests, and for a worker of one's own."""

    transactional = False

    def __init__(self) -> None:
        self._lock = Lock()
        self._tasks: deque[tuple[str, Delivery]] = deque()

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        """As `Dispatcher.dispatch`."""
        with self._lock:
            self._tasks.append((task_name, delivery))
        return task_name

    def revoke(self, task_name: str) -> None:
        """As `Dispatcher.revoke`."""
        with self._lock:
            self._tasks = deque(task for task in self._tasks if task[0] != task_name)

    def take(self) -> Delivery | None:
        """The oldest delivery, taken out; None when there is none."""
        with self._lock:
            return self._tasks.popleft()[1] if self._tasks else None

    def __len__(self) -> int:
        """How many deliveries wait."""
        return len(self._tasks)


class AsyncMemoryDispatcher:
    """An `AsyncDispatcher` in memory; give it a `MemoryDispatcher` to share its deliveries."""

    transactional = False

    def __init__(self, shared: MemoryDispatcher | None = None) -> None:
        self._sync = MemoryDispatcher() if shared is None else shared

    async def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        """As `Dispatcher.dispatch`."""
        return self._sync.dispatch(delivery, task_name)

    async def revoke(self, task_name: str) -> None:
        """As `Dispatcher.revoke`."""
        self._sync.revoke(task_name)

    def take(self) -> Delivery | None:
        """The oldest delivery, taken out; None when there is none."""
        return self._sync.take()

    def __len__(self) -> int:
        """How many deliveries wait."""
        return len(self._sync)
