"""The job API on a world: an application, a client that calls it in the process, and a real server on loopback."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from threading import Thread
from typing import Annotated, Any, cast

import jsonschema_rs
import uvicorn
from fastapi import FastAPI, Header, HTTPException
from starlette.testclient import TestClient

from jobstate.adapters.fastapi import jobs_router
from tests.support import ENDPOINT, ORG, REQUEST, World

OTHER = "org_b"
KEYS = {"key-a": ORG, "key-b": OTHER}
BODY = {"endpoint": ENDPOINT, "request": REQUEST}
UNKNOWN = "job_" + "-" * 21


async def caller(api_key: Annotated[str | None, Header()] = None) -> str:
    """The organization of a key."""
    if api_key not in KEYS:
        raise HTTPException(401, {"code": "unauthorized", "message": "no such key", "details": None})
    return KEYS[api_key]


def raw(world: World) -> Any:
    """The face itself, of its own colour."""
    return getattr(world.jobs, "_inner", world.jobs)


def make_app(jobs: Any, **options: Any) -> FastAPI:
    app = FastAPI()
    app.include_router(jobs_router(jobs, organization=caller, **options))
    return app


class Documented(TestClient):
    """A client that holds each answer to what the OpenAPI document of its application says of it."""

    def request(self, *args: Any, **options: Any) -> Any:
        response: Any = super().request(*args, **options)
        for said in _said(cast("FastAPI", self.app).openapi(), response.request.method.lower(), response.request.url.path):
            _check_documented(said, response)
        return response


def _said(document: dict[str, Any], method: str, path: str) -> list[dict[str, Any]]:
    """What the document says of the answers of this call, with what that refers to; nothing where there is no such call."""
    found = [item for template, item in document["paths"].items() if re.fullmatch(re.sub("{.+?}", "[^/]+", template), path)]
    return [{**item[method]["responses"], "components": document["components"]} for item in found if method in item]


def _check_documented(said: dict[str, Any], response: Any) -> None:
    answer = said[str(response.status_code)]
    headers = {name.lower() for name in answer.get("headers", ())}
    assert headers >= {"etag", "retry-after"} & set(response.headers)
    assert ("content" in answer) == bool(response.content)
    if response.content:
        schema = answer["content"][response.headers["Content-Type"]]["schema"]
        jsonschema_rs.validate({**schema, "components": said["components"]}, response.json())


def client_of(world: World, key: str = "key-a", **options: Any) -> TestClient:
    return Documented(make_app(raw(world), **options), headers={"Api-Key": key})


def error(response: Any, status: int) -> dict[str, Any]:
    """The detail of an error with this status, whose form is checked."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"detail"}
    assert set(body["detail"]) == {"code", "message", "details"}
    return cast("dict[str, Any]", body["detail"])


def fields(response: Any) -> list[str]:
    """The fields that a 422 names."""
    return [fault["field"] for fault in error(response, 422)["details"]["errors"]]


@contextmanager
def serving(app: FastAPI) -> Generator[str]:
    """The address of a real server on loopback. It closes no idle connection: a slow client might just use it again."""
    config = uvicorn.Config(app, port=0, log_level="error", lifespan="on", timeout_graceful_shutdown=5, timeout_keep_alive=600)
    server = uvicorn.Server(config)
    sockets = [server.config.bind_socket()]
    thread = Thread(target=server.run, args=(sockets,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        sockets[0].close()
