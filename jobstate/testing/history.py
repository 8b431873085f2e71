"""The history of one job as a value: what was asked of it, what was answered, and the job before and after. Draws nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from jobstate.lifecycle import Accepted, Already, Decision, Facts, Refused, creation_record
from jobstate.model import Event, HistoryRecord, Job
from jobstate.policy import Policy

J = TypeVar("J", bound=Job[Any, Any])


@dataclass(frozen=True, slots=True)
class Asked:
    """An event, the reading of the clock when it is asked (Unix seconds), and the facts that it brings."""

    event: Event
    now: int
    facts: Facts


@dataclass(frozen=True, slots=True)
class Step(Generic[J]):
    """One event of a history: `after` is `before` itself unless the decision is `Accepted`."""

    before: J
    asked: Asked
    decision: Decision
    after: J

    def __repr__(self) -> str:
        if isinstance(self.decision, Accepted):
            answer = self.after.status.value
        else:
            answer = "already" if isinstance(self.decision, Already) else f"refused [{self.decision.code}]"
        return f"{self.asked.event.value} at {self.asked.now}: {answer}"


@dataclass(frozen=True, slots=True)
class JobHistory(Generic[J]):
    """A job from its creation on.

    Attributes:
        policy: what its decisions followed.
        first: the job as it was created, at version 1.
        steps: what was asked of it, in order.
    """

    policy: Policy
    first: J
    steps: tuple[Step[J], ...]

    @property
    def job(self) -> J:
        """The job as it is at the end."""
        return self.steps[-1].after if self.steps else self.first

    @property
    def accepted(self) -> list[Accepted]:
        """The transitions, in order."""
        return [step.decision for step in self.steps if isinstance(step.decision, Accepted)]

    @property
    def refusal(self) -> Refused | None:
        """The refusal that the history ends with, if it ends with one."""
        last = self.steps[-1].decision if self.steps else None
        return last if isinstance(last, Refused) else None

    @property
    def records(self) -> list[HistoryRecord]:
        """The history that a repository would keep, oldest first."""
        written = (transition.record for transition in self.accepted)
        return [creation_record(self.first), *(record for record in written if record is not None)]

    def __repr__(self) -> str:
        steps = "".join(f"; {step!r}" for step in self.steps)
        return f"<history of {self.first.id}: created {self.first.status.value} at {self.first.created_at}{steps}>"
