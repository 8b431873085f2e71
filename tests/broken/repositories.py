"""Repositories with one fault each, on top of the one in memory, and the clause that catches it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from jobstate.errors import JobNotFoundError, OutcomeUnknownError, RepositoryError, StaleJobError, UnreadableJobError
from jobstate.lifecycle import Accepted
from jobstate.memory import MemoryRepository
from jobstate.model import PAYLOADS, HistoryRecord, Job, JobResponse, JobStatus, evolve
from jobstate.query import Cursor, Due, DuePage, JobFilter, Listing, PageRequest, due_time

AnyJob = Job[Any, Any]

BROKEN: list[tuple[type[MemoryRepository], str]] = []
"""Each broken one, and the number of the clause that catches it."""


def caught_by(number: str) -> Callable[[type[MemoryRepository]], type[MemoryRepository]]:
    def note(broken: type[MemoryRepository]) -> type[MemoryRepository]:
        BROKEN.append((broken, number))
        return broken

    return note


class Base(MemoryRepository):
    """With the two hooks of the contract: rows that cannot be read, and an answer that is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.spoilt: set[str] = set()
        self.losing = False

    def lose(self) -> None:
        if self.losing:
            self.losing = False
            raise OutcomeUnknownError("job", "the answer was lost")

    def insert(self, job: AnyJob, record: HistoryRecord, *, within: Any = None) -> AnyJob | None:
        answer = super().insert(job, record, within=within)
        self.lose()
        return answer

    def save(self, transition: Accepted, *, within: Any = None) -> None:
        super().save(transition, within=within)
        self.lose()

    def load(self, job_id: str, **options: Any) -> AnyJob:
        if job_id in self.spoilt:
            raise UnreadableJobError(job_id, "status", "nobody knows it")
        return super().load(job_id, **options)

    def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
        found = super().list(where, page, **options)
        spoilt = [UnreadableJobError(job.id, "status", "nobody knows it") for job in found.jobs if job.id in self.spoilt]
        return Listing([job for job in found.jobs if job.id not in self.spoilt], spoilt)

    def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        found = super().due(due, until=until, limit=limit, after=after)
        spoilt = [UnreadableJobError(job.id, "status", "nobody knows it") for job in found.jobs if job.id in self.spoilt]
        return DuePage([job for job in found.jobs if job.id not in self.spoilt], found.after, spoilt)


# insert


@caught_by("R01")
class LosesTheRecordOfACreation(Base):
    def insert(self, job: AnyJob, record: HistoryRecord, *, within: Any = None) -> AnyJob | None:
        answer = super().insert(job, record, within=within)
        if answer is None:
            self._history[job.id] = []
        return answer


@caught_by("R01")
class LosesEmptyMetadata(Base):
    def _store(self, job: AnyJob, record: HistoryRecord) -> None:
        super()._store(evolve(job, {"trace_context": job.trace_context or {}}), record)


@caught_by("R01")
class RoundsFloats(Base):
    def _store(self, job: AnyJob, record: HistoryRecord) -> None:
        super()._store(evolve(job, {"progress": None if job.progress is None else round(job.progress, 0)}), record)


@caught_by("R01")
class HasTimesOf32Bits(Base):
    def _store(self, job: AnyJob, record: HistoryRecord) -> None:
        super()._store(evolve(job, {"expires_at": job.expires_at & 0xFFFFFFFF}), record)


@caught_by("R01")
class ForgetsTheRequest(Base):
    def _store(self, job: AnyJob, record: HistoryRecord) -> None:
        super()._store(evolve(job, {"request": None}), record)


@caught_by("R01")
class AnswersWithTheTextOfAStatus(Base):
    """It is equal, and has no name."""

    def load(self, job_id: str, **options: Any) -> AnyJob:
        job = super().load(job_id, **options)
        return evolve(job, {"status": job.status.value})


@caught_by("R01")
class AnswersWithAnotherResponse(Base):
    """It is equal, and of another class."""

    def load(self, job_id: str, **options: Any) -> AnyJob:
        job = super().load(job_id, **options)
        kind = JobResponse[dict[str, Any]]
        return job if job.response is None else evolve(job, {"response": kind.model_construct(**job.response.__dict__)})


@caught_by("R02")
class OverwritesAnId(Base):
    def insert(self, job: AnyJob, record: HistoryRecord, *, within: Any = None) -> AnyJob | None:
        if job.id in self._rows and self._rows[job.id].idempotency_key != job.idempotency_key:
            self._rows[job.id] = evolve(self._rows[job.id], {"endpoint": job.endpoint})
        return super().insert(job, record, within=within)


@caught_by("R02")
class SaysNothingOfAnIdThatIsThere(Base):
    def insert(self, job: AnyJob, record: HistoryRecord, *, within: Any = None) -> AnyJob | None:
        super().insert(job, record, within=within)
        return None


@caught_by("R02")
class AnswersWithThePayload(Base):
    def insert(self, job: AnyJob, record: HistoryRecord, *, within: Any = None) -> AnyJob | None:
        there = super().insert(job, record, within=within)
        return None if there is None else self._with_payloads(there, True, True)


@caught_by("R03")
class HasKeysForAllOrganizations(Base):
    def _standing(self, job: AnyJob) -> AnyJob | None:
        same = (row for row in self._rows.values() if job.idempotency_key and row.idempotency_key == job.idempotency_key)
        return self._rows.get(job.id) or next(same, None)


@caught_by("R03")
class IgnoresKeys(Base):
    def _standing(self, job: AnyJob) -> AnyJob | None:
        return self._rows.get(job.id)


@caught_by("R03")
class TakesNoKeyForAKey(Base):
    def _standing(self, job: AnyJob) -> AnyJob | None:
        found = (row for row in self._rows.values() if row.idempotency_key is None and job.idempotency_key is None)
        return super()._standing(job) or next((row for row in found if row.organization_id == job.organization_id), None)


def _collating(folded: str, *names: str) -> type[Base]:
    """One that compares tenants, or keys, or both, by a collation of words when it inserts."""

    def key(job: AnyJob) -> list[Any]:
        fields = {name: getattr(job, name) for name in ("organization_id", "idempotency_key")}
        return [FOLDS[folded](value) if name in names else value for name, value in fields.items()]

    class Collates(Base):
        def _standing(self, job: AnyJob) -> AnyJob | None:
            alike = (row for row in self._rows.values() if None not in (row.idempotency_key, job.idempotency_key))
            return super()._standing(job) or next((row for row in alike if key(row) == key(job)), None)

    Collates.__name__ = f"Folds_{folded}_of_{'_'.join(names)}"
    return Collates


FOLDS: dict[str, Callable[[str], str]] = {"case": str.lower, "spaces": str.rstrip}
"""What a collation takes for equal."""

for _folded in FOLDS:
    caught_by("R03")(_collating(_folded, "organization_id"))
    caught_by("R03")(_collating(_folded, "idempotency_key"))


# load


def _loading_by_words(folded: str) -> type[Base]:
    """One that compares tenants by a collation of words when it loads."""

    class Loads(Base):
        def load(self, job_id: str, *, organization_id: str | None = None, **options: Any) -> AnyJob:
            row = self._rows.get(job_id)
            if row is not None and organization_id is not None:
                fold = FOLDS[folded]
                organization_id = row.organization_id if fold(row.organization_id) == fold(organization_id) else organization_id
            return super().load(job_id, organization_id=organization_id, **options)

    Loads.__name__ = f"Loads_whatever_the_{folded}"
    return Loads


for _folded in FOLDS:
    caught_by("R05")(_loading_by_words(_folded))


@caught_by("R04")
class LeaksTheErrorOfItsDriver(Base):
    def load(self, job_id: str, **options: Any) -> AnyJob:
        return super().load(self._rows[job_id].id, **options)


@caught_by("R04")
class ComparesIdsWithoutCase(Base):
    def load(self, job_id: str, **options: Any) -> AnyJob:
        alike = {there.lower(): there for there in self._rows}
        return super().load(job_id if job_id in self._rows else alike.get(job_id.lower(), job_id), **options)


@caught_by("R05")
class IgnoresTheTenant(Base):
    def load(self, job_id: str, **options: Any) -> AnyJob:
        return super().load(job_id, **{**options, "organization_id": None})


@caught_by("R05")
class SaysWhoseJobItIs(Base):
    def load(self, job_id: str, **options: Any) -> AnyJob:
        try:
            return super().load(job_id, **options)
        except JobNotFoundError as error:
            if job_id in self._rows:
                raise JobNotFoundError(f"{job_id}: forbidden") from error
            raise


@caught_by("R06")
class LoadsPayloadsAlways(Base):
    def load(self, job_id: str, **options: Any) -> AnyJob:
        return super().load(job_id, **{**options, "include_request": True, "include_response": True})


@caught_by("R06")
class ListsNoResponses(Base):
    def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
        return super().list(where, page, **{**options, "include_response": False})


@caught_by("R06")
class MixesThePayloadsOfAList(Base):
    """It reads them in the order of the ids, and lays them beside the rows in whatever order these are."""

    def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
        found = super().list(where, page, **options)
        requests = [job.request for job in sorted(found.jobs, key=lambda job: job.id)]
        pairs = zip(found.jobs, requests, strict=True)
        return found._replace(jobs=[evolve(job, {"request": request}) for job, request in pairs])


@caught_by("R06")
class LaysPayloadsBesideOtherRows(Base):
    """A row that has none is passed over."""

    def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
        found = super().list(where, page, **options)
        responses = iter([job.response for job in found.jobs if job.response is not None])
        return found._replace(jobs=[evolve(job, {"response": next(responses, None)}) for job in found.jobs])


@caught_by("R06")
class LoadsPayloadsOfDueJobs(Base):
    def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        found = super().due(due, until=until, limit=limit, after=after)
        return found._replace(jobs=[self._with_payloads(job, True, False) for job in found.jobs])


@caught_by("R07")
class SharesWhatItStores(Base):
    def _store(self, job: AnyJob, record: HistoryRecord) -> None:
        super()._store(job, record)
        self._rows[job.id] = evolve(self._rows[job.id], {"metadata": job.metadata})


@caught_by("R07")
class SharesWhatItLoads(Base):
    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[str, AnyJob] = {}

    def _with_payloads(self, row: AnyJob, include_request: bool, include_response: bool) -> AnyJob:
        fresh = super()._with_payloads(row, include_request, include_response)
        if not (include_request and include_response):
            return fresh
        known = self.cache.setdefault(f"{row.id} {row.version}", fresh)
        return evolve(fresh, {"request": known.request})


@caught_by("R07")
class SharesItsHistory(Base):
    def history(self, job_id: str, *, after_version: int = 0) -> Sequence[HistoryRecord]:
        return [record for record in self._history.get(job_id, ()) if record.version > after_version]


# save


@caught_by("R08")
class ForgetsAField(Base):
    def _write(self, row: AnyJob, transition: Accepted) -> None:
        super()._write(row, transition._replace(changes={k: v for k, v in transition.changes.items() if k != "available_at"}))


@caught_by("R08")
class KeepsWhatBecomesNone(Base):
    def _write(self, row: AnyJob, transition: Accepted) -> None:
        kept = {
            name: value for name, value in transition.changes.items() if value is not None or name in ("request", "response")
        }
        super()._write(row, transition._replace(changes=kept))


@caught_by("R08")
class WritesMoreThanItIsAsked(Base):
    def _write(self, row: AnyJob, transition: Accepted) -> None:
        super()._write(row, transition)
        self._rows[row.id] = evolve(self._rows[row.id], {"dispatched_at": None})


@caught_by("R09")
class WritesNoRecord(Base):
    def _write(self, row: AnyJob, transition: Accepted) -> None:
        before = self._history[row.id].copy()
        super()._write(row, transition)
        self._history[row.id] = before


@caught_by("R09")
class WritesRecordsOfHeartbeats(Base):
    def _write(self, row: AnyJob, transition: Accepted) -> None:
        super()._write(row, transition)
        if transition.record is None:
            again = self._history[row.id][-1].model_copy(update={"version": transition.version + 1})
            self._history[row.id].append(again)


@caught_by("R10")
class DropsThePayloadOnEachSave(Base):
    def _write(self, row: AnyJob, transition: Accepted) -> None:
        super()._write(row, transition)
        if "response" not in transition.changes:
            self._payloads.pop((row.id, "response"), None)


@caught_by("R10")
class KeepsThePayloadAtCleanUp(Base):
    def _write_payloads(self, job_id: str, changes: dict[str, Any]) -> None:
        super()._write_payloads(job_id, {name: value for name, value in changes.items() if value is not None})


@caught_by("R11")
class AcceptsAStaleWrite(Base):
    def _at(self, job_id: str, version: int) -> AnyJob:
        return self._rows[job_id] if job_id in self._rows else super()._at(job_id, version)


@caught_by("R11")
class AcceptsAWriteFromTheFuture(Base):
    def _at(self, job_id: str, version: int) -> AnyJob:
        row = self._rows.get(job_id)
        return row if row is not None and row.version < version else super()._at(job_id, version)


@caught_by("R11")
class SavesNothingAndSaysNothing(Base):
    def save(self, transition: Accepted, *, within: Any = None) -> None:
        if transition.job_id in self._rows:
            super().save(transition, within=within)


@caught_by("R11")
class WritesTheRecordOfAStaleSave(Base):
    def save(self, transition: Accepted, *, within: Any = None) -> None:
        try:
            super().save(transition, within=within)
        except StaleJobError:
            if transition.job_id in self._history and transition.record is not None:
                self._history[transition.job_id].append(transition.record)
            raise


@caught_by("R12")
class RepeatsASaveItself(Base):
    def save(self, transition: Accepted, *, within: Any = None) -> None:
        try:
            super().save(transition, within=within)
        except OutcomeUnknownError:
            super().save(transition, within=within)


# many


@caught_by("R13")
class AnswersInAnotherOrder(Base):
    def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        return sorted(super().save_many(transitions), key=lambda answer: answer is None)


@caught_by("R13")
class AnswersWithErrorsOnly(Base):
    def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        return [answer for answer in super().save_many(transitions) if answer is not None]


@caught_by("R14")
class StopsAtTheFirstError(Base):
    def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        answers: list[RepositoryError | None] = []
        for transition in transitions:
            stop = any(isinstance(answer, StaleJobError) for answer in answers)
            answers += [StaleJobError(transition.job_id, 0)] if stop else super().save_many([transition])
        return answers


@caught_by("R13")
class LosesUpdatesInBulk(Base):
    def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        for transition in transitions:
            if (row := self._rows.get(transition.job_id)) is not None:
                self._write(row, transition)
        return [None] * len(transitions)


@caught_by("R10")
class WritesNoPayloadsInBulk(Base):
    """It removes them, and no more."""

    def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        removed = [
            transition._replace(changes={**transition.changes, **dict.fromkeys(PAYLOADS & transition.changes.keys())})
            for transition in transitions
        ]
        return super().save_many(removed)


def leaving_out(name: str, *, bulk: bool) -> type[Base]:
    """One whose UPDATE, of one row or of many, has a list of columns that lacks this field."""

    def without(transition: Accepted) -> Accepted:
        return transition._replace(changes={key: value for key, value in transition.changes.items() if key != name})

    class LeavesOut(Base):
        def save(self, transition: Accepted, *, within: Any = None) -> None:
            super().save(transition if bulk else without(transition), within=within)

        def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
            return super().save_many([without(transition) if bulk else transition for transition in transitions])

    return LeavesOut


@caught_by("R14")
class WritesNoRecordsInBulk(Base):
    def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        before = {job_id: records.copy() for job_id, records in self._history.items()}
        answers = super().save_many(transitions)
        self._history = before
        return answers


# list and count


@caught_by("R15")
class OrdersByWords(Base):
    def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
        found = super().list(where, page._replace(limit=10_000), **options)
        key = sorted(found.jobs, key=lambda job: job.id.lower(), reverse=page.newest_first)
        return found._replace(jobs=key[: page.limit])


@caught_by("R15")
class ListsOldestFirstAlways(Base):
    def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
        return super().list(where, page._replace(newest_first=False), **options)


@caught_by("R15")
class ListsOneMore(Base):
    def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
        return super().list(where, page._replace(limit=page.limit + 1), **options)


@caught_by("R16")
class NeedsACursorThatExists(Base):
    def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
        if page.cursor is not None and page.cursor not in self._rows:
            return Listing([], [])
        return super().list(where, page, **options)


@caught_by("R16")
class IncludesTheCursor(Base):
    def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
        if page.after is None or page.after not in self._rows:
            return super().list(where, page, **options)
        found = super().list(where, page._replace(limit=page.limit - 1), **options)
        return found._replace(jobs=[self._rows[page.after], *found.jobs])


@caught_by("R16")
class AnswersTheFarthestBefore(Base):
    def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
        if page.before is None:
            return super().list(where, page, **options)
        found = super().list(where, page._replace(limit=10_000), **options)
        return found._replace(jobs=found.jobs[: page.limit])


@caught_by("R16")
class TurnsAPageBeforeAround(Base):
    def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
        found = super().list(where, page, **options)
        return found._replace(jobs=found.jobs[::-1]) if page.backwards else found


def _ignoring(*names: str, count: bool = False) -> type[Base]:
    """One that does not look at these conditions, in lists or in counts."""

    class Ignores(Base):
        def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
            seen = where if count else where.model_copy(update=dict.fromkeys(names))
            return super().list(seen, page, **options)

        def count(self, where: JobFilter) -> int:
            seen = where.model_copy(update=dict.fromkeys(names)) if count else where
            return super().count(seen)

    Ignores.__name__ = f"Ignores_{'_'.join(names)}_in_{'counts' if count else 'lists'}"
    return Ignores


for _name in ("organization_id", "ids", "statuses", "endpoint", "created_from", "created_to", "metadata"):
    caught_by("R17")(_ignoring(_name))
    caught_by("R20")(_ignoring(_name, count=True))


@caught_by("R17")
class IncludesTheEndOfTheRange(Base):
    def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
        later = where if where.created_to is None else where.model_copy(update={"created_to": where.created_to + 1})
        return super().list(later, page, **options)


@caught_by("R17")
class MatchesAnyPair(Base):
    def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
        found = super().list(where.model_copy(update={"metadata": None}), page._replace(limit=10_000), **options)
        pairs = (where.metadata or {}).items()
        jobs = [job for job in found.jobs if not pairs or pairs & job.metadata.items()]
        return found._replace(jobs=jobs[: page.limit])


@caught_by("R17")
class TakesNoStatusesForAll(Base):
    def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
        return super().list(where.model_copy(update={"statuses": where.statuses or None}), page, **options)


def _forgetting_behind_a_cursor(*names: str) -> type[Base]:
    """One that looks at these conditions on the first page only."""

    class Forgets(Base):
        def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
            behind = page.cursor is not None
            return super().list(where.model_copy(update=dict.fromkeys(names)) if behind else where, page, **options)

    Forgets.__name__ = f"Forgets_{'_'.join(names)}_behind_a_cursor"
    return Forgets


for _names in (["organization_id"], ["statuses"], ["metadata"], list(JobFilter.model_fields)):
    caught_by("R17")(_forgetting_behind_a_cursor(*_names))


@caught_by("R17")
class LimitsBeforeItFilters(Base):
    def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
        held = {job.id for job in super().list(where, PageRequest(10_000)).jobs}
        found = super().list(JobFilter(), page, **options)
        return found._replace(jobs=[job for job in found.jobs if job.id in held])


class _IndexesAnInsert(Base):
    """Its index of statuses is written by an insert, and by no save."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: dict[str, JobStatus] = {}

    def _store(self, job: AnyJob, record: HistoryRecord) -> None:
        super()._store(job, record)
        self.statuses[job.id] = job.status

    def indexed(self, where: JobFilter) -> JobFilter:
        if where.statuses is None:
            return where
        ids = tuple(job_id for job_id, status in self.statuses.items() if status in where.statuses)
        return where.model_copy(update={"statuses": None, "ids": ids})


@caught_by("R17")
class ListsByTheStatusOfAnInsert(_IndexesAnInsert):
    def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
        return super().list(self.indexed(where), page, **options)


@caught_by("R20")
class CountsByTheStatusOfAnInsert(_IndexesAnInsert):
    def count(self, where: JobFilter) -> int:
        return super().count(self.indexed(where))


class _TakesFewIds(Base):
    """As many as an old driver has parameters."""

    def few(self, where: JobFilter) -> JobFilter:
        if where.ids is not None and len(where.ids) > 999:
            raise RepositoryError("too many variables")
        return where


@caught_by("R17")
class ListsFewIds(_TakesFewIds):
    def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
        return super().list(self.few(where), page, **options)


@caught_by("R20")
class CountsFewIds(_TakesFewIds):
    def count(self, where: JobFilter) -> int:
        return super().count(self.few(where))


def _misreading(mark: str) -> type[Base]:
    """One that makes a path into JSON of a key, and finds nothing under a key with this character in it."""

    class Misreads(Base):
        def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
            return Listing([], []) if mark in "".join(where.metadata or {}) else super().list(where, page, **options)

    Misreads.__name__ = f"Misreads_{mark}_in_a_key"
    return Misreads


for _mark in ".\"\\'":
    caught_by("R17")(_misreading(_mark))


@caught_by("R17")
class TakesAKeyForAPattern(Base):
    def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
        found = super().list(where.model_copy(update={"metadata": None}), page._replace(limit=10_000), **options)
        asked = (where.metadata or {}).items()
        jobs = [job for job in found.jobs if all(_has_like(job.metadata, key, value) for key, value in asked)]
        return found._replace(jobs=jobs[: page.limit])


def _has_like(metadata: dict[str, str], key: str, value: str) -> bool:
    return any(fnmatchcase(there, key.replace("_", "?")) and text == value for there, text in metadata.items())


@caught_by("R20")
class CountsOnePage(Base):
    def count(self, where: JobFilter) -> int:
        return min(super().count(where), 20)


# due


@caught_by("R18")
class MissesTheBoundarySecond(Base):
    def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        return super().due(due, until=until - 1, limit=limit, after=after)


def _without(due_page: Due) -> type[Base]:
    """One whose due page of this kind is always empty."""

    class Misses(Base):
        def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
            return DuePage([], None, []) if due is due_page else super().due(due, until=until, limit=limit, after=after)

    Misses.__name__ = f"Misses_the_page_{due_page}"
    return Misses


for _due in Due:
    caught_by("R19" if _due is Due.EXPIRING else "R18")(_without(_due))


@caught_by("R18")
class RelaysWhatWasNeverRetriedAtOnce(Base):
    def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        return super().due(due, until=2**62 if due is Due.PENDING else until, limit=limit, after=after)


@caught_by("R18")
class IgnoresWhenADispatchedJobIsAvailable(Base):
    def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        if due is not Due.UNSTARTED:
            return super().due(due, until=until, limit=limit, after=after)
        rows = [
            row for row in self._rows.values() if row.status is JobStatus.QUEUED and (row.dispatched_at or until + 1) <= until
        ]
        return DuePage(sorted(rows, key=lambda row: (row.dispatched_at, row.id))[:limit], None, [])


@caught_by("R19")
class SkipsEqualTimes(Base):
    def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        return super().due(due, until=until, limit=limit, after=None if after is None else Cursor(after.time, "~"))


@caught_by("R19")
class RepeatsEqualTimes(Base):
    def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        return super().due(due, until=until, limit=limit, after=None if after is None else Cursor(after.time - 1, "~"))


@caught_by("R19")
class OrdersDueJobsById(Base):
    def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        found = super().due(due, until=until, limit=10_000)
        jobs = sorted((job for job in found.jobs if after is None or job.id > after.job_id), key=lambda job: job.id)[:limit]
        last = Cursor(due_time(due, jobs[-1]) or 0, jobs[-1].id) if len(jobs) == limit else None
        return DuePage(jobs, last, found.unreadable)


@caught_by("R19")
class EndsAfterAPage(Base):
    def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        return super().due(due, until=until, limit=limit, after=after)._replace(after=None)


class _KeepsDueTimes(Base):
    """It has columns of due times, written when it inserts, and reads the due pages from them."""

    def __init__(self) -> None:
        super().__init__()
        self.columns: dict[str, AnyJob] = {}

    def _store(self, job: AnyJob, record: HistoryRecord) -> None:
        super()._store(job, record)
        self.columns[job.id] = job

    def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        now, self._rows = self._rows, {job_id: self.columns[job_id] for job_id in self._rows}
        try:
            found = super().due(due, until=until, limit=limit, after=after)
        finally:
            self._rows = now
        return found._replace(jobs=[now[job.id] for job in found.jobs])


@caught_by("R18")
class WritesDueTimesWhenItInserts(_KeepsDueTimes):
    pass


@caught_by("R19")
class WritesDueTimesOfOneRow(_KeepsDueTimes):
    """In bulk it does not."""

    def save(self, transition: Accepted, *, within: Any = None) -> None:
        super().save(transition, within=within)
        self.columns[transition.job_id] = self._rows[transition.job_id]

    def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        before = self.columns.copy()
        answers = super().save_many(transitions)
        self.columns = before
        return answers


def _ending_after_a_part(ending: Due) -> type[Base]:
    """One whose cursor leads nowhere on this page."""

    class Ends(Base):
        def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
            found = super().due(due, until=until, limit=limit, after=after)
            return found._replace(jobs=[]) if due is ending and after is not None else found

    Ends.__name__ = f"Ends_after_a_part_of_{ending}"
    return Ends


for _due in Due:
    caught_by("R19")(_ending_after_a_part(_due))


# history and delete


@caught_by("R21")
class AnswersTheNewestFirst(Base):
    def history(self, job_id: str, *, after_version: int = 0) -> Sequence[HistoryRecord]:
        return list(super().history(job_id, after_version=after_version))[::-1]


@caught_by("R21")
class IgnoresTheVersionOfAHistory(Base):
    def history(self, job_id: str, *, after_version: int = 0) -> Sequence[HistoryRecord]:
        return super().history(job_id)


@caught_by("R21")
class IncludesTheVersionOfAHistory(Base):
    def history(self, job_id: str, *, after_version: int = 0) -> Sequence[HistoryRecord]:
        return super().history(job_id, after_version=after_version - 1)


@caught_by("R22")
class LeavesTheHistory(Base):
    def delete(self, job_id: str, version: int) -> None:
        records = self._history.get(job_id)
        super().delete(job_id, version)
        self._history[job_id] = records or []


@caught_by("R22")
class LeavesThePayload(Base):
    def delete(self, job_id: str, version: int) -> None:
        payload = self._payloads.get((job_id, "request"))
        super().delete(job_id, version)
        if payload is not None:
            self._payloads[job_id, "request"] = payload

    def _write_payloads(self, job_id: str, changes: dict[str, Any]) -> None:
        super()._write_payloads(
            job_id, changes if job_id in self._rows else {k: v for k, v in changes.items() if v is not None}
        )


@caught_by("R22")
class KeepsTheKey(Base):
    def delete(self, job_id: str, version: int) -> None:
        row = self._rows.get(job_id)
        super().delete(job_id, version)
        if row is not None and row.idempotency_key is not None:
            self._keys[row.organization_id, row.idempotency_key] = next(iter(self._rows), job_id)


@caught_by("R22")
class FreesTheKeyOfEachOrganization(Base):
    def delete(self, job_id: str, version: int) -> None:
        row = self._at(job_id, version)
        super().delete(job_id, version)
        self._keys = {key: there for key, there in self._keys.items() if key[1] != row.idempotency_key}


@caught_by("R23")
class FreesTheKeyOfAStaleDelete(Base):
    def delete(self, job_id: str, version: int) -> None:
        row = self._rows.get(job_id)
        if row is not None and row.version != version:
            self._keys.pop((row.organization_id, row.idempotency_key), None)
        super().delete(job_id, version)


@caught_by("R23")
class DeletesAtAnyVersion(Base):
    def delete(self, job_id: str, version: int) -> None:
        super().delete(job_id, self._rows[job_id].version if job_id in self._rows else version)


@caught_by("R23")
class SaysNothingOfAStaleDelete(Base):
    def delete(self, job_id: str, version: int) -> None:
        try:
            super().delete(job_id, version)
        except StaleJobError:
            return


# rows that cannot be read


@caught_by("R24")
class ReadsWhatItCannot(Base):
    def load(self, job_id: str, **options: Any) -> AnyJob:
        if job_id in self.spoilt:
            raise ValueError("'frozen' is not a valid JobStatus")
        return super().load(job_id, **options)


@caught_by("R25")
class StopsAListAtABadRow(Base):
    def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
        found = super().list(where, page, **options)
        if found.unreadable:
            raise found.unreadable[0]
        return found


@caught_by("R25")
class LeavesBadRowsOut(Base):
    def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        return super().due(due, until=until, limit=limit, after=after)._replace(unreadable=[])


@caught_by("R25")
class EndsAtAPartThatHasABadRow(Base):
    def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        found = super().due(due, until=until, limit=limit, after=after)
        return found._replace(after=found.after if len(found.jobs) == limit else None)


@caught_by("R25")
class GoesOnBehindTheLastGoodRow(Base):
    def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        found = super().due(due, until=until, limit=limit, after=after)
        if found.after is None or not found.jobs:
            return found
        return found._replace(after=Cursor(due_time(due, found.jobs[-1]) or 0, found.jobs[-1].id))


@caught_by("R25")
class LeavesBadRowsOutOfAFullPage(Base):
    def list(self, where: JobFilter, page: PageRequest, **options: Any) -> Listing:
        found = super().list(where, page, **options)
        return found._replace(unreadable=[]) if len(found.ids) == page.limit else found


# within


@caught_by("R26")
class ForgetsWithin(Base):
    def save(self, transition: Accepted, *, within: Any = None) -> None:
        super().save(transition)


@caught_by("R26")
class CallsWithinTwice(Base):
    def save(self, transition: Accepted, *, within: Any = None) -> None:
        def twice(transaction: Any) -> None:
            within(transaction)
            within(transaction)

        super().save(transition, within=within and twice)


@caught_by("R27")
class CallsWithinOfARefusedInsert(Base):
    def insert(self, job: AnyJob, record: HistoryRecord, *, within: Any = None) -> AnyJob | None:
        if within is not None:
            within(None)
        return super().insert(job, record)


@caught_by("R27")
class CallsWithinOfAStaleSave(Base):
    def save(self, transition: Accepted, *, within: Any = None) -> None:
        if within is not None:
            within(None)
        super().save(transition)


@caught_by("R28")
class CallsWithinAfterTheCommit(Base):
    def save(self, transition: Accepted, *, within: Any = None) -> None:
        super().save(transition)
        if within is not None:
            within(None)


@caught_by("R28")
class SwallowsWhatWithinRaises(Base):
    def save(self, transition: Accepted, *, within: Any = None) -> None:
        def quiet(transaction: Any) -> None:
            try:
                within(transaction)
            except Exception:
                return

        super().save(transition, within=None if within is None else quiet)


@caught_by("R28")
class WrapsWhatWithinRaises(Base):
    def save(self, transition: Accepted, *, within: Any = None) -> None:
        try:
            super().save(transition, within=within)
        except RepositoryError:
            raise
        except Exception as error:
            raise RepositoryError(f"the transaction failed: {error}") from error


@caught_by("R28")
class KeepsTheInsertOfARolledBackDispatch(Base):
    def insert(self, job: AnyJob, record: HistoryRecord, *, within: Any = None) -> AnyJob | None:
        there = super().insert(job, record)
        if within is not None and there is None:
            within(None)
        return there
