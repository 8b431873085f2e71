"""Each effect arrives at its port with all that it carries, by either driver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from jobstate import Delivery
from jobstate import effects as fx
from jobstate.drivers import _CALLS, Ports, perform, perform_async
from jobstate.query import Cursor, Due, JobFilter, PageRequest
from tests.support import NOW, a_job

Call = tuple[str, tuple[object, ...], dict[str, Any]]

JOB, DELIVERY = a_job(), Delivery(job_id="job_a", run=2)
RECORD, TRANSITION, WHERE, PAGE = (
    cast("Any", object()),
    cast("Any", object()),
    JobFilter(),
    PageRequest(7, "job_c"),
)
AFTER = Cursor(5, "job_b")


def _decide(jobs: object) -> list[Any]:
    return []


class Noted:
    """A port that answers each call with the call itself."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, method: str) -> Callable[..., Call]:
        return lambda *args, **options: (f"{self._name}.{method}", args, options)


class NotedAsync(Noted):
    """The same, awaited."""

    def __getattr__(self, method: str) -> Callable[..., Any]:
        call = super().__getattr__(method)

        async def awaited(*args: object, **options: object) -> Call:
            return call(*args, **options)

        return awaited


PAYLOADS = {"include_request": True, "include_response": False}

ARRIVES: list[tuple[fx.Effect[Any], Call]] = [
    (fx.Load("job_a", "org_a", True), ("repository.load", ("job_a",), {"organization_id": "org_a", **PAYLOADS})),
    (fx.Insert(JOB, RECORD), ("repository.insert", (JOB, RECORD), {"within": None})),
    (fx.Save(TRANSITION), ("repository.save", (TRANSITION,), {})),
    (fx.SaveMany([TRANSITION]), ("repository.save_many", ([TRANSITION],), {})),
    (fx.List(WHERE, PAGE, True), ("repository.list", (WHERE, PAGE), PAYLOADS)),
    (fx.DueJobs(Due.PENDING, 9, 7, AFTER), ("repository.due", (Due.PENDING,), {"until": 9, "limit": 7, "after": AFTER})),
    (
        fx.MoveDue(Due.EXPIRING, 9, 7, AFTER, _decide, include_request=True),
        (
            "repository.move_due",
            (Due.EXPIRING,),
            {"until": 9, "limit": 7, "after": AFTER, "decide": _decide, "include_request": True},
        ),
    ),
    (fx.Count(WHERE), ("repository.count", (WHERE,), {})),
    (fx.History("job_a", 3), ("repository.history", ("job_a",), {"after_version": 3})),
    (fx.Delete("job_a", 3), ("repository.delete", ("job_a", 3), {})),
    (fx.Dispatch(DELIVERY, "task"), ("dispatcher.dispatch", (DELIVERY, "task"), {})),
    (fx.Dispatch(DELIVERY, "task", 9), ("dispatcher.dispatch_at", (DELIVERY, "task", 9), {})),
    (fx.Revoke("task"), ("dispatcher.revoke", ("task",), {})),
    (fx.PutArtifact("key", b"data"), ("artifacts.put", ("key", b"data"), {})),
    (fx.GetArtifact("key"), ("artifacts.get", ("key",), {})),
    (fx.DeleteArtifacts("key"), ("artifacts.delete", ("key",), {})),
]


def _performed(effect: fx.Effect[Any], colour: str) -> Any:
    if colour == "sync":
        return perform(effect, Ports(*map(Noted, ("repository", "dispatcher", "artifacts", "clock"))))
    return asyncio.run(perform_async(effect, Ports(*map(NotedAsync, ("repository", "dispatcher", "artifacts", "clock")))))


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize(("effect", "call"), ARRIVES, ids=lambda value: type(value).__name__)
def test_an_effect_arrives_at_its_port_whole(effect: fx.Effect[Any], call: Call, colour: str) -> None:
    assert _performed(effect, colour) == call


@pytest.mark.parametrize(
    ("effect", "name", "args"),
    [
        (fx.Insert(JOB, RECORD, "task"), "repository.insert", (JOB, RECORD)),
        (fx.SaveAndDispatch(TRANSITION, JOB.delivery, "task"), "repository.save", (TRANSITION,)),
    ],
)
@pytest.mark.parametrize("early", [None, 9])
def test_a_transactional_dispatcher_is_called_with_the_writes_own_transaction(
    effect: fx.Effect[Any], name: str, args: tuple[object, ...], early: int | None
) -> None:
    called, given, options = _performed(replace(cast(Any, effect), not_before=early), "sync")
    assert (called, given, list(options)) == (name, args, ["within"])
    method, time = ("dispatch", ()) if early is None else ("dispatch_at", (early,))
    expected = (f"dispatcher.{method}", (JOB.delivery, "task", *time), {"transaction": "transaction"})
    assert options["within"]("transaction") == expected


class Clock:
    """Stands still between two seconds."""

    def now(self) -> float:
        return NOW + 0.75


class AsyncClock:
    """The same, awaited."""

    async def now(self) -> float:
        return NOW + 0.75


@pytest.mark.parametrize("clock", [Clock(), AsyncClock()])
def test_time_is_told_in_whole_seconds_and_an_id_carries_its_kind(clock: object) -> None:
    ports = Ports(None, None, None, clock)
    assert asyncio.run(perform_async(fx.Now(), ports)) == NOW
    assert asyncio.run(perform_async(fx.NewId(fx.IdKind.LEASE), ports)).startswith("lease_")


def test_every_effect_has_its_call_here() -> None:
    here = {type(effect) for effect, _ in ARRIVES} | {fx.SaveAndDispatch, fx.Now, fx.NewId}
    assert here == set(_CALLS)
