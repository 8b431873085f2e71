"""What carries deliveries to workers."""

from __future__ import annotations

from typing import Any, Protocol

from jobstate.model import Delivery


class Dispatcher(Protocol):
    """Carries deliveries to workers.

    `dispatch` may raise anything, having taken the delivery or not; the library dispatches again.

    D01 `dispatch` that returns has taken the delivery: it is delivered at least once, at any later time, in any order.
    D02 `dispatch` answers a name for `revoke`: the engine's own, or the one it was given.
    D03 An engine that drops a `task_name` it has seen drops only repeats: another name for the same run is delivered.
        While the first one waits, the engine may answer that name again, and deliver once.
    D04 `revoke` takes a task back if it can, and says nothing if it cannot, or never saw it. Nothing rests on it. It takes back
        no other.
    D05 A `transactional` dispatcher's delivery is delivered if and only if the transaction it was given commits.
    D06 Every method may be called by several threads at once (the async twin: by several tasks).
    """

    @property
    def transactional(self) -> bool:
        """Whether it writes to the database of the job. D05."""
        ...

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        """Take a delivery. D01 to D03; with `transaction`, D05."""
        ...

    def revoke(self, task_name: str) -> None:
        """Take a task back. D04."""
        ...


class AsyncDispatcher(Protocol):
    """`Dispatcher`, awaited."""

    @property
    def transactional(self) -> bool:
        """As `Dispatcher.transactional`."""
        ...

    async def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        """As `Dispatcher.dispatch`."""
        ...

    async def revoke(self, task_name: str) -> None:
        """As `Dispatcher.revoke`."""
        ...


class DelayedDispatch(Protocol):
    """What a dispatcher offers besides, when its engine can hold a delivery until a time.

    Without it a job that may not start yet stays pending, and the relay dispatches it when it is due. A time that the engine
    cannot hold, because it is too far away, may raise anything, as ever: then the relay does it as well.

    L01 What `dispatch_at` has taken is not delivered before `not_before`, by a clock that may differ from the library's by
        `Policy.clock_skew`. One that comes early all the same is returned by its worker, and breaks nothing.
    L02 It is delivered at least once afterwards; at once if `not_before` is past. In all else it is as `dispatch`.
    L03 A `transactional` dispatcher's delayed delivery is delivered if and only if the transaction it was given commits.
    """

    def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        """Take a delivery that is due at `not_before` (Unix seconds); answer its name. L01, L02; with `transaction`, L03."""
        ...


class AsyncDelayedDispatch(Protocol):
    """`DelayedDispatch`, awaited."""

    async def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        """As `DelayedDispatch.dispatch_at`."""
        ...
