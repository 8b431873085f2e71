"""What the service promises, each with a name and the properties it keeps; looked at after every step. No `decide` here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from jobstate.lifecycle import NOT_REPLAYED, replay
from jobstate.model import AnyJob, Event, HistoryRecord, Job, JobStatus
from jobstate.policy import Policy, seconds
from jobstate.testing.stateful.look import Look, Model


class BrokenPromiseError(AssertionError):
    """The service did not keep a promise."""


class Seen(NamedTuple):
    """Two looks, with one step between them."""

    before: Look
    after: Look
    model: Model
    policy: Policy

    @property
    def moves(self) -> Iterator[tuple[HistoryRecord, AnyJob]]:
        """What was recorded in the step, each with the job before it, as its history tells it."""
        for job_id, records in self.after.records.items():
            for index in range(len(self.before.records.get(job_id, ())), len(records)):
                if index > 0:
                    yield records[index], replay(records[:index])

    @property
    def changed(self) -> Iterator[tuple[AnyJob, list[HistoryRecord]]]:
        """The jobs that are not at the version of the look before, or have other records; each with its history."""
        for job_id, row in self.after.rows.items():
            before, records = self.before.rows.get(job_id), self.after.records[job_id]
            if before is None or before.version != row.version or len(records) != len(self.before.records[job_id]):
                yield row, records

    @property
    def pairs(self) -> Iterator[tuple[AnyJob, AnyJob]]:
        """The jobs that were there before and are there after, as they were and are."""
        for job_id, row in self.after.rows.items():
            if job_id in self.before.rows:
                yield self.before.rows[job_id], row


class Promise(NamedTuple):
    """A name, the properties that it keeps, and the check: it yields what is wrong."""

    name: str
    keeps: str
    faults: Callable[[Seen], Iterable[str]]


ENDED = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})
ACTIVE = frozenset({JobStatus.QUEUED, JobStatus.IN_PROGRESS})
_RESULT = ("error", "response", "response_artifacts", "result_digest", "completed_at", "cancelled")
_OF_A_RUN = (*_RESULT, "started_at", "lease", "progress")


def _results_stay(seen: Seen) -> Iterator[str]:
    for before, after in seen.pairs:
        kept = before.status in ENDED and after.run == before.run
        if kept and after.status not in (before.status, JobStatus.EXPIRED):
            yield f"{before.id} was {before.status} and is {after.status}"
        changed = [name for name in _RESULT if getattr(before, name) != getattr(after, name)]
        if kept and changed and after.cleanup_started_at is None:
            yield f"{before.id} was {before.status}, and {changed} changed"


def _attempts_are_starts(seen: Seen) -> Iterator[str]:
    for row, records in seen.changed:
        told, possible = seen.model.starts.get(row.id, [0, 0])
        recorded = sum(record.event == Event.START for record in records)
        if row.attempt_count != recorded or not told <= row.attempt_count <= possible:
            yield f"{row.id}: {row.attempt_count} attempts, {recorded} starts recorded, {told} to {possible} made"


def _one_start_a_run(seen: Seen) -> Iterator[str]:
    for row, records in seen.changed:
        run: Any = 0
        runs: list[Any] = []
        for record in records:
            run = record.changes.get("run", run)
            runs += [run] if record.event == Event.START else []
        if len(set(runs)) != len(runs):
            yield f"{row.id}: starts of the runs {runs}"


def _budget(seen: Seen) -> Iterator[str]:
    for row, records in seen.changed:
        used = 0
        for record in records:
            used = (
                0 if record.event == Event.RETRY else used + (record.event == Event.START) - (record.event == Event.GIVE_BACK)
            )
        if used > seen.policy.max_attempts - (row.status is JobStatus.QUEUED):
            yield f"{row.id} is {row.status}: {used} attempts since its retry, {seen.policy.max_attempts} are allowed"


def _replays(seen: Seen) -> Iterator[str]:
    for row, records in seen.changed:
        if not records or row.version < records[-1].version:
            yield f"{row.id}: version {row.version}, history {[record.version for record in records]}"
            continue
        try:
            told = replay(records)
        except ValueError as error:
            yield f"{row.id}: {error}"
            continue
        differ = [name for name in Job.model_fields if name not in NOT_REPLAYED and getattr(told, name) != getattr(row, name)]
        versions = [record.version for record in records]
        if differ or versions != sorted(set(versions)):
            yield f"{row.id}: row and history differ in {differ}, versions {versions}"


def _one_effect(seen: Seen) -> Iterator[str]:
    for row, records in seen.changed:
        operations = [record.operation for record in records]
        if len(set(operations)) != len(operations):
            yield f"{row.id}: an operation stands twice in {operations}"
        keys = [key for record in records if record.event == Event.RETRY and (key := record.changes.get("retry_key"))]
        if len(set(keys)) != len(keys):
            yield f"{row.id}: a retry_key was accepted twice: {keys}"


def _one_job_a_creation(seen: Seen) -> Iterator[str]:
    keys = [(row.organization_id, row.idempotency_key) for row in seen.after.rows.values() if row.idempotency_key]
    if len(set(keys)) != len(keys):
        yield f"two jobs of one key: {keys}"
    numbers = [made.number for row in seen.after.rows.values() if (made := seen.model.creation_of(row)) is not None]
    if len(set(numbers)) != len(numbers):
        yield f"two jobs of one creation: {numbers}"


def _whole(seen: Seen) -> Iterator[str]:
    for row in seen.after.rows.values():
        if row.status in ACTIVE:
            made = seen.model.creation_of(row)
            parts = {part.name: seen.after.parts.get(part.key) for part in row.request_artifacts or ()}
            if made is None or row.request != made.request or parts != made.parts:
                yield f"{row.id} is {row.status}; its request is {row.request}, with {parts}"


def _nothing_left(seen: Seen) -> Iterator[str]:
    for row in seen.after.rows.values():
        left = [name for name in _OF_A_RUN if getattr(row, name) not in (None, False)]
        if row.status is JobStatus.QUEUED and left:
            yield f"{row.id} is queued, and has {left}"


def _rescued_dead(seen: Seen) -> Iterator[str]:
    for record, before in seen.moves:
        token, end = seen.model.lease_ends.get(record.job_id, ("", 0))
        own = before.status is JobStatus.IN_PROGRESS and before.lease is not None and before.lease.token == token
        if record.event in (Event.RESCUE, Event.EXPIRE) and own and record.at < end + seen.policy.skew_seconds:
            yield f"{record.event} of {record.job_id} at {record.at}, its worker was promised {end}"


def _in_time(seen: Seen) -> Iterator[str]:
    for record, before in seen.moves:
        due = before.expires_at + (seconds(seen.policy.cleanup_after) if record.event == Event.BEGIN_CLEANUP else 0)
        if record.event in (Event.EXPIRE, Event.BEGIN_CLEANUP) and record.at < due:
            yield f"{record.event} of {record.job_id} at {record.at}, due at {due}"


def _order(seen: Seen) -> Iterator[str]:
    for row, records in seen.changed:
        times = [record.at for record in records]
        if times != sorted(times):
            yield f"{row.id}: times run back: {times}"


def _cleaned(seen: Seen) -> Iterator[str]:
    for row in seen.after.rows.values():
        if row.cleanup_started_at is not None and (row.status is not JobStatus.EXPIRED or row.request or row.response):
            yield f"{row.id} was cleaned; it is {row.status}, with request {row.request}"
    for before, after in seen.pairs:
        left = [key for key in seen.after.parts if key.startswith(f"{after.id}/")]
        if after.cleanup_completed_at is not None and before.cleanup_completed_at is None and left:
            yield f"the clean-up of {after.id} has ended, and {left} are left"


def _marked(seen: Seen) -> Iterator[str]:
    taken = seen.model.taken
    for row in seen.after.rows.values():
        if row.status is JobStatus.QUEUED and row.dispatched_at is not None and (row.id, row.run) not in taken:
            yield f"{row.id}: run {row.run} is marked as dispatched, and no dispatcher took it"
    for job_id, run in taken:
        there = seen.after.rows.get(job_id)
        if run > there.run if there is not None else job_id not in seen.model.known:
            yield f"{job_id}: run {run} was dispatched, and is not stored"


def _unchanged_is_unchanged(seen: Seen) -> Iterator[str]:
    for before, after in seen.pairs:
        if after.version < before.version or (after.version == before.version and after != before):
            yield f"{before.id}: version {before.version} to {after.version}: {_difference(before, after)}"


def _difference(before: AnyJob, after: AnyJob) -> dict[str, Any]:
    names = [name for name in Job.model_fields if getattr(before, name) != getattr(after, name)]
    return {name: (getattr(before, name), getattr(after, name)) for name in names}


PROMISES: tuple[Promise, ...] = (
    Promise("the history replays to the row", "P16", _replays),
    Promise("a result changes by a retry only", "P3", _results_stay),
    Promise("attempts are the accepted starts", "P7", _attempts_are_starts),
    Promise("a run is started once", "P7, P22", _one_start_a_run),
    Promise("no path exceeds the budget", "P7, P8", _budget),
    Promise("a repeated command has one effect", "P12, P21", _one_effect),
    Promise("a creation makes one job, and a key belongs to one", "P12, P13", _one_job_a_creation),
    Promise("an active job has its request whole", "P9, P22", _whole),
    Promise("a queued job has nothing of an earlier run", "P5, P6", _nothing_left),
    Promise("a live lease is never taken over", "P19", _rescued_dead),
    Promise("nothing expires or is cleaned too early", "P9, P17", _in_time),
    Promise("time does not run backwards on a row", "P17", _order),
    Promise("what is cleaned is gone, and stays so", "P9, P10", _cleaned),
    Promise("what is dispatched is committed, and what is marked was dispatched", "P14", _marked),
    Promise("a row changes with its version only", "P4", _unchanged_is_unchanged),
)


def check(seen: Seen, promises: Iterable[Promise]) -> None:
    """Raises BrokenPromiseError for the first that is not kept."""
    for promise in promises:
        for fault in promise.faults(seen):
            raise BrokenPromiseError(f"{promise.name} ({promise.keeps}): {fault}")
