"""The web side: the job API, and the sweeps beside it. `uvicorn invoices_web:web`."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException
from invoices import jobs, repository

from jobstate import run_maintenance
from jobstate.adapters.fastapi import jobs_router

KEYS = {"key-17": "org_abc123"}
EVERY = 1.0
"""Seconds between two sweeps."""


def organization(api_key: Annotated[str, Header()]) -> str:
    """Who the caller is."""
    if api_key not in KEYS:
        raise HTTPException(401, "no such key")
    return KEYS[api_key]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    """The tables at the start; from then on sweeps: they dispatch what the broker did not take, and rescue, expire, clean."""
    await asyncio.to_thread(repository.create_schema)
    stop = threading.Event()
    maintenance = asyncio.create_task(asyncio.to_thread(run_maintenance, jobs, EVERY, stop=stop))
    yield
    stop.set()
    await maintenance


web = FastAPI(title="invoices", lifespan=lifespan)
web.include_router(jobs_router(jobs, organization=organization))
