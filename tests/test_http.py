"""The job API over HTTP: every call, its status codes, headers and bodies, on each kind of store and in each colour."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, HTTPException, Query, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.testclient import TestClient

from jobstate import (
    DispatchError,
    Endpoint,
    JobError,
    Jobs,
    JobstateError,
    JobStatus,
    OutcomeUnknownError,
    Policy,
    RepositoryError,
    UnreadableJobError,
)
from jobstate.adapters.fastapi import jobs_router
from jobstate.face import Filter
from jobstate.flows.settle import TRIES
from jobstate.memory import MemoryRepository
from tests.support import ENDPOINT, NOW, ORG, REQUEST, WORLDS, World, make_world
from tests.web import BODY, UNKNOWN, Documented, client_of, error, fields, make_app, raw

FIELDS = """
attempt_count cancelled cloud_task_name completed_at created_at endpoint error expires_at id last_attempt_at last_failure_code
metadata object organization_id request request_gcs_paths response started_at status warnings
""".split()
LIFECYCLE = """
attempt_count cancelled completed_at created_at expires_at id last_attempt_at last_failure_code object started_at status
""".split()
BAD = JobError(code="bad_page", message="page 2 cannot be read", details={"page": 2})


def broken(world: World, times: int = 1) -> None:
    for _ in range(times):
        world.dispatcher.fail("dispatch", DispatchError("the broker is down"))


def test_a_create_answers_with_the_queued_job_and_all_its_fields(world: World) -> None:
    response = client_of(world).post("/v1/jobs", json={**BODY, "metadata": {"batch_id": "batch_001"}})
    assert response.status_code == 200
    job = response.json()
    assert sorted(job) == FIELDS
    row = world.row(job["id"])
    assert job == {
        **dict.fromkeys(FIELDS),
        "id": row.id,
        "object": "job",
        "status": "queued",
        "endpoint": ENDPOINT,
        "organization_id": ORG,
        "request": REQUEST,
        "created_at": NOW,
        "expires_at": NOW + 7 * 86_400,
        "metadata": {"batch_id": "batch_001"},
        "cloud_task_name": row.task_name,
        "cancelled": False,
        "attempt_count": 0,
    }
    assert response.headers["ETag"] == f'"{row.version}"'
    assert world.take() == row.delivery


def test_polling_is_light_and_payloads_come_when_they_are_asked_for(world: World) -> None:
    client = client_of(world)
    job = world.create()
    world.start(job).complete({"total": 1})
    light = client.get(f"/v1/jobs/{job.id}").json()
    assert (light["status"], light["request"], light["response"]) == ("completed", None, None)
    full = client.get(f"/v1/jobs/{job.id}", params={"include_request": True, "include_response": True}).json()
    assert full == {**light, "request": REQUEST, "response": {"status_code": 200, "body": {"total": 1}}}


@pytest.mark.parametrize("path", ["", "/status", "?include_request=true&include_response=true"])
def test_polling_loads_no_payload_unless_something_has_changed(
    world: World, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = world.create()
    client = client_of(world)
    tag = client.get(f"/v1/jobs/{job.id}{path}").headers["ETag"]
    asked: list[tuple[Any, Any]] = []
    inner = raw(world)._ports.repository._inner
    load = inner.load

    @wraps(load)
    def noted(*args: Any, **options: Any) -> Any:
        asked.append((options["include_request"], options["include_response"]))
        return load(*args, **options)

    monkeypatch.setattr(inner, "load", noted)
    for known in (tag, None) if path in ("", "/status") else (tag,):
        client.get(f"/v1/jobs/{job.id}{path}", headers={"If-None-Match": known} if known else {})
    assert set(asked) == {(False, False)}


def test_the_status_call_answers_with_the_lifecycle_only(world: World) -> None:
    job = world.create()
    response = client_of(world).get(f"/v1/jobs/{job.id}/status")
    assert sorted(response.json()) == LIFECYCLE
    assert (response.json()["id"], response.json()["status"]) == (job.id, "queued")


def test_an_error_is_shown_while_the_job_is_failed_only(world: World) -> None:
    client = client_of(world)
    job = world.create()
    world.start(job).fail(BAD)
    failed = client.get(f"/v1/jobs/{job.id}").json()
    assert failed["error"] == {"code": "bad_page", "message": "page 2 cannot be read", "details": {"page": 2}}
    assert (failed["last_failure_code"], failed["attempt_count"]) == ("bad_page", 1)
    world.clock.time = job.expires_at
    world.jobs.expire()
    expired = client.get(f"/v1/jobs/{job.id}").json()
    assert (expired["status"], expired["error"]) == ("expired", None)


# Retry and cancel


def test_a_cancel_answers_with_the_cancelled_job_and_a_second_one_is_refused(world: World) -> None:
    client = client_of(world)
    job = world.create()
    cancelled = client.post(f"/v1/jobs/{job.id}/cancel")
    assert cancelled.status_code == 200
    assert (cancelled.json()["status"], cancelled.json()["cancelled"]) == ("cancelled", True)
    assert cancelled.json()["request"] == REQUEST
    again = error(client.post(f"/v1/jobs/{job.id}/cancel"), 400)
    assert again["code"] == "already_cancelled"
    assert "already cancelled" in again["message"]
    assert again["details"] == {
        "job_id": job.id,
        "event": "cancel",
        "status": "cancelled",
        "legal": ["retry"],
        "wait_until": None,
    }


@pytest.mark.parametrize("status", ["completed", "failed", "expired"])
def test_a_finished_job_refuses_a_cancel(world: World, status: str) -> None:
    job = _in_status(world, status)
    assert error(client_of(world).post(f"/v1/jobs/{job}/cancel"), 400)["details"]["status"] == status


@pytest.mark.parametrize("status", ["validating", "queued", "in_progress"])
def test_an_active_job_takes_a_cancel_and_refuses_a_retry(world: World, status: str) -> None:
    client, job = client_of(world), _in_status(world, status)
    assert error(client.post(f"/v1/jobs/{job}/retry"), 400)["details"]["status"] == status
    assert client.post(f"/v1/jobs/{job}/cancel").status_code == 200


@pytest.mark.parametrize("found", ["completed", "failed", "cancelled"])
def test_a_cancel_that_loses_a_race_is_refused_with_what_it_found(world: World, found: str) -> None:
    """It is decided again on what the other one left, as if it had come later: only a race without an end is a conflict."""
    job = world.create()
    attempt = world.others.start(world.take())
    ends: dict[str, Callable[[], object]] = {
        "completed": lambda: attempt.complete({"total": 1}),
        "failed": lambda: attempt.fail(BAD),
        "cancelled": lambda: world.others.cancel(job.id),
    }
    world.repository.then("load", ends[found])
    refused = error(client_of(world).post(f"/v1/jobs/{job.id}/cancel"), 400)
    assert refused["code"] == ("already_cancelled" if found == "cancelled" else "illegal_transition")
    assert refused["details"]["status"] == world.row(job.id).status == found


def test_a_cancel_that_loses_a_race_to_a_start_cancels_what_was_started(world: World) -> None:
    job = world.create()
    world.repository.then("load", lambda: world.others.start(job.delivery))
    assert client_of(world).post(f"/v1/jobs/{job.id}/cancel").json()["status"] == "cancelled"
    assert [str(record.event) for record in world.others.history(job.id)] == ["created", "start", "cancel"]


@pytest.mark.parametrize("command", ["cancel", "retry"])
def test_a_command_that_loses_race_upon_race_is_a_conflict_and_was_not_done(world: World, command: str) -> None:
    job = _in_status(world, "cancelled" if command == "retry" else "queued")
    before = world.row(job)
    for _ in range(TRIES):
        world.repository.stale("save")
    conflict = error(client_of(world).post(f"/v1/jobs/{job}/{command}"), 409)
    assert (conflict["code"], conflict["details"]) == ("conflict", {"job_id": job})
    assert world.row(job) == before
    assert client_of(world).post(f"/v1/jobs/{job}/{command}").status_code == 200


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
def test_a_retry_keeps_what_the_job_was_and_resets_what_became_of_it(world: World, status: str) -> None:
    client, job = client_of(world), _in_status(world, status)
    before = client.get(f"/v1/jobs/{job}", params={"include_request": True}).json()
    world.clock.advance(60)
    retried = client.post(f"/v1/jobs/{job}/retry")
    assert retried.status_code == 200
    after = retried.json()
    kept = ("id", "created_at", "request", "metadata", "endpoint", "organization_id", "attempt_count", "last_failure_code")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert after["expires_at"] == world.clock.time + 7 * 86_400
    assert (after["status"], after["cancelled"]) == ("queued", False)
    assert {after[name] for name in ("response", "error", "started_at", "completed_at", "warnings")} == {None}


def test_a_retry_that_comes_after_the_clean_up_is_refused_with_that_reason(world: World) -> None:
    job = _in_status(world, "expired")
    world.clock.advance(2 * 86_400)
    world.jobs.cleanup()
    assert error(client_of(world).post(f"/v1/jobs/{job}/retry"), 400)["code"] == "cleaned_up"


def _in_status(world: World, status: str) -> str:
    job = world.create(validating=status == "validating", metadata={"batch": "1"})
    if status in ("in_progress", "completed", "failed"):
        attempt = world.start(job)
        if status == "completed":
            attempt.complete({"total": 1})
        elif status == "failed":
            attempt.fail(BAD)
    elif status == "cancelled":
        world.ours.cancel(job.id)
    elif status == "expired":
        world.clock.time = job.expires_at
        world.jobs.expire()
    assert world.row(job.id).status == status
    return job.id


def test_a_retry_under_a_key_is_the_same_retry_in_any_status(world: World) -> None:
    client, job = client_of(world), _in_status(world, "failed")
    headers = {"Idempotency-Key": "once"}
    assert client.post(f"/v1/jobs/{job}/retry", headers=headers).status_code == 200
    world.start(world.row(job)).fail(BAD)
    again = client.post(f"/v1/jobs/{job}/retry", headers=headers)
    assert (again.status_code, again.json()["status"], world.row(job).run) == (200, "failed", 2)
    assert client.post(f"/v1/jobs/{job}/retry", headers={"Idempotency-Key": "twice"}).json()["status"] == "queued"
    assert world.row(job).run == 3


# Dispatch that is delayed


def test_a_create_whose_dispatch_is_delayed_answers_202_with_the_warning(world: World) -> None:
    broken(world)
    client = client_of(world)
    response = client.post("/v1/jobs", json=BODY)
    assert response.status_code == 202
    job = response.json()
    assert (job["status"], [warning["code"] for warning in job["warnings"]]) == ("queued", ["dispatch_delayed"])
    assert int(response.headers["Retry-After"]) > 0
    assert client.get(f"/v1/jobs/{job['id']}").json()["warnings"] is None
    assert len(world.dispatcher) == 0
    world.jobs.relay()
    assert world.take().job_id == job["id"]


def test_a_retry_whose_dispatch_is_delayed_answers_503_and_its_resend_dispatches_the_same_retry(world: World) -> None:
    client, job = client_of(world), _in_status(world, "cancelled")
    while world.dispatcher.take():
        pass
    broken(world, 2)
    for _ in range(2):
        response = client.post(f"/v1/jobs/{job}/retry")
        delayed = error(response, 503)
        assert (delayed["code"], delayed["message"]) == ("dispatch_delayed", "Retry queued; dispatch is delayed")
        assert int(response.headers["Retry-After"]) > 0
    again = client.post(f"/v1/jobs/{job}/retry")
    assert (again.status_code, again.json()["status"]) == (200, "queued")
    assert world.take().run == world.row(job).run == 2
    assert len(world.dispatcher) == 0


# Idempotency-Key


def test_the_same_key_and_body_answer_with_the_first_job(world: World) -> None:
    client = client_of(world)
    headers = {"Idempotency-Key": "inv-17"}
    first = client.post("/v1/jobs", json=BODY, headers=headers).json()
    again = client.post("/v1/jobs", json=BODY, headers=headers)
    assert (again.status_code, again.json()["id"]) == (200, first["id"])
    conflict = error(client.post("/v1/jobs", json={**BODY, "request": {"other": 1}}, headers=headers), 409)
    assert (conflict["code"], conflict["details"]) == (
        "idempotency_conflict",
        {"idempotency_key": "inv-17", "job_id": first["id"]},
    )
    assert "another body" in conflict["message"]
    other = client_of(world, "key-b").post("/v1/jobs", json=BODY, headers=headers).json()
    assert other["id"] != first["id"]


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_that_cannot_be_kept_is_refused(world: World, key: str) -> None:
    client = client_of(world)
    assert fields(client.post("/v1/jobs", json=BODY, headers={"Idempotency-Key": key})) == ["Idempotency-Key"]
    assert fields(client.post(f"/v1/jobs/{UNKNOWN}/retry", headers={"Idempotency-Key": key})) == ["Idempotency-Key"]


# Polling


@pytest.mark.parametrize("path", ["", "/status", "?include_request=true&include_response=true"])
def test_polling_with_the_last_etag_answers_304_until_something_changes(world: World, path: str) -> None:
    client = client_of(world)
    job = world.create()
    first = client.get(f"/v1/jobs/{job.id}{path}")
    for known in (first.headers["ETag"], f'"0", W/{first.headers["ETag"]}', "*"):
        same = client.get(f"/v1/jobs/{job.id}{path}", headers={"If-None-Match": known})
        assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", first.headers["ETag"])
        assert "Retry-After" in same.headers
    world.start(job).complete({"total": 1})
    changed = client.get(f"/v1/jobs/{job.id}{path}", headers={"If-None-Match": first.headers["ETag"]})
    assert (changed.status_code, changed.json()["status"]) == (200, "completed")
    assert "Retry-After" not in changed.headers


def test_retry_after_is_given_while_a_job_is_not_finished(world: World) -> None:
    client = client_of(world, retry_after=7)
    for status in JobStatus:
        response = client.get(f"/v1/jobs/{_in_status(world, status)}")
        pending = status in (JobStatus.VALIDATING, JobStatus.QUEUED, JobStatus.IN_PROGRESS)
        assert response.headers.get("Retry-After") == ("7" if pending else None)


# Lists


def _ids(response: Any) -> list[str]:
    assert response.status_code == 200, response.text
    body = response.json()
    ids = [job["id"] for job in body["data"]]
    assert body["object"] == "list"
    assert (body["first_id"], body["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    return ids


def test_pages_follow_each_other_in_both_directions_while_jobs_are_added(world: World) -> None:
    client = client_of(world)
    ids: list[str] = []
    for _ in range(7):
        ids.append(world.create().id)
        world.clock.advance(1)
    newest = ids[::-1]
    first = client.get("/v1/jobs", params={"limit": 3})
    assert (_ids(first), first.json()["has_more"]) == (newest[:3], True)
    world.create()
    second = client.get("/v1/jobs", params={"limit": 3, "after": first.json()["last_id"]})
    assert _ids(second) == newest[3:6]
    third = client.get("/v1/jobs", params={"limit": 3, "after": second.json()["last_id"]})
    assert (_ids(third), third.json()["has_more"]) == (newest[6:], False)
    assert _ids(client.get("/v1/jobs", params={"limit": 3, "before": second.json()["first_id"]})) == newest[:3]
    assert _ids(client.get("/v1/jobs", params={"order": "asc", "limit": 2, "after": ids[1]})) == ids[2:4]


def test_each_filter_finds_what_it_says(world: World) -> None:
    client = client_of(world)
    old = world.create(metadata={"batch": "1", "page": "1"}).id
    world.clock.advance(86_400)
    new = world.ours.create("/v1/documents/parse", REQUEST, metadata={"batch": "1"}).id
    world.ours.cancel(new)
    searches: list[tuple[dict[str, str], list[str]]] = [
        ({"id": old}, [old]),
        ({"id": UNKNOWN}, []),
        ({"status": "cancelled"}, [new]),
        ({"endpoint": ENDPOINT}, [old]),
        ({"metadata": '{"batch": "1"}'}, [new, old]),
        ({"metadata": '{"batch": "1", "page": "1"}'}, [old]),
        ({"metadata": "{}"}, [new, old]),
        ({"from_date": "2023-11-15"}, [new]),
        ({"to_date": "2023-11-14"}, [old]),
        ({"from_date": "2023-11-14", "to_date": "2023-11-15"}, [new, old]),
        ({"from_date": "0001-01-01", "to_date": "9999-12-31"}, [new, old]),
        ({"to_date": "1969-12-31"}, []),
        ({"status": "queued", "endpoint": "/v1/documents/parse"}, []),
    ]
    for search, expected in searches:
        assert _ids(client.get("/v1/jobs", params=search)) == expected, search


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "101"),
        ("limit", "ten"),
        ("order", "up"),
        ("after", "job_1"),
        ("before", "\0"),
        ("id", "%"),
        ("status", "done"),
        ("endpoint", ""),
        ("endpoint", "x" * 256),
        ("endpoint", "/a\0"),
        ("from_date", "2024-13-01"),
        ("from_date", "20240101"),
        ("to_date", "2024-01-01T00:00:00"),
        ("to_date", "10000-01-01"),
        ("metadata", "{"),
        ("metadata", "[]"),
        ("metadata", '{"a": 1}'),
        ("metadata", '{"a": "\\u0000"}'),
        ("metadata", '{"a": "\\ud800"}'),
        ("metadata", '{"a": NaN}'),
        ("metadata", "[" * 9999),
        ("include_request", "perhaps"),
        ("include_response", "2"),
    ],
)
def test_a_bad_filter_is_named(name: str, value: str) -> None:
    client = TestClient(make_app(Jobs(MemoryRepository())), headers={"Api-Key": "key-a"})
    assert fields(client.get("/v1/jobs", params={name: value})) == [name]


def test_a_page_lies_after_or_before_a_job_and_not_both(world: World) -> None:
    assert fields(client_of(world).get("/v1/jobs", params={"after": UNKNOWN, "before": UNKNOWN})) == ["before"]


def by_workflow(workflow_id: str | None = None, ids: Annotated[list[str] | None, Query()] = None) -> Filter:
    """A host's own filters: by metadata, and by ids that it has from elsewhere."""
    return {"metadata": {"workflow": workflow_id} if workflow_id else None, "ids": ids}


def test_a_hosts_own_filters_hold_beside_the_others(world: World) -> None:
    client = client_of(world, filters=by_workflow)
    one, two = (world.create(metadata={"workflow": name, "batch": "1"}).id for name in ("w1", "w2"))
    searches: list[tuple[dict[str, Any], list[str]]] = [
        ({}, [two, one]),
        ({"workflow_id": "w1"}, [one]),
        ({"workflow_id": "w1", "metadata": '{"batch": "1"}'}, [one]),
        ({"workflow_id": "w1", "metadata": '{"workflow": "w2"}'}, []),
        ({"ids": [one]}, [one]),
        ({"ids": [one], "id": one}, [one]),
        ({"ids": [one], "id": two}, []),
    ]
    for search, expected in searches:
        assert sorted(_ids(client.get("/v1/jobs", params=search))) == sorted(expected), search
    operation = make_app(raw(world), filters=by_workflow).openapi()["paths"]["/v1/jobs"]["get"]
    assert "workflow_id" in [parameter["name"] for parameter in operation["parameters"]]


# What a host gives


class Page(BaseModel):
    number: int


class Extract(BaseModel):
    pages: list[int]
    first: Page | None = None
    last: Page | None = None


class Ours(StrEnum):
    EXTRACT = "/v1/documents/extract"


def _typed() -> Jobs:
    return Jobs(MemoryRepository(), endpoints=[Endpoint(Ours.EXTRACT, request=Extract, response=dict[str, Any])])


def test_a_request_is_checked_by_its_endpoints_model_before_anything_is_stored(world: World) -> None:
    jobs = _typed()
    world.jobs = jobs
    client = client_of(world)
    assert fields(client.post("/v1/jobs", json={"endpoint": Ours.EXTRACT, "request": {"pages": ["x"]}})) == ["request.pages.0"]
    assert fields(client.post("/v1/jobs", json={"endpoint": "/v1/x", "request": {}})) == ["endpoint"]
    assert fields(client.get("/v1/jobs", params={"endpoint": "/v1/x"})) == ["endpoint"]
    assert jobs.count() == 0
    assert client.post("/v1/jobs", json={"endpoint": Ours.EXTRACT, "request": {"pages": [1]}}).status_code == 200


def test_a_hosts_enum_is_the_list_of_endpoints(world: World) -> None:
    client = client_of(world, endpoints=Ours)
    assert client.post("/v1/jobs", json=BODY).status_code == 200
    faults = error(client.post("/v1/jobs", json={**BODY, "endpoint": "/v1/x"}), 422)
    assert "/v1/documents/extract" in faults["message"]
    document = make_app(raw(world), endpoints=Ours).openapi()
    (parameter,) = (each for each in document["paths"]["/v1/jobs"]["get"]["parameters"] if each["name"] == "endpoint")
    assert "/v1/documents/extract" in str(parameter)


def test_an_endpoint_that_the_service_would_refuse_is_found_when_the_router_is_made() -> None:
    with pytest.raises(ValueError, match="/v1/x is unknown"):
        make_app(_typed(), endpoints=[Ours.EXTRACT, "/v1/x"])


def test_the_openapi_document_shows_the_request_of_each_endpoint() -> None:
    document = make_app(_typed()).openapi()
    body = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    (alternative,) = body["oneOf"]
    assert alternative["properties"]["endpoint"] == {"const": "/v1/documents/extract"}
    assert alternative["properties"]["request"] == {"$ref": "#/components/schemas/Extract"}
    models = document["components"]["schemas"]
    assert models["Extract"]["properties"]["pages"]["items"] == {"type": "integer"}
    assert {"$ref": "#/components/schemas/Page"} in models["Extract"]["properties"]["last"]["anyOf"]
    assert "number" in models["Page"]["properties"]


@pytest.mark.parametrize(("prefix", "path"), [("/api/v2", "/api/v2"), ("/api/v2/", "/api/v2"), ("/", ""), ("", "")])
def test_the_prefix_is_the_hosts_with_or_without_a_slash_at_its_end(prefix: str, path: str) -> None:
    client = TestClient(make_app(Jobs(MemoryRepository()), prefix=prefix), headers={"Api-Key": "key-a"})
    assert client.get(f"{path}/jobs").status_code == 200
    assert client.get("/v1/jobs").status_code == 404


def test_several_routers_of_one_application_serve_each_its_own_jobs() -> None:
    services = {name: Jobs(MemoryRepository()) for name in ("live", "archive")}
    app = FastAPI()
    for name, jobs in services.items():
        app.include_router(jobs_router(jobs, organization=lambda: ORG, prefix=f"/{name}", operation_prefix=f"{name}_"))
    job = TestClient(app).post("/live/jobs", json=BODY).json()
    assert [jobs.count() for jobs in services.values()] == [1, 0]
    assert error(TestClient(app).get(f"/archive/jobs/{job['id']}"), 404)["code"] == "job_not_found"
    for path, operations in app.openapi()["paths"].items():
        name = path.split("/")[1]
        for operation in operations.values():
            links = [link for answer in operation["responses"].values() for link in answer.get("links", {}).values()]
            named = [operation["operationId"], *(link["operationId"] for link in links)]
            assert all(each.startswith(f"{name}_") for each in named), named


def test_a_hosts_own_handlers_of_errors_are_for_its_own_errors(world: World) -> None:
    """What the router answers does not change with the application that it is mounted in."""

    async def ours(*_: Any) -> Response:
        return Response("the host's", 418)

    app = make_app(raw(world))
    for kind in (HTTPException, RequestValidationError, JobstateError):
        app.add_exception_handler(kind, ours)
    client = TestClient(app, headers={"Api-Key": "key-a"})
    assert error(client.get(f"/v1/jobs/{UNKNOWN}"), 404)["code"] == "job_not_found"
    assert fields(client.get("/v1/jobs?limit=0")) == ["limit"]
    assert fields(client.post("/v1/jobs", content=b"{", headers={"Content-Type": "application/json"})) == ["body"]
    world.repository.fail("load", RepositoryError("gone"))
    assert error(client.get(f"/v1/jobs/{world.create().id}"), 503)["code"] == "unavailable"
    assert client.get("/v1/jobs", headers={"Api-Key": "nobody"}).status_code == 418


@pytest.mark.parametrize("organization", [None, "", 7, b"org_a", "o" * 256, [ORG]])
def test_an_organization_that_is_none_is_the_hosts_fault_and_told_to_its_log_alone(
    organization: Any, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastAPI()
    app.include_router(jobs_router(raw(world), organization=lambda: organization))
    client = Documented(app)
    for response in (client.get("/v1/jobs"), client.post("/v1/jobs", json=BODY), client.get(f"/v1/jobs/{UNKNOWN}")):
        assert error(response, 500)["code"] == "internal_error"
        assert "organization" not in response.text
    assert world.others.count() == 0
    words = [record.getMessage() for record in caplog.records if record.name == "jobstate.adapters.fastapi"]
    assert len(words) == 3
    assert all(f"answered {type(organization).__name__}" in word and "raise HTTPException" in word for word in words)


def test_who_is_not_known_gets_the_hosts_answer(world: World) -> None:
    client = client_of(world, "nobody")
    for response in (client.get("/v1/jobs"), client.post("/v1/jobs", json=BODY), client.post(f"/v1/jobs/{UNKNOWN}/cancel")):
        assert error(response, 401)["code"] == "unauthorized"


def test_a_body_over_the_limit_is_refused_and_one_at_the_limit_is_taken(world: World) -> None:
    body = b'{"endpoint":"/x","request":{"data":""}}'
    headers = {"Content-Type": "application/json"}
    client = client_of(world, body_limit=len(body) + 10)
    full, over = (body.replace(b'""', b'"' + b"x" * size + b'"') for size in (10, 11))
    assert client.post("/v1/jobs", content=full, headers=headers).status_code == 200
    for content in (over, iter([over[:20], over[20:]])):  # its length told beforehand, and found out
        refused = error(client.post("/v1/jobs", content=content, headers=headers), 413)
        assert (refused["code"], refused["details"]) == ("request_too_large", {"limit": len(full)})
    assert world.jobs.count() == 1


def test_a_body_whose_length_is_too_large_is_not_read() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"api-key", b"key-a"), (b"content-type", b"application/json"), (b"content-length", b"101")]
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/v1/jobs", "root_path": "", "scheme": "http"}
    app = make_app(Jobs(MemoryRepository()), body_limit=100)
    asyncio.run(app({**scope, "raw_path": b"/v1/jobs", "query_string": b"", "headers": headers}, receive, send))
    assert sent[0]["status"] == 413


# Errors of the service


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (OutcomeUnknownError("job", "the answer was lost"), 503, "outcome_unknown"),
        (RepositoryError("password=secret refused"), 503, "unavailable"),
        (UnreadableJobError("job", "status", "it is 'frozen'"), 500, "unreadable_job"),
    ],
)
def test_an_error_of_the_store_has_its_status_and_tells_no_secret(
    world: World, fault: Exception, status: int, code: str
) -> None:
    job = world.create()
    world.repository.fail("load", fault)
    response = client_of(world).get(f"/v1/jobs/{job.id}")
    assert error(response, status)["code"] == code
    assert "secret" not in response.text
    assert ("Retry-After" in response.headers) == (status == 503)


# Large requests


SCAN = "data:application/pdf;base64," + "JVBERi0x" * 40
LARGE = {"pages": [1, 2], "document": {"url": SCAN}}
LARGE_BODY = {"endpoint": ENDPOINT, "request": LARGE}


@pytest.fixture(params=WORLDS)
def cutting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A service that puts long data URLs of requests into its artifact store."""
    with make_world(request.param, tmp_path, Policy(inline_limit=100)) as made:
        yield made


def _codes(job: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in job["warnings"] or ()]


def test_a_part_over_the_limit_goes_to_the_store_and_comes_back_when_it_is_asked_for(cutting: World) -> None:
    client = client_of(cutting)
    created = client.post("/v1/jobs", json=LARGE_BODY).json()
    assert created["request"] == LARGE
    (key,) = created["request_gcs_paths"]
    assert SCAN not in str(cutting.row(created["id"]).request)
    assert cutting.artifacts.keys() == [key]
    asked = {"include_request": True}
    (listed,) = client.get("/v1/jobs", params=asked).json()["data"]
    for shown in (listed, client.get(f"/v1/jobs/{created['id']}", params=asked).json()):
        assert (shown["request"], shown["request_gcs_paths"], shown["warnings"]) == (LARGE, [key], None)
    cancelled = client.post(f"/v1/jobs/{created['id']}/cancel").json()
    assert cancelled["request"] == client.post(f"/v1/jobs/{created['id']}/retry").json()["request"] == LARGE


def test_who_does_not_ask_for_a_request_asks_the_store_for_nothing(cutting: World) -> None:
    client = client_of(cutting)
    job = client.post("/v1/jobs", json=LARGE_BODY).json()
    tag = client.get(f"/v1/jobs/{job['id']}").headers["ETag"]
    cutting.artifacts.calls.clear()
    for path in (f"/{job['id']}", f"/{job['id']}/status", "", "?include_response=true"):
        assert client.get(f"/v1/jobs{path}").status_code == 200
    known = client.get(f"/v1/jobs/{job['id']}", params={"include_request": True}, headers={"If-None-Match": tag})
    assert (known.status_code, cutting.artifacts.calls) == (304, [])


def test_a_restore_that_fails_answers_the_job_with_a_warning_and_no_etag(cutting: World) -> None:
    """What it shows is not what this version has: nobody is to keep it, and be told later that nothing has changed."""
    client = client_of(cutting)
    job = client.post("/v1/jobs", json=LARGE_BODY).json()
    path, asked = f"/v1/jobs/{job['id']}", {"include_request": True}
    cutting.artifacts.fail("get", OSError("no route to host"))
    degraded = client.get(path, params=asked)
    assert (degraded.status_code, _codes(degraded.json())) == (200, ["restore_failed"])
    assert degraded.json()["request"]["pages"] == [1, 2]
    assert SCAN not in degraded.text
    assert "ETag" not in degraded.headers
    assert "Retry-After" in degraded.headers
    cutting.artifacts.fail("get", OSError("no route to host"))
    (listed,) = client.get("/v1/jobs", params=asked).json()["data"]
    assert _codes(listed) == ["restore_failed"]
    whole = client.get(path, params=asked)
    assert (whole.json()["request"], whole.headers["ETag"]) == (LARGE, client.get(path).headers["ETag"])


def test_a_create_that_the_store_fails_is_finished_by_the_same_one_under_its_key(cutting: World) -> None:
    client = client_of(cutting)
    headers = {"Idempotency-Key": "inv-17"}
    cutting.artifacts.fail("put", OSError("no route to host"))
    refused = client.post("/v1/jobs", json=LARGE_BODY, headers=headers)
    assert error(refused, 503)["code"] == "unavailable"
    assert "route" not in refused.text
    again = client.post("/v1/jobs", json=LARGE_BODY, headers=headers)
    assert (again.status_code, again.json()["status"], cutting.jobs.count()) == (200, "queued", 1)
