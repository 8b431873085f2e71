"""The web side: the job API, and the sweeps beside it. `uvicorn invoices_web:web`."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException
from invoices import jobs, repository

from jobstate.adapters.fastapi import jobs_router
from jobstate.errors import JobstateError

KEYS = {"key-17": "org_abc123"}
EVERY = 1.0
"""Seconds between two sweeps."""

logger = logging.getLogger("invoices")


def organization(api_key: Annotated[str, Header()]) -> str:
    """Who the caller is."""
    if api_key not in KEYS:
        raise HTTPException(401, "no such key")
    return KEYS[api_key]


async def maintain() -> None:
    """Dispatch what the broker did not take, rescue what a lost worker held, expire, clean."""
    while True:
        try:
            await asyncio.to_thread(jobs.sweep)
        except JobstateError:
            logger.exception("a sweep was not made to its end; the next one goes on")
        await asyncio.sleep(EVERY)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    """The tables at the start; sweeps from then on."""
    await asyncio.to_thread(repository.create_schema)
    sweeps = asyncio.create_task(maintain())
    yield
    sweeps.cancel()
    with suppress(asyncio.CancelledError):
        await sweeps


web = FastAPI(title="invoices", lifespan=lifespan)
web.include_router(jobs_router(jobs, organization=organization))
