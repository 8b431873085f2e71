"""What changes nothing: retrieve, list, count, history."""

from __future__ import annotations

from typing import Any

from jobstate.effects import Count, Flow, History, List, Load
from jobstate.errors import InvalidInputError
from jobstate.flows.settle import Scope
from jobstate.flows.whole import shown
from jobstate.model import AnyJob, HistoryRecord, JobStatus, evolve
from jobstate.query import JobFilter, JobPage, PageRequest

PAGE_LIMIT = 1000
"""The most jobs on one page."""


def retrieve(scope: Scope, job_id: str, *, include_request: bool, include_response: bool) -> Flow[AnyJob]:
    """One job."""
    job = yield from Load(job_id, scope.organization_id, include_request, include_response)
    return as_shown((yield from shown(scope, job)))


def list_jobs(
    scope: Scope, where: JobFilter, page: PageRequest, *, include_request: bool, include_response: bool
) -> Flow[JobPage[Any, Any]]:
    """A page of jobs, and whether there are more in its direction."""
    limit: object = page.limit
    if type(limit) is not int or not 1 <= limit <= PAGE_LIMIT:
        raise InvalidInputError("limit", f"1 to {PAGE_LIMIT} jobs are possible on a page, not {limit!r}")
    if page.after is not None and page.before is not None:
        raise InvalidInputError("before", "a page lies after one job, or before one: give only one of the two")
    found = yield from List(where, page._replace(limit=limit + 1), include_request, include_response)
    if found.unreadable:
        raise found.unreadable[0]
    jobs, extra = found.jobs, len(found.jobs) > limit
    if extra:
        jobs = jobs[1:] if page.backwards else jobs[:limit]
    whole: list[AnyJob] = []
    for job in jobs:
        whole += [as_shown((yield from shown(scope, job)))]
    return JobPage(whole, extra)


def count(where: JobFilter) -> Flow[int]:
    """How many."""
    return (yield from Count(where))


def history(scope: Scope, job_id: str, after_version: int) -> Flow[list[HistoryRecord]]:
    """A job's records; JobNotFoundError as for the job."""
    yield from Load(job_id, scope.organization_id)
    return list((yield from History(job_id, after_version)))


def as_shown(job: AnyJob) -> AnyJob:
    """The job as its readers see it: a response is shown only while it is completed."""
    if job.status is JobStatus.COMPLETED or (job.response is None and job.response_artifacts is None):
        return job
    return evolve(job, {"response": None, "response_artifacts": None})
