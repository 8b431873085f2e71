"""What a repository reads: a case for each clause, as a flow, so that one text serves both colours."""

from __future__ import annotations

from typing import Any

from jobstate.effects import Count, DueJobs, Flow, History, List, Load, Save, SaveMany
from jobstate.errors import JobNotFoundError, UnreadableJobError
from jobstate.lifecycle.creation import creation_record
from jobstate.model import AnyJob, Event, HistoryRecord, JobResponse, JobStatus, Lease, evolve
from jobstate.query import Cursor, Due, DuePage, JobFilter, PageRequest, due_time
from jobstate.testing.contracts.clauses import Capability, Contract, Hook, clause
from jobstate.testing.contracts.samples import (
    EVERYTHING,
    IDS,
    LATE,
    bare,
    example,
    listed,
    refused,
    same,
    stored,
    towards,
    transition,
    whole,
)
from jobstate.testing.examples import T


class ReadCases(Contract):
    """A case for each clause of `load`, `list`, `due`, `count` and `history`."""

    # load

    @clause("R04")
    def test_R04_an_unknown_id_is_not_found(self) -> Flow[None]:
        """Nor is one that differs in upper and lower case only."""
        upper, lower = IDS[3], IDS[7]
        assert upper.lower() == lower
        yield from stored([example(3)])
        for unknown in (IDS[1], lower):
            error = yield from refused(Load(unknown), JobNotFoundError)
            assert unknown in str(error)

    @clause("R05")
    def test_R05_another_organizations_job_looks_unknown(self) -> Flow[None]:
        """Also when the two differ in case only, or in a space at the end."""
        job = example(0, organization_id="org")
        yield from stored([job])
        same((yield from Load(job.id, "org")), bare(job))
        for other in ("org_other", "ORG", "org ", "or"):
            others = yield from refused(Load(job.id, other), JobNotFoundError)
            unknown = yield from refused(Load(IDS[1], other), JobNotFoundError)
            assert str(others).replace(job.id, "") == str(unknown).replace(IDS[1], "")

    @clause("R06")
    def test_R06_a_payload_is_loaded_when_it_is_asked_for(self) -> Flow[None]:
        """Each job's own, in a list as well, also next to one that has none."""
        jobs = [example(number, JobStatus.COMPLETED, request={"page": number}) for number in range(3)]
        jobs[0] = evolve(jobs[0], {"response": None})
        jobs[1] = evolve(jobs[1], {"request": None, "response": JobResponse[Any](body={"page": 1})})
        yield from stored(jobs)
        for request in (False, True):
            for response in (False, True):
                without = {name: None for name, asked in (("request", request), ("response", response)) if not asked}
                wanted = [evolve(job, without) for job in jobs]
                same((yield from Load(jobs[2].id, None, request, response)), wanted[2])
                for newest in (False, True):
                    listing = yield from List(EVERYTHING, PageRequest(3, newest_first=newest), request, response)
                    for there, job in zip(listing.jobs, reversed(wanted) if newest else wanted, strict=True):
                        same(there, job)
        page = yield from DueJobs(Due.EXPIRING, LATE, 10)
        same(page.jobs[0], bare(jobs[0]))

    @clause("R07")
    def test_R07_what_is_loaded_is_nobody_elses(self) -> Flow[None]:
        request = {"list": [1]}
        job = example(0, JobStatus.COMPLETED, request=request, metadata={"a": "b"})
        yield from stored([job])
        request["list"].append(2)
        job.metadata["a"] = "changed"
        first = yield from whole(job.id)
        assert first.request == {"list": [1]}, "what was stored is shared with the caller"
        assert first.metadata == {"a": "b"}, "what was stored is shared with the caller"
        assert first.request is not None
        assert first.response is not None
        first.request["list"].append(3)
        first.metadata["a"] = "changed"
        first.response.body["pages"] = 99
        second = yield from whole(job.id)
        assert second.request == {"list": [1]}, "two loads share a request"
        assert second.metadata == {"a": "b"}, "two loads share metadata"
        assert second.response == job.response, "two loads share a response"
        record = (yield from History(job.id))[0]
        before = record.model_copy(deep=True)
        record.changes["endpoint"] = "changed"
        assert list((yield from History(job.id))) == [before], "two histories share a record"

    # list and count

    @clause("R15")
    def test_R15_a_list_is_in_byte_order(self) -> Flow[None]:
        yield from stored([example(number) for number in (3, 7, 1, 9, 0, 5, 2, 8, 4, 6)])
        assert (yield from listed(EVERYTHING, PageRequest(100))) == list(reversed(IDS))
        assert (yield from listed(EVERYTHING, PageRequest(100, newest_first=False))) == list(IDS)
        assert (yield from listed(EVERYTHING, PageRequest(3))) == list(reversed(IDS[-3:]))

    @clause("R16")
    def test_R16_a_page_goes_on_from_a_cursor(self) -> Flow[None]:
        yield from stored([example(number) for number in range(10) if number != 4])
        there = [job_id for job_id in IDS if job_id != IDS[4]]
        for newest in (False, True):
            order = there[::-1] if newest else there
            for cursor in IDS:
                behind = [i for i in order if (i < cursor if newest else i > cursor)]
                ahead = [i for i in order if (i > cursor if newest else i < cursor)]
                for limit in (1, 3, 50):
                    after = yield from listed(EVERYTHING, PageRequest(limit, after=cursor, newest_first=newest))
                    assert after == behind[:limit], f"after {cursor}: {after}"
                    before = yield from listed(EVERYTHING, PageRequest(limit, before=cursor, newest_first=newest))
                    assert before == ahead[-limit:], f"before {cursor}: {before}"

    @clause("R17")
    def test_R17_a_filter_finds_all_that_it_describes_and_no_other(self) -> Flow[None]:
        """On each page, whether a row was inserted as it is or saved since."""
        jobs = yield from _stored_and_saved(_assorted())
        for where in _filters():
            ids = [job.id for job in jobs if _holds(where, job)]
            pages = {
                PageRequest(2, newest_first=False): ids[:2],
                PageRequest(50, after=IDS[1], newest_first=False): [job_id for job_id in ids if job_id > IDS[1]],
                PageRequest(2, before=IDS[4]): [job_id for job_id in ids if job_id > IDS[4]][1::-1],
            }
            for page, expected in pages.items():
                found = yield from listed(where, page)
                assert found == expected, f"{_briefly(where)}, {page}: {found}"

    # due

    @clause("R18")
    def test_R18_a_due_page_has_what_is_due(self) -> Flow[None]:
        """As the rows were inserted, and as they stand when each has been saved as the next one."""
        jobs = _of_every_page()
        yield from stored(jobs)
        yield from _each_on_its_pages(jobs)
        moves = [towards(job, next_) for job, next_ in zip(jobs, [*jobs[1:], jobs[0]], strict=True)]
        for move in moves:
            yield from Save(move)
        yield from _each_on_its_pages([evolve(job, move.changes) for job, move in zip(jobs, moves, strict=True)])

    @clause("R19")
    def test_R19_a_due_page_goes_on_behind_its_cursor(self) -> Flow[None]:
        """Each page, with the same rows: they are saved from one to the next."""
        times = [T + 9, T + 9, T + 5, T + 9, T + 5, T + 7, T + 9, T + 7, T + 5, T + 9]
        jobs = [example(number) for number in range(len(times))]
        yield from stored(jobs)
        expected = [job_id for _, job_id in sorted(zip(times, IDS, strict=True))]
        for due in Due:
            moves = [transition(job, **_due_at(due, time, job)) for job, time in zip(jobs, times, strict=True)]
            assert not any((yield from SaveMany(moves)))
            jobs = [evolve(job, move.changes) for job, move in zip(jobs, moves, strict=True)]
            for limit in (1, 2, 3, 10, 11) if due is Due.EXPIRING else (2,):
                found, _ = yield from _walked(due, limit)
                assert found == expected, f"{due}, with pages of {limit}: {found}"

    @clause("R20")
    def test_R20_a_count_counts_what_a_list_lists(self) -> Flow[None]:
        """All of them, and not only as many as on a page."""
        jobs = yield from _stored_and_saved(_assorted())
        more = [example(0, id=f"job_{number:021}") for number in range(1, 12)]
        jobs += [evolve(job, {"idempotency_key": None}) for job in more]
        yield from stored(jobs[-len(more) :])
        for where in _filters():
            assert (yield from Count(where)) == sum(_holds(where, job) for job in jobs), _briefly(where)

    # history

    @clause("R21")
    def test_R21_a_history_is_in_order_and_behind_a_version(self) -> Flow[None]:
        job, other = example(), example(1)
        yield from stored([job, other])
        records: list[HistoryRecord] = [creation_record(job)]
        for event in (Event.START, Event.RELEASE, Event.HEARTBEAT, Event.START, Event.COMPLETE):
            saved = transition(job, event, warnings=None)
            yield from Save(saved)
            records += [] if saved.record is None else [saved.record]
            job = evolve(job, saved.changes)
        for version in range(8):
            found = yield from History(job.id, version)
            assert list(found) == [record for record in records if record.version > version], f"behind {version}"
        assert list((yield from History(IDS[2]))) == []

    # rows that cannot be read

    @clause("R24", Capability.SPOIL)
    def test_R24_an_unreadable_row_is_named_when_it_is_loaded(self) -> Flow[None]:
        yield from stored([example()])
        yield from Hook("_spoil", (IDS[0],))
        error = yield from refused(Load(IDS[0]), UnreadableJobError)
        assert IDS[0] in str(error)

    @clause("R25", Capability.SPOIL)
    def test_R25_an_unreadable_row_stops_no_page(self) -> Flow[None]:
        """It counts for the limit, and a page that ends with it is gone on behind."""
        yield from stored([example(number) for number in range(5)])
        spoilt, good = [IDS[0], IDS[3]], [IDS[1], IDS[2], IDS[4]]
        for job_id in spoilt:
            yield from Hook("_spoil", (job_id,))
        for limit in (1, 2, 3, 9):
            assert (yield from _walked(Due.EXPIRING, limit)) == (good, spoilt), f"with pages of {limit}"
            listing = yield from List(EVERYTHING, PageRequest(limit, newest_first=False))
            assert [job.id for job in listing.jobs] == [job_id for job_id in good if job_id in IDS[:limit]]
            assert [error.job_id for error in listing.unreadable] == [job_id for job_id in spoilt if job_id in IDS[:limit]]


def _walked(due: Due, limit: int) -> Flow[tuple[list[str], list[str]]]:
    """The ids of all rows of a due page, in parts of this many: those of readable ones, and of the others."""
    readable: list[str] = []
    unreadable: list[str] = []
    after: Cursor | None = None
    while True:
        page: DuePage = yield from DueJobs(due, LATE, limit, after)
        rows = len(page.jobs) + len(page.unreadable)
        assert rows <= limit, f"{rows} rows, at most {limit} were asked for"
        readable += [job.id for job in page.jobs]
        unreadable += [error.job_id for error in page.unreadable]
        found = [*readable, *unreadable]
        assert len(found) == len(set(found)), f"{due}: a row comes again, with pages of {limit}: {found}"
        if page.after is None:
            return readable, unreadable
        assert rows, f"{due}: an empty part, and more behind it, with pages of {limit}"
        after = page.after


def _each_on_its_pages(jobs: list[AnyJob]) -> Flow[None]:
    """Each due page, until each time on it, has the jobs that are due then."""
    for due in Due:
        times = {job.id: time for job in jobs if (time := due_time(due, job)) is not None}
        assert times, due
        for until in (-1, *sorted(set(times.values())), LATE):
            page = yield from DueJobs(due, until, 50)
            expected = sorted((time, job_id) for job_id, time in times.items() if time <= until)
            assert [job.id for job in page.jobs] == [job_id for _, job_id in expected], f"{due} until {until}"
            for job in page.jobs:
                same(job, bare(next(there for there in jobs if there.id == job.id)))


_MARKS = ".\"\\%_'"
"""What a path into JSON, a pattern or a quoted text may take for something else."""

_MANY = JobFilter(ids=(*IDS, *(f"job_{number:021}" for number in range(1, 10_001 - len(IDS)))))
"""As many ids as a filter may have."""


def _briefly(where: JobFilter) -> str:
    """For an error: many ids say no more than how many."""
    return "the most ids that a filter may have" if where is _MANY else str(where)


def _stored_and_saved(jobs: list[AnyJob]) -> Flow[list[AnyJob]]:
    """Store them, every other one first as the one before it, and then saved as what it is: how they stand now."""
    inserted = [evolve(job, towards(job, jobs[at - 1]).changes) if at % 2 else job for at, job in enumerate(jobs)]
    yield from stored(inserted)
    for at in range(1, len(jobs), 2):
        move = towards(inserted[at], jobs[at])
        yield from Save(move)
        inserted[at] = evolve(inserted[at], move.changes)
    return inserted


def _assorted() -> list[AnyJob]:
    """Jobs that differ in what a filter asks for, in the order of their ids."""
    statuses = [*JobStatus, JobStatus.FAILED, JobStatus.FAILED, JobStatus.QUEUED]
    metadata = [
        {},
        {"a": "1"},
        {"a": "1", "b": "2"},
        {"a": "2"},
        {"b": "2"},
        {"a": "1", "b": "3"},
        {"A": "1"},
        {f"a{mark}b": f"{mark}c" for mark in _MARKS},
        {"%": "_", "axb": "xc"},
        {"a": ""},
    ]
    return [
        example(
            number,
            statuses[number],
            organization_id="org_one" if number % 3 else "org_two",
            endpoint="/v1/a" if number % 2 else "/v1/A",
            created_at=T + number // 2,
            metadata=metadata[number],
        )
        for number in range(10)
    ]


def _filters() -> list[JobFilter]:
    """Each condition alone, at its edges, and together."""
    return [
        JobFilter(),
        *(JobFilter(organization_id=name) for name in ("org_one", "org_two", "ORG_ONE", "org_one ", "org_none")),
        *(JobFilter(ids=ids) for ids in ((), IDS[:3], (IDS[2], "job_" + "1" * 21))),
        _MANY,
        *(JobFilter(statuses=statuses) for statuses in ((), (JobStatus.FAILED,), (JobStatus.QUEUED, JobStatus.EXPIRED))),
        *(JobFilter(endpoint=name) for name in ("/v1/a", "/v1/A", "/v1/_")),
        *(JobFilter(created_from=T + at) for at in (0, 2, 5)),
        *(JobFilter(created_to=T + at) for at in (0, 2, 5)),
        JobFilter(created_from=T + 1, created_to=T + 3),
        *(JobFilter(metadata=pairs) for pairs in ({}, {"a": "1"}, {"a": "1", "b": "2"}, {"%": "_"}, {"a": ""}, {"a": "%"})),
        *(JobFilter(metadata={f"a{mark}b": f"{mark}c"}) for mark in _MARKS),
        JobFilter(organization_id="org_one", statuses=(JobStatus.FAILED,), endpoint="/v1/a", metadata={"a": "1"}),
        JobFilter(organization_id="org_one", ids=IDS, created_from=T + 1, created_to=T + 5, endpoint="/v1/a"),
    ]


def _holds(where: JobFilter, job: AnyJob) -> bool:
    """What the filter says, of one job."""
    return (
        (where.organization_id is None or job.organization_id == where.organization_id)
        and (where.ids is None or job.id in where.ids)
        and (where.statuses is None or job.status in where.statuses)
        and (where.endpoint is None or job.endpoint == where.endpoint)
        and (where.created_from is None or job.created_at >= where.created_from)
        and (where.created_to is None or job.created_at < where.created_to)
        and all(job.metadata.get(name) == value for name, value in (where.metadata or {}).items())
    )


def _due_at(due: Due, time: int, job: AnyJob) -> dict[str, Any]:
    """What a job is saved as to be due at this time for a page; it comes from the page before, in the order of `Due`."""
    first = IDS.index(job.id) % 2 == 0  # where the time is one of two
    fields: dict[Due, dict[str, Any]] = {
        Due.PENDING: {"dispatched_at": None, "available_at": time if first else None, "retried_at": T if first else time},
        Due.UNSTARTED: {"dispatched_at": time if first else T, "available_at": None if first else time},
        Due.UNLEASED: {"status": JobStatus.IN_PROGRESS, "lease": Lease(token="t", expires_at=time)},
        Due.EXPIRING: {"status": JobStatus.COMPLETED, "expires_at": time},
        Due.UNCLEANED: {"status": JobStatus.EXPIRED},
        Due.CLEANING: {"cleanup_started_at": time},
        Due.CLEANED: {"cleanup_completed_at": time},
    }
    return fields[due]


def _of_every_page() -> list[AnyJob]:
    """Jobs on each due page, and next to it."""
    queued, expired, running = JobStatus.QUEUED, JobStatus.EXPIRED, JobStatus.IN_PROGRESS
    return [
        example(0, queued, dispatched_at=None, available_at=T + 11),
        example(1, queued, dispatched_at=None, available_at=None, retried_at=T + 12),
        example(2, queued, dispatched_at=None, available_at=None, retried_at=None, created_at=T + 13),
        example(3, queued, dispatched_at=T + 14, available_at=None),
        example(4, queued, dispatched_at=T + 10, available_at=T + 15),
        example(5, running, lease=Lease(token="t", expires_at=T + 16)),
        example(6, running, lease=Lease(token="t", expires_at=None)),
        example(7, expired, expires_at=T + 17, cleanup_started_at=None),
        example(8, expired, expires_at=T + 18, cleanup_started_at=T + 19),
        example(9, expired, expires_at=T + 20, cleanup_started_at=T + 21, cleanup_completed_at=T + 22),
    ]
