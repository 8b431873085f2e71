"""The table as a thing of its own: what it refuses to be, what its fingerprint tells, and that its lists are complete."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

import pytest
from transitions import Machine

from jobstate import Event, Job, JobStatus, Policy, decide, explain
from jobstate.errors import TableError
from jobstate.lifecycle import (
    EVERY_WRITE,
    FINGERPRINT,
    MACHINE,
    RETRY_KEEPS,
    RETRY_RESETS,
    RETRY_SETS,
    TABLE,
    Accepted,
    Already,
    Facts,
    Refused,
)
from jobstate.lifecycle.decision import _RIGHT_FACTS, NEEDS
from jobstate.lifecycle.machine import Guard, Reason, Row, RuleMachine, compile_table, declare, fingerprint
from jobstate.model import evolve
from jobstate.testing.table_coverage import unrecorded
from tests.filled import AT, facts_for, filled_job

Spec = dict[str, Any]


# A small table that says as little as it may: one way through all statuses, and a row for every event.


def _open(job: Job, at: int, facts: Mapping[str, Any], policy: Policy) -> Reason | None:
    return None


def _shut(job: Job, at: int, facts: Mapping[str, Any], policy: Policy) -> Reason | None:
    return Reason("shut", "it is shut")


def _also(job: Job, at: int, facts: Mapping[str, Any], policy: Policy) -> Reason | None:
    return None


def _nothing(job: Job, at: int, facts: Mapping[str, Any], policy: Policy) -> dict[str, Any]:
    return {}


def _spec(event: str, source: Any, dest: Any, *guards: Guard, writes: tuple[str, ...] = (), doc: str = "") -> Spec:
    return {
        "trigger": event,
        "source": source,
        "dest": dest,
        "guards": guards,
        "change": _nothing,
        "writes": writes,
        "doc": doc,
    }


def _small() -> list[Spec]:
    path = {
        Event.ACCEPT: (JobStatus.VALIDATING, JobStatus.QUEUED),
        Event.START: (JobStatus.QUEUED, JobStatus.IN_PROGRESS),
        Event.COMPLETE: (JobStatus.IN_PROGRESS, JobStatus.COMPLETED),
        Event.FAIL: (JobStatus.IN_PROGRESS, JobStatus.FAILED),
        Event.CANCEL: (JobStatus.QUEUED, JobStatus.CANCELLED),
        Event.EXPIRE: (JobStatus.COMPLETED, JobStatus.EXPIRED),
    }
    rest = (JobStatus.EXPIRED, JobStatus.EXPIRED)
    return [_spec(event.value, *path.get(event, rest), doc="a sentence") for event in Event]


def _declared(specs: list[Spec]) -> RuleMachine:
    return declare(specs, initial=JobStatus.VALIDATING)


def _print(specs: list[Spec]) -> str:
    return fingerprint(compile_table(_declared(specs)))


def _changed(event: Event, **fields: Any) -> list[Spec]:
    return [{**spec, **fields} if spec["trigger"] == event else spec for spec in _small()]


# What is refused


def test_the_small_table_is_in_order() -> None:
    table = compile_table(_declared(_small()))
    assert set(table) >= {(Event.START, JobStatus.QUEUED), (Event.EXPIRE, JobStatus.COMPLETED)}
    assert sum(len(rows) for rows in table.values()) == len(Event)


@pytest.mark.parametrize("name", ["strat", "START", "created"])
def test_an_event_that_does_not_exist_is_refused(name: str) -> None:
    specs = [*_small(), _spec(name, JobStatus.QUEUED, JobStatus.FAILED)]
    with pytest.raises(TableError, match=name):
        compile_table(_declared(specs))


@pytest.mark.parametrize("name", ["QUEUEED", "queued"])
def test_a_source_that_does_not_exist_is_refused(name: str) -> None:
    specs = [*_small(), _spec("start", name, JobStatus.FAILED)]
    with pytest.raises(TableError, match=f"'{name}' is no status"):
        compile_table(_declared(specs))


@pytest.mark.parametrize("name", ["FALIED", "failed", None])
def test_a_target_that_does_not_exist_is_refused(name: str | None) -> None:
    specs = [*_small(), _spec("start", JobStatus.VALIDATING, name)]
    with pytest.raises(TableError, match="is no status"):
        compile_table(_declared(specs))


@pytest.mark.parametrize("event", Event)
def test_an_event_without_a_row_is_refused_by_name(event: Event) -> None:
    with pytest.raises(TableError, match=f"no row for {event}"):
        compile_table(_declared([spec for spec in _small() if spec["trigger"] != event]))


def test_all_events_without_a_row_are_named() -> None:
    with pytest.raises(TableError, match=r"^no row for cancel, start$"):
        compile_table(_declared([spec for spec in _small() if spec["trigger"] not in ("start", "cancel")]))


def test_a_status_that_cannot_be_reached_is_refused_by_name() -> None:
    with pytest.raises(TableError, match=r"never reached from validating: cancelled$"):
        compile_table(_declared(_changed(Event.CANCEL, source=JobStatus.CANCELLED)))


def test_statuses_that_reach_only_each_other_are_refused() -> None:
    specs = [*_changed(Event.START, source=JobStatus.IN_PROGRESS), _spec("release", JobStatus.COMPLETED, JobStatus.IN_PROGRESS)]
    with pytest.raises(TableError, match="completed, expired, failed, in_progress"):
        compile_table(_declared(specs))


def test_a_row_that_stands_twice_is_refused() -> None:
    specs = [*_small(), _spec("start", JobStatus.QUEUED, JobStatus.IN_PROGRESS)]
    with pytest.raises(TableError, match="start from queued to in_progress stands twice"):
        compile_table(_declared(specs))


def test_two_targets_under_the_same_guards_are_refused() -> None:
    specs = [*_changed(Event.START, guards=(_open,)), _spec("start", JobStatus.QUEUED, JobStatus.FAILED, _open)]
    with pytest.raises(TableError, match="start from queued to failed stands twice"):
        compile_table(_declared(specs))


@pytest.mark.parametrize(("first", "second"), [((), (_open,)), ((_open,), (_open, _also)), ((_also,), (_open, _also))])
def test_a_row_that_an_earlier_one_always_hides_is_refused(first: tuple[Guard, ...], second: tuple[Guard, ...]) -> None:
    specs = [*_changed(Event.START, guards=first), _spec("start", JobStatus.QUEUED, JobStatus.FAILED, *second)]
    with pytest.raises(TableError, match=r"^start from queued to failed is hidden by an earlier row$"):
        compile_table(_declared(specs))


def test_a_row_that_asks_less_than_an_earlier_one_is_its_alternative() -> None:
    specs = [*_changed(Event.START, guards=(_open, _also)), _spec("start", JobStatus.QUEUED, JobStatus.FAILED, _open)]
    targets = [row.target for row in compile_table(_declared(specs))[Event.START, JobStatus.QUEUED]]
    assert targets == [JobStatus.IN_PROGRESS, JobStatus.FAILED]


def test_a_transition_that_is_no_rule_is_refused() -> None:
    machine = Machine(model=None, states=JobStatus, initial=JobStatus.VALIDATING, auto_transitions=False)
    machine.add_transition("start", JobStatus.QUEUED, JobStatus.IN_PROGRESS)
    with pytest.raises(TableError, match="is not a Rule"):
        compile_table(machine)


# The fingerprint

Change = Callable[[], list[Spec]]


@pytest.mark.parametrize(
    "specs",
    [
        lambda: [*_small(), _spec("cancel", JobStatus.IN_PROGRESS, JobStatus.CANCELLED)],
        lambda: _changed(Event.HEARTBEAT, source=JobStatus.FAILED),
        lambda: _changed(Event.HEARTBEAT, dest=JobStatus.FAILED),
        lambda: _changed(Event.START, guards=(_open,)),
        lambda: _changed(Event.START, writes=("lease",)),
    ],
    ids=["row", "source", "target", "guard", "writes"],
)
def test_the_fingerprint_changes_with_the_table(specs: Change) -> None:
    assert _print(specs()) != _print(_small())


def test_the_fingerprint_tells_one_guard_from_another() -> None:
    assert _print(_changed(Event.START, guards=(_open,))) != _print(_changed(Event.START, guards=(_shut,)))


def test_prose_does_not_change_the_fingerprint() -> None:
    assert _print(_changed(Event.START, doc="other words")) == _print(_small())


def test_the_fingerprint_of_the_table_is_sixteen_hex_digits_and_is_its_own() -> None:
    assert fingerprint(TABLE) == FINGERPRINT == fingerprint(compile_table(MACHINE))
    assert int(FINGERPRINT, 16) >= 0
    assert len(FINGERPRINT) == 16


# What is written

ROWS = [row for rows in TABLE.values() for row in rows]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.event}-{row.source}-{row.target}")
def test_a_change_returns_exactly_the_fields_that_its_row_says_it_writes(row: Row) -> None:
    job = filled_job(row.source)
    facts: Mapping[str, Any] = facts_for(*NEEDS.get(row.event, ()))
    changes = row.change(job, AT, facts, Policy())
    assert set(changes) == set(row.writes)
    assert len(row.writes) == len(set(row.writes))
    assert not set(row.writes) & set(EVERY_WRITE)
    assert set(row.writes) <= set(Job.model_fields)


def test_every_accepted_event_says_what_it_does() -> None:
    assert all(row.doc.endswith(".") for row in ROWS)


def _places(job_class: type[Job]) -> dict[str, int]:
    """In how many of the four lists each field stands, and each name in a list that is no field."""
    counts = Counter([*RETRY_RESETS, *RETRY_SETS, *RETRY_KEEPS, *EVERY_WRITE])
    return {name: counts[name] for name in {*job_class.model_fields, *counts}}


def test_every_field_of_a_job_stands_in_exactly_one_list_of_the_retry() -> None:
    assert set(_places(Job).values()) == {1}
    assert set(_places(Job)) == set(Job.model_fields)


def test_a_new_field_does_not_slip_past_that_check() -> None:
    class JobWithAColour(Job, frozen=True):
        colour: str = "red"

    assert [name for name, count in _places(JobWithAColour).items() if count != 1] == ["colour"]


# Declares and judges, and never runs


def test_nothing_is_attached_to_a_job() -> None:
    assert MACHINE.models == []
    names = {name for event in Event for name in (event.value, f"may_{event}", f"trigger_{event}")}
    names |= {
        name for status in JobStatus for name in (f"is_{status}", f"is_{status.name}", f"to_{status}", f"to_{status.name}")
    }
    names |= {"state", "trigger", "may_trigger", "machine"}
    job = filled_job(JobStatus.QUEUED)
    decision = decide(job, Event.CANCEL, AT)
    assert isinstance(decision, Accepted)
    assert [name for name in names if hasattr(Job, name) or hasattr(job, name)] == []
    assert set(job.__dict__) == set(Job.model_fields)


def test_the_machine_has_no_callbacks_and_no_transitions_of_its_own() -> None:
    assert set(MACHINE.events) == {event.value for event in Event}
    lists = ("before_state_change", "after_state_change", "prepare_event", "finalize_event", "on_exception", "on_final")
    assert [name for name in lists if getattr(MACHINE, name)] == []
    rules = [rule for event in MACHINE.events.values() for rules in event.transitions.values() for rule in rules]
    assert not any(rule.before or rule.after or rule.prepare for rule in rules)


# Each guard once

Calls = list[tuple[str, int]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    """Each call of a guard of the table: its name, and which mapping of facts it was given.

    Unrecorded: a recorder of table coverage asks the guards once more.
    """
    made: Calls = []

    def counting(guard: Guard) -> Guard:
        def asked(job: Job, at: int, facts: Mapping[str, Any], policy: Policy) -> Reason | None:
            made.append((guard.__name__, id(facts)))
            return guard(job, at, facts, policy)

        return asked

    wrapped = {guard: counting(guard) for row in ROWS for guard in row.guards}
    for key, rows in list(TABLE.items()):
        monkeypatch.setitem(TABLE, key, tuple(row._replace(guards=tuple(map(wrapped.__getitem__, row.guards))) for row in rows))
    monkeypatch.setattr("jobstate.lifecycle.decision._RIGHT_FACTS", {wrapped[guard]: None for guard in _RIGHT_FACTS})
    with unrecorded():
        yield made


def test_each_guard_of_an_accepted_event_runs_once(calls: Calls) -> None:
    job = filled_job(JobStatus.QUEUED)
    assert isinstance(decide(job, Event.START, AT, token="new", run=4), Accepted)
    assert [name for name, _ in calls] == ["run_is_current", "available", "not_expired", "attempts_left"]


def test_a_guard_that_two_rows_share_runs_once(calls: Calls) -> None:
    job = filled_job(JobStatus.IN_PROGRESS, attempt_count=11)
    assert isinstance(decide(job, Event.RESCUE, AT + 5_000), Accepted)
    assert [name for name, _ in calls] == ["lease_is_over", "attempts_left"]


def test_the_reason_that_is_told_is_against_the_first_row(monkeypatch: pytest.MonkeyPatch) -> None:
    key = Event.RESCUE, JobStatus.IN_PROGRESS
    first, second = TABLE[key]
    monkeypatch.setitem(TABLE, key, (first._replace(guards=(_shut,)), second))
    with unrecorded():
        refused = decide(filled_job(JobStatus.IN_PROGRESS), Event.RESCUE, AT)
    assert isinstance(refused, Refused)
    assert refused.code == "shut"


def test_what_was_done_already_asks_no_guard(calls: Calls) -> None:
    job = filled_job(JobStatus.COMPLETED)
    facts: Facts = {**facts_for("token", "response"), "digest": "result-before"}
    decision = decide(job, Event.COMPLETE, AT, **facts)
    assert isinstance(decision, Already)
    assert calls == []


@pytest.mark.parametrize(
    ("event", "status", "expected"),
    [
        (Event.START, JobStatus.QUEUED, ["run_is_current", "available", "not_expired"]),
        (Event.RESCUE, JobStatus.IN_PROGRESS, ["lease_is_over"]),
        (Event.BEGIN_CLEANUP, JobStatus.EXPIRED, ["cleanup_not_begun"]),
        (Event.ACCEPT, JobStatus.FAILED, []),
    ],
)
def test_a_verdict_stops_at_the_first_guard_that_says_no(
    calls: Calls, event: Event, status: JobStatus, expected: list[str]
) -> None:
    """The events that are legal instead are other questions, not asked before somebody reads them."""
    fields: dict[str, Any] = {"cleanup_started_at": AT} if status is JobStatus.EXPIRED else {}
    fields |= {"expires_at": AT} if event is Event.START else {}
    job = filled_job(status, **fields)
    assert isinstance(decide(job, event, AT, **facts_for(*NEEDS.get(event, ()))), Refused)
    assert [name for name, _ in calls] == expected


def test_what_is_legal_instead_is_asked_once_however_often_it_is_read(calls: Calls) -> None:
    refused = decide(filled_job(JobStatus.FAILED), Event.CANCEL, AT)
    assert isinstance(refused, Refused)
    assert calls == []
    assert refused.legal == (Event.RETRY,)
    asked = [name for name, _ in calls]
    assert asked == ["accepted_once", "expiry_reached"]
    assert (refused.legal, refused.error().legal) == ((Event.RETRY,), ("retry",))
    assert str(refused) == str(pickle.loads(pickle.dumps(refused)))
    assert [name for name, _ in calls] == asked


def test_a_refusal_is_the_same_value_before_and_after_its_legal_events_are_read() -> None:
    job = filled_job(JobStatus.FAILED)
    once, again = decide(job, Event.CANCEL, AT), decide(job, Event.CANCEL, AT)
    assert isinstance(once, Refused)
    assert isinstance(again, Refused)
    assert once.legal == (Event.RETRY,)
    assert (once, hash(once), repr(once)) == (again, hash(again), repr(again))
    assert once != decide(evolve(job, {"run": 0}), Event.CANCEL, AT), "which cannot be retried"
    assert once.choices != once.legal
    assert (hash(once.choices), repr(once.choices)) == (hash(once.legal), repr(once.legal))


def test_a_pickled_refusal_carries_no_job() -> None:
    refused = decide(evolve(filled_job(JobStatus.FAILED), {"request": {"text": "x" * 100_000}}), Event.CANCEL, AT)
    pickled = pickle.dumps(refused)
    assert len(pickled) < 1_000
    assert pickle.loads(pickled) == refused


def test_a_refusal_runs_no_guard_twice(calls: Calls) -> None:
    """With right facts, what a guard said in the verdict holds in the list of what is legal, too."""
    twice: dict[tuple[JobStatus, Event], list[str]] = {}
    for status, event in product(JobStatus, Event):
        calls.clear()
        job = filled_job(status, result_digest=None)
        decision = decide(job, event, AT, **facts_for(*NEEDS.get(event, ())))
        if isinstance(decision, Refused):
            _ = decision.legal
        again = [name for name, count in Counter(name for name, _ in calls).items() if count > 1]
        if isinstance(decision, Refused) and again:
            twice[status, event] = again
    assert twice == {}


def test_an_explanation_runs_no_guard_more_often_than_the_decision(calls: Calls) -> None:
    job = filled_job(JobStatus.QUEUED)
    _ = str(decide(job, Event.EXPIRE, AT))
    decided = [name for name, _ in calls]
    calls.clear()
    _ = explain(job, Event.EXPIRE, AT)
    assert [name for name, _ in calls] == decided
