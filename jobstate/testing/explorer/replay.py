"""A schedule run once more, under a debugger: each flow is made once, and driven from its beginning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jobstate.effects import Effect, Flow, NewId
from jobstate.testing.explorer.space import Actor, Step
from jobstate.testing.explorer.world import Answer, mint


class _Run:
    """A flow on its way."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._minted = 0
        self._flow: Flow[Any] = actor.flow()
        self.end: Answer | None = None
        self._go(lambda: next(self._flow))

    def answer(self, answer: Answer) -> None:
        error = answer.error
        self._go(lambda: self._flow.send(answer.value) if error is None else self._flow.throw(error))

    def _go(self, on: Callable[[], Effect[Any]]) -> None:
        try:
            effect = on()
            while isinstance(effect, NewId):
                effect, self._minted = self._flow.send(mint(effect, self._actor.name, self._minted)), self._minted + 1
        except StopIteration as stop:
            self.end = Answer(stop.value)
        except Exception as error:  # noqa: BLE001  # what a flow raises is its answer
            self.end = Answer(error=error)


def replay(
    schedule: Sequence[Step], actors: Sequence[Actor], before_step: Callable[[Step], object] | None = None
) -> list[Answer | None]:
    """As `ViolationError.replay`."""
    runs = {actor.name: _Run(actor) for actor in actors}
    for step in schedule:
        if before_step is not None:
            before_step(step)
        if step.actor in runs:
            runs[step.actor].answer(step.answer)
    return [runs[actor.name].end for actor in actors]
