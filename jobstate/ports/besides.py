"""What a repository may offer besides; the library does without."""

from __future__ import annotations

from inspect import getattr_static
from typing import Any, Protocol

from jobstate.effects import Decide, Moved
from jobstate.query import Cursor, Due


def offers(port: object, method: str) -> bool:
    """Whether a port has a method that it need not have, on its class or in its own attributes.

    One that only `__getattr__` finds does not count: it belongs to what the port wraps, and would go past the port. Nor does
    None, or a property that answers None or raises AttributeError.
    """
    return getattr_static(port, method, None) is not None and getattr(port, method, None) is not None


class SharedSweeps(Protocol):
    """What a repository offers besides, when it can hold rows for one sweep, so that several sweeps at once share the work.

    Without it a sweep asks for `due` and then for `save_many`: the same in the end, but two sweeps at once decide on the same
    rows, and one of them in vain.

    S01 `move_due` answers a part of a due page as `due` does, with their requests if asked for, gives its readable rows to
        `decide` once, and saves what that accepts as `save_many` does. Rows that another one holds at that moment may be left
        out.
    S02 What `decide` raises is passed on, and nothing is saved.
    S03 Of several at once, each row is given to one.
    """

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
        """Decide and save a part of a due page, holding its rows meanwhile. S01 to S03. Each row atomic, not all together."""
        ...


class AsyncSharedSweeps(Protocol):
    """`SharedSweeps`, awaited; `decide` is a plain function."""

    async def move_due(
        self,
        due: Due,
        *,
        until: int,
        limit: int,
        after: Cursor | None = None,
        decide: Decide,
        include_request: bool = False,
    ) -> Moved:
        """As `SharedSweeps.move_due`."""
        ...


class HostTransactions(Protocol):
    """What a repository offers besides, when it can write in a transaction of the host's.

    B01 What the repository that `bind` answers has written is there if the host commits, and is not if it rolls back.
    B02 It begins no transaction and ends none; a write of its own that fails is whole, or not there.
    """

    def bind(self, transaction: Any) -> Any:
        """The same repository, of the same colour, as a part of the transaction. B01, B02."""
        ...


class Notices(Protocol):
    """What a repository offers besides, when it can wake workers that wait for pending jobs.

    N01 `wait` of each listener answers True soon after a write of the repository that `announcing` answers has queued a job
        that is due, and has been committed. One notice stands for all of the following `jobstate.notices.PAUSE`: who hears it
        looks at once, and once more after that.
    N02 Without that, it answers False when the seconds have passed.

    A write is done whether it could be announced or not.
    """

    def announcing(self) -> Any:
        """The same repository, whose writes tell listeners when they have queued a job that is due. N01."""
        ...

    def listen(self) -> Listener:
        """Listen from now on. N01, N02."""
        ...


class Listener(Protocol):
    """One who waits for notices. For one thread (the async twin: one task) at a time."""

    def wait(self, seconds: float) -> bool:
        """Whether there was a notice within these seconds, or since the last call. N01, N02. Raises RepositoryError."""
        ...

    def close(self) -> None:
        """Listen no more."""
        ...


class AsyncNotices(Protocol):
    """`Notices`, awaited; `announcing` is a plain method."""

    def announcing(self) -> Any:
        """As `Notices.announcing`."""
        ...

    async def listen(self) -> AsyncListener:
        """As `Notices.listen`."""
        ...


class AsyncListener(Protocol):
    """`Listener`, awaited."""

    async def wait(self, seconds: float) -> bool:
        """As `Listener.wait`."""
        ...

    async def close(self) -> None:
        """As `Listener.close`."""
        ...
