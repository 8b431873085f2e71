"""An `AsyncDispatcher` made of a `Dispatcher`, for engines whose client blocks: each call in a thread of the event loop's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from jobstate.model import Delivery
from jobstate.ports import DelayedDispatch, Dispatcher, offers


class InThreads:
    """The dispatcher that it is given, awaited; `AsyncJobs(repository, InThreads(dispatcher))`.

    A call that is cancelled goes on in its thread, and may yet have its effect. It has `dispatch_at` if the dispatcher has.
    """

    transactional = False

    dispatch_at: Callable[..., Awaitable[str]]
    """As the dispatcher's."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        if dispatcher.transactional:
            name = type(dispatcher).__name__
            raise ValueError(f"{name} writes in a transaction of the repository's, which belongs to no other thread")
        self._dispatcher = dispatcher
        if offers(dispatcher, "dispatch_at"):
            self.dispatch_at = _awaited(cast("DelayedDispatch", dispatcher).dispatch_at)

    async def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        """As `Dispatcher.dispatch`."""
        return await asyncio.to_thread(self._dispatcher.dispatch, delivery, task_name)

    async def revoke(self, task_name: str) -> None:
        """As `Dispatcher.revoke`."""
        await asyncio.to_thread(self._dispatcher.revoke, task_name)


def _awaited(call: Callable[..., str]) -> Callable[..., Awaitable[str]]:
    async def awaited(*args: Any, **options: Any) -> str:
        return await asyncio.to_thread(call, *args, **options)

    return awaited
