"""A host with endpoints of its own: their requests and responses are models, for the type checker and at run time."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field

from jobstate import Context, Endpoint, JobFailed, Jobs
from jobstate.adapters.fastapi import jobs_router
from jobstate.ports import Dispatcher, Repository


class Endpoints(StrEnum):
    """What can be asked of this service."""

    EXTRACT = "/v1/invoices/extract"
    SPLIT = "/v1/documents/split"


class Extract(BaseModel):
    """The text of an invoice."""

    text: str = Field(min_length=1)


class Invoice(BaseModel):
    """What was found in it."""

    total: Decimal
    due: date | None = None


class Split(BaseModel):
    """A document, and how many pages a part has."""

    pages: list[str]
    size: int = Field(ge=1, le=100)


class Parts(BaseModel):
    """Its parts."""

    parts: list[list[str]]


EXTRACT = Endpoint(Endpoints.EXTRACT, request=Extract, response=Invoice)
SPLIT = Endpoint(Endpoints.SPLIT, request=Split, response=Parts)


def extract(request: Extract, context: Context) -> Invoice:
    """The line `total: FIGURE`, and perhaps `due: DAY`."""
    fields = dict(line.split(": ", 1) for line in request.text.splitlines() if ": " in line)
    if "total" not in fields:
        raise JobFailed("no_total", "no line begins with 'total: '", {"lines": len(request.text.splitlines())})
    return Invoice.model_validate({name: fields[name] for name in ("total", "due") if name in fields})


def split(request: Split, context: Context) -> Parts:
    """Parts of so many pages."""
    starts = range(0, len(request.pages), request.size)
    return Parts(parts=[request.pages[start : start + request.size] for start in starts])


HANDLERS: dict[str, Callable[[Any, Context], BaseModel]] = {EXTRACT.name: extract, SPLIT.name: split}


def handler(request: Any, context: Context) -> BaseModel:
    """The handler of the job's endpoint; a result that is not of the endpoint's type is a failure."""
    return HANDLERS[context.job.endpoint](request, context)


def make_jobs(repository: Repository, dispatcher: Dispatcher | None = None) -> Jobs:
    """The service's jobs."""
    return Jobs(repository, dispatcher, endpoints=[EXTRACT, SPLIT])


def total_of(jobs: Jobs, job_id: str) -> Decimal:
    """What another part of the service reads: a type checker knows that it is a Decimal."""
    response = jobs.retrieve(job_id, EXTRACT, include_response=True).response
    if response is None:
        raise LookupError(f"{job_id} has no response")
    return response.body.total


def make_app(jobs: Jobs, organization: Callable[..., str]) -> FastAPI:
    """The job API for it: unknown endpoints and requests that do not fit are 422, and the OpenAPI document shows each."""
    app = FastAPI(title="documents")
    app.include_router(jobs_router(jobs, organization=organization))
    return app
