"""The service behind the routes, of whichever colour, for one organization at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

from fastapi.concurrency import run_in_threadpool

from jobstate.adapters.fastapi.faults import OrganizationError
from jobstate.errors import InvalidInputError
from jobstate.service import AsyncJobs, Jobs

R = TypeVar("R")


class Desk:
    """Carries out one call for an organization; a sync service's in the threadpool."""

    def __init__(self, jobs: Jobs | AsyncJobs) -> None:
        self._jobs = jobs

    async def ask(self, organization_id: str, call: Callable[[Jobs], R]) -> R:
        """What the call answers. It is written for `Jobs`; `AsyncJobs` has the same methods, and they are awaited.

        Raises OrganizationError for what is none.
        """
        try:
            face = self._jobs.for_organization(organization_id)
        except InvalidInputError as error:
            raise OrganizationError(organization_id, error.problem) from None
        if isinstance(face, Jobs):
            return await run_in_threadpool(call, face)
        return await cast("Callable[[AsyncJobs], Awaitable[R]]", call)(face)
