"""What a look at the whole service shows: every row with its payloads, every history, every artifact. And what was told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jobstate.model import AnyJob, HistoryRecord

RIVAL = "rival"
"""The actor of what somebody else did meanwhile."""


@dataclass(frozen=True)
class Look:
    """The service at one moment.

    Attributes:
        latest: the latest reading of the clock so far (Unix seconds); it may stand further back now.
        rows: the jobs by id, payloads included.
        records: their histories by id, oldest first.
        parts: artifacts by key.
    """

    latest: int = 0
    rows: dict[str, AnyJob] = field(default_factory=dict[str, AnyJob])
    records: dict[str, list[HistoryRecord]] = field(default_factory=dict[str, list[HistoryRecord]])
    parts: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def since(self, before: Look, job_id: str) -> list[HistoryRecord]:
        """What was recorded of a job since another look."""
        known = before.records.get(job_id, [])
        return self.records.get(job_id, [])[len(known) :]


@dataclass(frozen=True)
class Creation:
    """What a caller asked for."""

    number: int
    organization: str
    key: str | None = None
    held: bool = False
    parts: dict[str, bytes] = field(default_factory=dict[str, bytes])

    @property
    def request(self) -> dict[str, Any]:
        """The request, by which its job is known again."""
        return {"number": self.number}


@dataclass
class Model:
    """What callers asked for and were told: all that the promises are measured by, besides two looks.

    Attributes:
        creations: what was asked for, by number.
        lease_ends: the end of the lease that a worker was told last, by job (Unix seconds).
        starts: how many starts were answered, and how many may have been made, by job.
        numbers: the attempts that were handed out, by job.
        taken: job and run of the deliveries that the dispatcher took, or that came.
        known: the ids of all jobs that were ever seen.
        answered: the ids of the jobs whose creation was answered.
    """

    creations: dict[int, Creation] = field(default_factory=dict[int, Creation])
    lease_ends: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    starts: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    numbers: dict[str, set[int]] = field(default_factory=dict[str, set[int]])
    taken: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    known: set[str] = field(default_factory=set[str])
    answered: set[str] = field(default_factory=set[str])

    def creation_of(self, job: AnyJob) -> Creation | None:
        """What its caller asked for; None when the request is gone, or nobody's."""
        number = None if job.request is None else job.request.get("number")
        return None if number is None else self.creations.get(number)

    def count_start(self, job_id: str, *, sure: bool) -> None:
        """A start was answered, or its answer lost."""
        counts = self.starts.setdefault(job_id, [0, 0])
        counts[0] += sure
        counts[1] += 1
