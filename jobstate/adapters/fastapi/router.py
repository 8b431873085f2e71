"""The routes: each call of the job API, one call of the service.

No `from __future__ import annotations`: FastAPI reads the types, and what stands beside them, from the signatures.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Response

from jobstate.adapters.fastapi import answers
from jobstate.adapters.fastapi.bodies import Bodies, CreateJob, Names
from jobstate.adapters.fastapi.desk import Desk
from jobstate.adapters.fastapi.documentation import operation
from jobstate.adapters.fastapi.parameters import (
    After,
    Before,
    FromDate,
    Id,
    IdempotencyKey,
    IfNoneMatch,
    IncludeRequest,
    IncludeResponse,
    Limit,
    MetadataPairs,
    Order,
    Status,
    ToDate,
    both,
    conditions,
)
from jobstate.adapters.fastapi.route import route_class
from jobstate.face import Filter
from jobstate.service import AsyncJobs, Jobs


@dataclass(frozen=True, kw_only=True)
class _Host:
    """What the host has given: the service, dependencies that FastAPI solves, names, seconds."""

    desk: Desk
    caller: Any
    conditions: Any
    names: Names
    bodies: Bodies
    retry_after: int
    operation: Callable[[str], dict[str, Any]]


def _no_filters() -> Filter:
    return {}


def jobs_router(
    jobs: Jobs | AsyncJobs,
    *,
    organization: Callable[..., Any],
    endpoints: Iterable[str] | None = None,
    filters: Callable[..., Any] = _no_filters,
    prefix: str = "/v1",
    body_limit: int = 32 * 1024 * 1024,
    retry_after: int = 2,
    operation_prefix: str = "",
) -> APIRouter:
    """The job API as a router: `app.include_router(jobs_router(jobs, organization=...))`.

    Args:
        jobs: the trusted, unscoped service; each call is made on the face of its caller's organization.
        organization: a dependency that answers with the caller's organization, or raises HTTPException (401, 403).
        endpoints: the names of endpoints that can be asked for, such as the host's str enum; by default those of `jobs`, and
            any name when it has none. Request models are those of the `Endpoint`s that `jobs` was made with.
        filters: a dependency with further parameters of a list, which answers with a `Filter`; its conditions hold too.
        prefix: what comes before `/jobs`, with or without a slash at its end.
        body_limit: the most bytes of a body; 413 beyond.
        retry_after: seconds in `Retry-After`, on 503 and on polling of a job that is not finished.
        operation_prefix: what the names of the operations begin with in the OpenAPI document: one for each router, when an
            application has several, since the names must differ.

    Raises ValueError for a name of an endpoint that `jobs` would refuse.
    """
    names = Names(jobs.endpoints if endpoints is None else endpoints)
    if unknown := [name for name in names.names if jobs.endpoints and name not in jobs.endpoints]:
        raise ValueError(f"endpoints: {', '.join(unknown)} is unknown to jobs, which has {', '.join(jobs.endpoints)}")
    host = _Host(
        desk=Desk(jobs),
        caller=Depends(organization),
        conditions=Depends(filters),
        names=names,
        bodies=Bodies(names, jobs.endpoints),
        retry_after=retry_after,
        operation=partial(operation, prefix=operation_prefix),
    )
    router = APIRouter(prefix=f"{prefix.rstrip('/')}/jobs", tags=["jobs"], route_class=route_class(body_limit, retry_after))
    for add in (_add_create, _add_list, _add_retrieve, _add_status, _add_cancel, _add_retry):
        add(router, host)
    return router


def _add_create(router: APIRouter, host: _Host) -> None:
    @router.post("", summary="Create a job", **host.operation("create_job"))
    async def create(
        body: Annotated[CreateJob, Body(), host.bodies],
        organization_id: str = host.caller,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """The job is stored and queued. On 202 its dispatch is delayed: poll it, and do not create it again."""
        endpoint, given = host.names.check(body.endpoint), body.request
        job = await host.desk.ask(
            organization_id,
            lambda jobs: jobs.create(endpoint, given, metadata=body.metadata, idempotency_key=idempotency_key),
        )
        return answers.created(job, host.retry_after)


def _add_list(router: APIRouter, host: _Host) -> None:
    @router.get("", summary="List jobs", **host.operation("list_jobs"))
    async def list_jobs(
        organization_id: str = host.caller,
        hosts: Filter = host.conditions,
        limit: Limit = 20,
        order: Order = "desc",
        after: After = None,
        before: Before = None,
        id: Id = None,  # noqa: A002  # the parameter's name on the wire
        status: Status = None,
        endpoint: Annotated[Annotated[str, host.names] | None, Query(description="Only jobs of this endpoint.")] = None,
        from_date: FromDate = None,
        to_date: ToDate = None,
        metadata: MetadataPairs = None,
        include_request: IncludeRequest = False,
        include_response: IncludeResponse = False,
    ) -> Response:
        """A page by creation. `last_id` as `after` leads to the next one, `first_id` as `before` to the one before."""
        asked = both(conditions(id, status, endpoint, from_date, to_date, metadata), hosts)
        page = await host.desk.ask(
            organization_id,
            lambda jobs: jobs.list(
                limit=limit,
                order=order,
                after=after,
                before=before,
                include_request=include_request,
                include_response=include_response,
                **asked,
            ),
        )
        return answers.page(page)


def _add_retrieve(router: APIRouter, host: _Host) -> None:
    @router.get("/{job_id}", summary="Retrieve a job", **host.operation("retrieve_job"))
    async def retrieve(
        job_id: str,
        organization_id: str = host.caller,
        include_request: IncludeRequest = False,
        include_response: IncludeResponse = False,
        if_none_match: IfNoneMatch = None,
    ) -> Response:
        """Without payloads unless they are asked for: poll it as often as `Retry-After` says."""
        if if_none_match is not None and (include_request or include_response):
            job = await host.desk.ask(organization_id, lambda jobs: jobs.retrieve(job_id))
            if answers.is_known(job, if_none_match):
                return answers.unchanged(job, host.retry_after)
        job = await host.desk.ask(
            organization_id,
            lambda jobs: jobs.retrieve(job_id, include_request=include_request, include_response=include_response),
        )
        return answers.polled(job, if_none_match, host.retry_after)


def _add_status(router: APIRouter, host: _Host) -> None:
    @router.get("/{job_id}/status", summary="Poll a job", **host.operation("retrieve_job_status"))
    async def retrieve_status(job_id: str, organization_id: str = host.caller, if_none_match: IfNoneMatch = None) -> Response:
        """The lifecycle only; no payload is touched."""
        job = await host.desk.ask(organization_id, lambda jobs: jobs.retrieve(job_id))
        return answers.polled(job, if_none_match, host.retry_after, lifecycle=True)


def _add_cancel(router: APIRouter, host: _Host) -> None:
    @router.post("/{job_id}/cancel", summary="Cancel a job", **host.operation("cancel_job"))
    async def cancel(job_id: str, organization_id: str = host.caller) -> Response:
        """At once, also while it runs; its worker learns it from its next heartbeat."""
        job = await host.desk.ask(organization_id, lambda jobs: jobs.cancel(job_id, include_request=True))
        return answers.done(job)


def _add_retry(router: APIRouter, host: _Host) -> None:
    @router.post("/{job_id}/retry", summary="Retry a job", **host.operation("retry_job"))
    async def retry(job_id: str, organization_id: str = host.caller, idempotency_key: IdempotencyKey = None) -> Response:
        """A failed, cancelled or expired job is queued once more. Repeating the request finds the same retry."""
        job = await host.desk.ask(
            organization_id,
            lambda jobs: jobs.retry(job_id, retry_key=idempotency_key, include_request=True),
        )
        return answers.retried(job, host.retry_after)
