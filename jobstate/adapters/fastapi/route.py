"""The class of the routes: bounds and parses a body, and answers every fault in the one form."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic_core import from_json

from jobstate.adapters.fastapi.faults import Problem, RequestError, answer, faults_of, invalid, problem_of
from jobstate.errors import InvalidInputError, JobstateError


def _too_large(limit: int) -> RequestError:
    words = f"the body is larger than {limit} bytes, which is the most that is taken"
    return RequestError(Problem(413, "request_too_large", words, {"limit": limit}))


def bounded(limit: int) -> type[Request]:
    """A request whose body has at most `limit` bytes, and is JSON that every store can hold."""

    class BoundedRequest(Request):
        async def stream(self) -> AsyncGenerator[bytes, None]:
            length = self.headers.get("content-length", "")
            if length.isdecimal() and int(length[:20]) > limit:
                raise _too_large(limit)
            size = 0
            async for chunk in super().stream():
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                yield chunk

        async def json(self) -> Any:
            try:
                return from_json(await self.body(), allow_inf_nan=False)
            except ValueError as error:
                fault = InvalidInputError("body", f"this is not JSON that can be read: {error}")
                raise RequestError(invalid([fault])) from None

    return BoundedRequest


def route_class(limit: int, retry_after: int) -> type[APIRoute]:
    """The class of the routes of one router."""
    request_class = bounded(limit)

    class JobsRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()

            async def handle(request: Request) -> Response:
                try:
                    return await handler(request_class(request.scope, request.receive))
                except RequestError as error:
                    return answer(error.problem, retry_after)
                except RequestValidationError as error:
                    return answer(invalid(faults_of(error.errors())), retry_after)
                except JobstateError as error:
                    return answer(problem_of(error), retry_after)

            return handle

    return JobsRoute
