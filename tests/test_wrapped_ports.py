"""A port that forwards what it does not know to another one: its wrapper's methods are called, and never gone past."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from jobstate import AsyncJobs, Jobs
from jobstate.effects import Moved
from jobstate.errors import RepositoryError
from jobstate.in_threads import InThreads
from jobstate.lifecycle import Accepted
from jobstate.memory import AsyncMemoryRepository, MemoryRepository
from jobstate.notices import AsyncPolling, Polling
from jobstate.ports import offers
from jobstate.query import DuePage
from jobstate.testing import ManualClock
from tests.support import NOW, ORG, Delaying


class Capable(MemoryRepository):
    """Offers all that a repository may offer, and notes what of it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def move_due(self, *args: Any, **options: Any) -> Moved:
        self.asked.append("move_due")
        return Moved(DuePage([], None, []), [], [])

    def announcing(self) -> Capable:
        self.asked.append("announcing")
        return self

    def listen(self) -> Polling:
        self.asked.append("listen")
        return Polling()

    def bind(self, transaction: Any) -> Capable:
        self.asked.append("bind")
        return self


class AsyncCapable(AsyncMemoryRepository):
    """The same, awaited, as far as the colours differ."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def listen(self) -> AsyncPolling:
        self.asked.append("listen")
        return AsyncPolling()


class Forwarding:
    """Forwards what it does not know."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Noting(Forwarding):
    """Notes what is saved."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.saved: list[str] = []

    def save_many(self, transitions: Sequence[Accepted]) -> Sequence[RepositoryError | None]:
        self.saved += [str(transition.event) for transition in transitions]
        answers: Sequence[RepositoryError | None] = self._inner.save_many(transitions)
        return answers


def bind(jobs: Jobs) -> None:
    with pytest.raises(TypeError, match="Noting has no method 'bind'"):
        jobs.bind(None)


ASKS: dict[str, Callable[[Jobs], object]] = {
    "announcing": lambda jobs: jobs,
    "listen": lambda jobs: jobs.listen(),
    "move_due": lambda jobs: jobs.expire(),
    "bind": bind,
}


def faced(repository: Any) -> Jobs:
    return Jobs(repository, clock=ManualClock(NOW))


@pytest.mark.parametrize("ask", ASKS)
def test_what_only_the_inner_repository_offers_is_not_asked_for(ask: str) -> None:
    inner = Capable()
    ASKS[ask](faced(Noting(inner)))
    assert inner.asked == []


@pytest.mark.parametrize("ask", ASKS)
def test_what_a_repository_itself_offers_is(ask: str) -> None:
    inner = Capable()
    jobs = faced(inner)
    jobs.bind(None) if ask == "bind" else ASKS[ask](jobs)
    assert ask in inner.asked


def test_a_sweep_saves_through_the_wrapper() -> None:
    clock = ManualClock(NOW)
    noting: Any = Noting(Capable())
    jobs = Jobs(noting, clock=clock)
    jobs.create("/x", {}, organization_id=ORG)
    clock.advance(8 * 86_400)
    assert (jobs.expire().moved, noting.saved) == (1, ["expire"])


def test_the_async_face_listens_past_no_wrapper() -> None:
    async def listener(repository: Any) -> object:
        return await AsyncJobs(repository).listen()

    inner = AsyncCapable()
    assert isinstance(asyncio.run(listener(Forwarding(inner))), AsyncPolling)
    assert inner.asked == []
    asyncio.run(listener(inner))
    assert inner.asked == ["listen"]


def test_a_time_is_given_to_a_dispatcher_that_takes_it_itself() -> None:
    inner = Delaying()
    for dispatcher, given in ((Forwarding(inner), 0), (inner, 1)):
        port: Any = dispatcher
        jobs = Jobs(MemoryRepository(), port, clock=ManualClock(NOW))
        jobs.create("/x", {}, organization_id=ORG, available_at=NOW + 60)
        assert len(inner.times) == given
        assert hasattr(InThreads(port), "dispatch_at") == bool(given)


class Asking:
    """Has a method if what it wraps has it, and says so itself."""

    __slots__ = ("_inner", "listen")

    listen: Callable[[], Polling]

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @property
    def move_due(self) -> Any:
        return self._inner.move_due

    @property
    def bind(self) -> Any:
        return getattr(self._inner, "bind", None)


class Without(Capable):
    """Takes back what it inherits."""

    move_due = None  # type: ignore[assignment]


def test_a_method_that_a_port_has_only_by_name_is_not_offered() -> None:
    without, itself = Asking(object()), Asking(Capable())
    assert [offers(without, name) for name in ("move_due", "bind", "listen")] == [False] * 3
    assert [offers(itself, name) for name in ("move_due", "bind", "listen")] == [True, True, False]
    itself.listen = Polling
    assert offers(itself, "listen")
    assert [offers(Without(), name) for name in ("move_due", "bind")] == [False, True]
