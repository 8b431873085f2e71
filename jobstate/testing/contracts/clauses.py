"""What all contracts have in common: clauses, capabilities, and how a case is run in either colour."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from jobstate.drivers import Ports, SystemClock, perform, perform_async
from jobstate.effects import Effect, Flow
from jobstate.extra import needs_extra
from jobstate.model import Delivery

with needs_extra("testing"):
    import pytest

Case = Callable[..., Flow[None]]


class Capability(StrEnum):
    """What an adapter may lack. It says so, with the reason: the clauses that need it are then shown as skipped."""

    TRANSACTION = "transaction"
    """`within` runs in a transaction of the store's own; a dispatcher can be `transactional`."""
    DELAY = "delay"
    """A dispatcher's engine can hold a delivery until a time: `dispatch_at`."""
    SPOIL = "spoil"
    """The author can make a stored row unreadable: `spoil(repository, job_id)`."""
    LOSE = "lose"
    """The author can lose the answer of the next write: `lose(repository)`."""


@dataclass(frozen=True, slots=True)
class Hook(Effect[Any]):
    """An effect of the contracts: something that the author of the adapter does by hand, by the name of the method."""

    name: str
    arguments: tuple[Any, ...] = ()


def clause(number: str, *needs: Capability) -> Callable[[Case], Callable[[Any, Path], None]]:
    """A case that proves the clause of this number."""

    def proves(case: Case) -> Callable[[Any, Path], None]:
        def test(self: Contract, tmp_path: Path) -> None:
            for capability in needs:
                if capability in self.lacks:
                    pytest.skip(f"{number} needs {capability.value!r}, which this adapter lacks: {self.lacks[capability]}")
            self.run(lambda: case(self), tmp_path)

        test.__name__, test.__qualname__, test.__doc__ = case.__name__, case.__qualname__, case.__doc__
        test.clause = number  # type: ignore[attr-defined]  # read by `clauses`
        return test

    return proves


def clauses(contract: type[Contract]) -> dict[str, str]:
    """The clauses that a contract proves: number and name of the method."""
    found = {name: getattr(getattr(contract, name), "clause", None) for name in dir(contract)}
    return {number: name for name, number in sorted(found.items()) if number is not None}


class Suite:
    """What contracts and races have in common: their cases are run as they are."""

    def __init_subclass__(cls) -> None:
        """A case cannot be overridden, nor how it is run: not by the class, and not by one that stands before the suite."""
        super().__init_subclass__()
        own = [base for base in cls.__mro__ if base.__module__.startswith(_HERE)]
        cases = {name for base in own for name in vars(base) if name == "run" or name.startswith("test_")}
        if overridden := sorted(name for name in cases if _first(cls, name) not in own):
            raise TypeError(
                f"{cls.__name__}: {', '.join(overridden)}: the cases of a contract are not overridden, nor how they are run; "
                f"give a test of your own another name, and say in `lacks` what the adapter lacks"
            )


_HERE = __name__.rpartition(".")[0] + "."


def _first(cls: type[Any], name: str) -> type[Any]:
    """The class that this attribute comes from."""
    return next(base for base in cls.__mro__ if name in vars(base))


class Contract(Suite):
    """What every contract has. Subclass one of the contracts, not this.

    Attributes:
        lacks: the capabilities that the adapter does not offer, each with the reason.
    """

    lacks: ClassVar[Mapping[Capability, str]] = {}

    def __init_subclass__(cls) -> None:
        """Only a known capability can be lacking."""
        super().__init_subclass__()
        if unknown := sorted(str(name) for name in cls.lacks if name not in set(Capability)):
            known_ones = ", ".join(capability.value for capability in Capability)
            raise TypeError(f"{cls.__name__}.lacks: {', '.join(unknown)}: there is no such capability; there are {known_ones}")

    def run(self, case: Callable[[], Flow[None]], folder: Path) -> None:
        """Run a case to its end, in a folder of its own."""
        raise NotImplementedError


class Script:
    """A transactional dispatcher in the colour of the ports: notes what it is given, and raises when it is told to."""

    transactional = True

    def __init__(self) -> None:
        self.given: list[tuple[Delivery, str, Any]] = []
        self.error: Exception | None = None

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> Any:
        self.given.append((delivery, task_name, transaction))
        if self.error is not None:
            raise self.error
        return task_name


class AsyncScript(Script):
    """The same, awaited."""

    async def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> Any:
        return super().dispatch(delivery, task_name, transaction=transaction)


class Sync(Contract):
    """Runs cases on sync ports."""

    def open_ports(self, folder: Path) -> Ports:
        """The ports that the cases run on; what is not under test is in memory."""
        raise NotImplementedError

    def close_ports(self, ports: Ports) -> None:
        """Afterwards."""

    def run(self, case: Callable[[], Flow[None]], folder: Path) -> None:
        """Run a case to its end, in a folder of its own."""
        ports = self.open_ports(folder)
        try:
            self._drive(case(), ports)
        finally:
            self.close_ports(ports)

    def _drive(self, flow: Flow[None], ports: Ports) -> None:
        answer: Any = None
        error: Exception | None = None
        while True:
            try:
                effect = flow.send(answer) if error is None else flow.throw(error)
            except StopIteration:
                return
            answer, error = None, None
            try:
                answer = self._hook(effect, ports) if isinstance(effect, Hook) else perform(effect, ports)
            except Exception as raised:  # noqa: BLE001  # whatever a port raises goes into the case
                error = raised

    def _hook(self, hook: Hook, ports: Ports) -> Any:
        return getattr(self, hook.name)(ports, *hook.arguments)


class Async(Contract):
    """Runs cases on async ports, each in an event loop of its own."""

    async def open_ports(self, folder: Path) -> Ports:
        """The ports that the cases run on; what is not under test is in memory."""
        raise NotImplementedError

    async def close_ports(self, ports: Ports) -> None:
        """Afterwards."""

    def run(self, case: Callable[[], Flow[None]], folder: Path) -> None:
        """Run a case to its end, in a folder of its own."""
        with asyncio.Runner() as runner:
            runner.run(self._run(case, folder))

    async def _run(self, case: Callable[[], Flow[None]], folder: Path) -> None:
        ports = await self.open_ports(folder)
        try:
            await self._drive(case(), ports)
        finally:
            await self.close_ports(ports)

    async def _drive(self, flow: Flow[None], ports: Ports) -> None:
        answer: Any = None
        error: Exception | None = None
        while True:
            try:
                effect = flow.send(answer) if error is None else flow.throw(error)
            except StopIteration:
                return
            answer, error = None, None
            try:
                answer = await (self._hook(effect, ports) if isinstance(effect, Hook) else perform_async(effect, ports))
            except Exception as raised:  # noqa: BLE001  # whatever a port raises goes into the case
                error = raised

    async def _hook(self, hook: Hook, ports: Ports) -> Any:
        return await getattr(self, hook.name)(ports, *hook.arguments)


def clock() -> SystemClock:
    """The clock of a contract's ports: no case asks it for anything that matters."""
    return SystemClock()
