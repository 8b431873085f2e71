"""Flows side by side, as one flow of either colour: what several save at the same time is saved as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from jobstate.effects import Flow, Save, SaveMany
from jobstate.lifecycle import Accepted

R = TypeVar("R")


def together(flows: Sequence[Flow[R]]) -> Flow[list[R | Exception]]:
    """Run flows to their ends: what each returns, or the Exception that it raises. Saves of one job follow one another."""
    ways = [_Way(flow) for flow in flows]
    try:
        for way in ways:
            yield from way.go()
        while saves := _next(ways):
            answers = yield from _saved([save for _, save in saves])
            for (way, _), answer in zip(saves, answers, strict=True):
                yield from way.go(answer)
        return [way.end for way in ways]
    finally:
        for flow in flows:
            flow.close()


def _next(ways: Sequence[_Way[R]]) -> list[tuple[_Way[R], Accepted]]:
    """The first save of each job."""
    saves: dict[str, tuple[_Way[R], Accepted]] = {}
    for way in ways:
        if way.save is not None:
            _ = saves.setdefault(way.save.job_id, (way, way.save))
    return list(saves.values())


def _saved(transitions: Sequence[Accepted]) -> Flow[Sequence[Exception | None]]:
    try:
        return (yield from SaveMany(transitions))
    except Exception as error:
        return [error] * len(transitions)


class _Way(Generic[R]):
    """A flow on the way to its next save, or to its end."""

    __slots__ = ("_flow", "end", "save")

    end: R | Exception

    def __init__(self, flow: Flow[R]) -> None:
        self._flow = flow
        self.save: Accepted | None = None

    def go(self, error: Exception | None = None) -> Flow[None]:
        """Go on, after the last save or its error."""
        self.save, result = None, None
        while True:
            try:
                effect: Any = self._flow.send(result) if error is None else self._flow.throw(error)
            except StopIteration as stop:
                self.end = stop.value
                return
            except Exception as raised:
                self.end = raised
                return
            if isinstance(effect, Save):
                self.save = effect.transition
                return
            result, error = None, None
            try:
                result = yield effect
            except Exception as raised:
                error = raised
