"""The job API over HTTP, as a router that a host mounts. The clients of the API that it follows work on it unchanged.

router         `jobs_router`: the routes
parameters     what comes in beside a body
bodies         what comes in as a body
answers        what is answered: bodies, status codes, headers
wire           the job object
faults         the errors of the library, as HTTP says them
route          bounds a body, and gives every fault one form
desk           the service, of whichever colour
documentation  what the OpenAPI document says of the answers
cloud_tasks    `cloud_tasks_router`: where Cloud Tasks delivers to; no part of the job API, and of another extra
"""

from jobstate.extra import needs_extra

with needs_extra("fastapi"):
    from jobstate.adapters.fastapi.router import jobs_router

__all__ = ["jobs_router"]
