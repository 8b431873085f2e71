"""What races have in common: calls that begin together, in threads that change places as often as they can, or in tasks."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import Any

PARTIES = 8
ROUNDS = 20


@contextmanager
def _restless() -> Generator[None]:
    """Threads change places as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Make these calls in threads that begin together: what each answered, or raised."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait(60)
        try:
            return call()
        except Exception as error:  # noqa: BLE001  # the answer
            return error

    with _restless(), ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


async def tasks_at_once(*calls: Coroutine[Any, Any, Any]) -> list[Any]:
    """The same in tasks of one loop."""
    return list(await asyncio.gather(*calls, return_exceptions=True))
