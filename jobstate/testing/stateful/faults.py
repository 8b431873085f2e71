"""Ports that go wrong on purpose: answers that are lost, writes that land late, conflicts, and calls that fail."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from enum import StrEnum
from functools import partial, wraps
from inspect import isawaitable, iscoroutinefunction
from typing import Any, Final

from jobstate.errors import OutcomeUnknownError, StaleJobError
from jobstate.ports import offers


class Fault(StrEnum):
    """How a call goes wrong. A write that is not done is rolled back, if it carries a dispatch, after that was made."""

    LOST = "lost"
    """It is done, and its answer is lost."""
    DROPPED = "dropped"
    """It is not done, and nobody can tell."""
    LATE = "late"
    """Nobody can tell; it is done later, if it still can be."""
    STALE = "stale"
    """It is not done: a conflict, of which nothing is seen later."""
    RIVAL = "rival"
    """Somebody else cancels the jobs right before they are saved: a real conflict."""
    FAILED = "failed"
    """It is not done: the port fails."""


class PortError(Exception):
    """What a port raises that fails."""


class _RolledBackError(Exception):
    """Ends a transaction in which a dispatcher has written."""


_UNKNOWN: Final = (Fault.LOST, Fault.DROPPED, Fault.LATE)
_SAVES: Final = ("insert", "save", "save_many", "delete")
_OFFERED: Final = ("move_due", "dispatch_at")
"""What a port need not have. `offers` finds it, if the inner port has it, in the attributes of the faulty one."""
WRITES: Final = (*_SAVES, "move_due")
READS: Final = ("load", "list", "due", "count", "history")


class FaultyPort:
    """A port of either colour, whose next calls go wrong as planned; every other attribute is the port's own.

    Attributes:
        planned: what happens to the next calls that change something, in order; None: nothing. `FAILED` strikes reads, too.
        landing: the calls that are late.
        struck: how many faults there have been.
        done: the calls that were made, by method and arguments. Those to the dispatcher that is `carried`, made while a call of
            this port went on, are taken out again if that raises: they were rolled back with it.
    """

    def __init__(
        self,
        inner: Any,
        methods: tuple[str, ...],
        rival: Callable[[list[str]], Any] | None = None,
        carried: FaultyPort | None = None,
    ) -> None:
        self._inner = inner
        self._methods = methods
        self._rival = rival
        self._carried = carried
        self.planned: list[Fault | None] = []
        self.landing: list[Callable[[], Any]] = []
        self.struck = 0
        self.done: list[tuple[str, tuple[Any, ...]]] = []
        for name in _OFFERED:
            if offers(inner, name):
                setattr(self, name, self.__getattr__(name))

    def take_landing(self) -> list[Callable[[], Any]]:
        """The calls that are late, taken out."""
        landing, self.landing = self.landing, []
        return landing

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name not in self._methods:
            return value
        return self._async_call(name, value) if iscoroutinefunction(value) else self._sync_call(name, value)

    def _sync_call(self, name: str, value: Any) -> Any:
        def make(*args: Any, **kwargs: Any) -> Any:
            with self._carrying():
                return value(*args, **kwargs)

        @wraps(value)
        def call(*args: Any, **kwargs: Any) -> Any:
            fault = self._next(name)
            self._let_rival(name, fault, args)
            result = None
            if _is_done(fault):
                result = make(*args, **kwargs)
            elif within := kwargs.get("within"):

                def rolls_back(transaction: Any) -> None:
                    within(transaction)
                    raise _RolledBackError

                with suppress(_RolledBackError):
                    make(*args, **{**kwargs, "within": rolls_back})
            return self._answer(name, fault, args, result, partial(make, *args, **kwargs))

        return call

    def _async_call(self, name: str, value: Any) -> Any:
        async def make(*args: Any, **kwargs: Any) -> Any:
            with self._carrying():
                return await value(*args, **kwargs)

        @wraps(value)
        async def call(*args: Any, **kwargs: Any) -> Any:
            fault = self._next(name)
            meanwhile = self._let_rival(name, fault, args)
            if isawaitable(meanwhile):
                await meanwhile
            result = None
            if _is_done(fault):
                result = await make(*args, **kwargs)
            elif within := kwargs.get("within"):

                async def rolls_back(transaction: Any) -> None:
                    await within(transaction)
                    raise _RolledBackError

                with suppress(_RolledBackError):
                    await make(*args, **{**kwargs, "within": rolls_back})
            return self._answer(name, fault, args, result, partial(make, *args, **kwargs))

        return call

    @contextmanager
    def _carrying(self) -> Generator[None]:
        done = [] if self._carried is None else self._carried.done
        before = len(done)
        try:
            yield
        except BaseException:
            del done[before:]
            raise

    def _next(self, name: str) -> Fault | None:
        if name in READS and self.planned[:1] != [Fault.FAILED]:
            return None
        fault = self.planned.pop(0) if self.planned else None
        self.struck += fault is not None
        return fault

    def _let_rival(self, name: str, fault: Fault | None, args: tuple[Any, ...]) -> Any:
        if fault is not Fault.RIVAL or self._rival is None or name not in ("save", "save_many"):
            return None
        return self._rival([each.job_id for each in (args[0] if name == "save_many" else args[:1])])

    def _answer(self, name: str, fault: Fault | None, args: tuple[Any, ...], result: Any, call: Callable[[], Any]) -> Any:
        if _is_done(fault):
            self.done.append((name, args))
        if fault in (None, Fault.RIVAL):
            return result
        if fault is Fault.LATE and name in _SAVES:
            self.landing.append(call)
        error = _error(name, fault)
        if name == "save_many" and not isinstance(error, PortError):
            return [error] * len(args[0])
        if name == "move_due" and fault is Fault.LOST:
            return result._replace(answers=[error] * len(result.transitions))
        raise error


def _is_done(fault: Fault | None) -> bool:
    return fault in (None, Fault.LOST, Fault.RIVAL)


def _error(name: str, fault: Fault | None) -> Exception:
    if name in WRITES and fault in _UNKNOWN:
        return OutcomeUnknownError("job", f"the answer of {name} is {fault}")
    if name in ("save", "save_many", "delete") and fault is Fault.STALE:
        return StaleJobError("job", 0)
    return PortError(f"{name} is {fault}")
