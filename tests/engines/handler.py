"""What the jobs of the scenarios do, and the log of what was begun."""

from __future__ import annotations

import os
import time
from typing import Any, NamedTuple

from jobstate.context import Context
from jobstate.worker import Handler, JobFailed
from tests.engines.place import Place

LOG = "starts.log"
PATIENCE = 60.0
"""Seconds that a handler waits at its gate."""


class Start(NamedTuple):
    """One line of the log: a handler was called."""

    job_id: str
    attempt: int
    pid: int


def starts(place: Place) -> list[Start]:
    """What was begun so far. A start may be saved, and its worker killed before it could write here: never the other way."""
    path = place.path(LOG)
    lines = path.read_text().splitlines() if path.exists() else []
    return [Start(job_id, int(attempt), int(pid)) for job_id, attempt, pid in (line.split() for line in lines)]


def handler_of(place: Place) -> Handler:
    """A handler that says that it was called, does what its request says, and answers with its attempt.

    `fails`: in so many attempts, retryably; `gate`: waits, in the first attempt, for a file of that name.
    """

    def handler(request: dict[str, Any], context: Context) -> dict[str, Any]:
        number = context.attempt.number
        _note(place, LOG, f"{context.job.id} {number} {os.getpid()}\n")
        if number <= request.get("fails", 0):
            raise JobFailed("again", "it was meant to fail", retryable=True)
        if number == 1 and "gate" in request:
            _wait_at(place, request["gate"], context)
            place.path("ended").touch()
        return {"attempt": number, "pid": os.getpid()}

    return handler


def _wait_at(place: Place, gate: str, context: Context) -> None:
    end, told = time.monotonic() + PATIENCE, False
    while not place.path(gate).exists() and time.monotonic() < end:
        if context.stopping and not told:
            told = True
            place.path("stopping").touch()
        time.sleep(0.01)


def _note(place: Place, name: str, line: str) -> None:
    """One write at the end of the file: lines of several processes do not mix."""
    log = os.open(place.path(name), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(log, line.encode())
    finally:
        os.close(log)
