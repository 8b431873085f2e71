"""The face: `Jobs` and `AsyncJobs`. The operations are flows; `face` checks what comes in."""

from jobstate.service.async_jobs import AsyncJobs
from jobstate.service.jobs import Jobs

__all__ = ["AsyncJobs", "Jobs"]
