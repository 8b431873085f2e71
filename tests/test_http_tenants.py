"""Over HTTP too, another organization's job does not exist: nothing is seen, nothing is changed, and the answer is the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event
from starlette.testclient import TestClient

from jobstate import Jobs
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.memory import MemoryDispatcher
from tests.support import ENDPOINT, ORG, World, make_world
from tests.web import BODY, UNKNOWN, client_of, make_app

Call = Callable[[TestClient, str], Any]

CALLS: dict[str, Call] = {
    "retrieve": lambda client, job: client.get(f"/v1/jobs/{job}"),
    "retrieve all": lambda client, job: client.get(f"/v1/jobs/{job}?include_request=true&include_response=true"),
    "retrieve what is known": lambda client, job: client.get(f"/v1/jobs/{job}", headers={"If-None-Match": "*"}),
    "status": lambda client, job: client.get(f"/v1/jobs/{job}/status"),
    "cancel": lambda client, job: client.post(f"/v1/jobs/{job}/cancel"),
    "retry": lambda client, job: client.post(f"/v1/jobs/{job}/retry"),
    "retry under a key": lambda client, job: client.post(f"/v1/jobs/{job}/retry", headers={"Idempotency-Key": "once"}),
}
LISTS: dict[str, Call] = {
    "by id": lambda client, job: client.get("/v1/jobs", params={"id": job}),
    "after": lambda client, job: client.get("/v1/jobs", params={"after": job, "limit": 2}),
    "before": lambda client, job: client.get("/v1/jobs", params={"before": job, "limit": 2}),
}

OWN = st.tuples(st.sampled_from(["create", "cancel", "retry"]), st.integers(0, 5))
CROSSINGS = st.lists(st.tuples(st.sampled_from([*CALLS, *LISTS]), st.integers(0, 5)), min_size=1, max_size=8)


def neighbour(job_id: str) -> str:
    """An id that no job has, at the same place in a list."""
    return job_id[:-1] + ("0" if job_id[-1] != "0" else "1")


def told(response: Any, job_id: str) -> tuple[int, str, list[tuple[str, str]]]:
    """An answer without the id that was asked for."""
    headers = sorted((name, value) for name, value in response.headers.items() if name != "content-length")
    return response.status_code, response.text.replace(job_id, "<id>"), headers


def everything(world: World) -> list[Any]:
    jobs = [world.row(job.id) for job in world.others.list(limit=1000).data]
    return [(job, list(world.others.history(job.id))) for job in jobs] + [len(world.dispatcher)]


def live(world: World, client: TestClient, ids: list[str], steps: list[tuple[str, int]]) -> None:
    """One tenant's own commands."""
    for name, number in steps:
        world.clock.advance(1)
        if name == "create" or not ids:
            ids.append(client.post("/v1/jobs", json=BODY, headers={"Idempotency-Key": f"key-{len(ids)}"}).json()["id"])
        else:
            CALLS[name](client, ids[number % len(ids)])


def cross(ours: list[tuple[str, int]], theirs: list[tuple[str, int]], crossings: list[tuple[str, int]]) -> None:
    """Two tenants live, and then make calls on each other's jobs."""
    with make_world("memory", Path()) as world:
        one, two = client_of(world), client_of(world, "key-b")
        own: list[str] = []
        others: list[str] = []
        live(world, one, own, ours)
        live(world, two, others, theirs)
        before = everything(world)
        for name, number in crossings:
            for client, there in ((one, others), (two, own)):
                job = there[number % len(there)]
                call = CALLS.get(name) or LISTS[name]
                answer = told(call(client, job), job)
                assert answer == told(call(client, neighbour(job)), neighbour(job))
                assert name in LISTS or answer[0] == 404
        assert everything(world) == before
        for client, ids in ((one, own), (two, others)):
            listed = client.get("/v1/jobs", params={"limit": 100}).json()["data"]
            assert {job["id"] for job in listed} == set(ids)


PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""Not `shrink`: lives are short, and with ids that are new each time it finds no end."""

LIVES = given(ours=st.lists(OWN, min_size=1, max_size=6), theirs=st.lists(OWN, min_size=1, max_size=6), crossings=CROSSINGS)


@settings(deadline=None, max_examples=8, phases=PHASES)
@LIVES
def test_no_call_on_anothers_job_sees_or_changes_anything(ours: Any, theirs: Any, crossings: Any) -> None:
    cross(ours, theirs, crossings)


@pytest.mark.full
@settings(deadline=None, max_examples=150, phases=PHASES)
@LIVES
def test_nor_do_many_calls(ours: Any, theirs: Any, crossings: Any) -> None:
    cross(ours, theirs, crossings)


def test_the_404_is_the_same_for_a_job_of_another_organization_and_for_none(world: World) -> None:
    job = world.create().id
    client = client_of(world, "key-b")
    for name, call in CALLS.items():
        assert told(call(client, job), job) == told(call(client, UNKNOWN), UNKNOWN), name
    detail = json.loads(told(CALLS["retrieve"](client, job), job)[1])["detail"]
    assert (detail["code"], detail["details"]) == ("job_not_found", {"job_id": "<id>"})


def test_a_key_for_a_retry_that_another_organization_used_is_a_new_one_here(world: World) -> None:
    theirs = world.create()
    world.ours.cancel(theirs.id)
    assert CALLS["retry under a key"](client_of(world), theirs.id).status_code == 200
    client = client_of(world, "key-b")
    own = client.post("/v1/jobs", json=BODY).json()["id"]
    CALLS["cancel"](client, own)
    assert CALLS["retry under a key"](client, own).json()["id"] == own
    assert (world.row(own).run, world.row(theirs.id).run) == (2, 2)


# The time of an answer: the same work is done for both


def test_the_same_calls_are_made_on_the_ports_for_anothers_job_as_for_none(world: World) -> None:
    job = world.create(metadata={"batch": "1"}).id
    client = client_of(world, "key-b")
    for name, call in {**CALLS, **LISTS}.items():
        made: list[tuple[list[str], ...]] = []
        for asked in (job, neighbour(job)):
            for port in (world.repository, world.dispatcher, world.artifacts):
                port.calls.clear()
            call(client, asked)
            made.append(tuple(list(port.calls) for port in (world.repository, world.dispatcher, world.artifacts)))
        assert made[0] == made[1], name
        assert made[0] == (["list" if name in LISTS else "load"], [], []), name


class Sent:
    """What an engine sends: each statement with its parameters, the database's plan for it, and the rows that it finds."""

    def __init__(self, engine: Engine) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self._explain = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN (COSTS OFF) "
        event.listen(engine, "before_cursor_execute", self._note)

    def _note(self, connection: Connection, _u: Any, statement: str, parameters: Any, _x: Any, _m: bool) -> None:
        assert statement.startswith("SELECT"), statement
        cursor: Any = connection.connection.cursor()
        answers = [cursor.execute(text, parameters).fetchall() for text in (self._explain + statement, statement)]
        cursor.close()
        self.seen.append((statement, parameters, *answers))

    def of(self, call: Call, client: TestClient, asked: str) -> list[str]:
        """Those of a call, without the id that was asked for."""
        self.seen.clear()
        call(client, asked)
        return [repr(seen).replace(asked, "<id>") for seen in self.seen]


@pytest.mark.parametrize("call", [*CALLS, *LISTS])
def test_the_database_is_asked_the_same_and_does_the_same_for_anothers_job_as_for_none(
    engines: Callable[[], Engine], call: str
) -> None:
    """One statement, with the same text, parameters, plan and rows, whatever the other's job is like."""
    engine = engines()
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    jobs = Jobs(repository, MemoryDispatcher())
    requests = [{"scan": "x" * size} for size in (1, 2_000_000)]
    theirs = [jobs.create(ENDPOINT, request, organization_id=ORG).id for request in requests]
    client = TestClient(make_app(jobs), headers={"Api-Key": "key-b"})
    client.post("/v1/jobs", json=BODY)
    sent, ask = Sent(engine), {**CALLS, **LISTS}[call]
    for job in theirs:
        seen = sent.of(ask, client, job)
        assert len(seen) == 1
        assert seen == sent.of(ask, client, neighbour(job))
