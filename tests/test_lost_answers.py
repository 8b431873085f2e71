"""A write can be done and its answer lost, not done at all, or done late: one effect, and a true answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from jobstate import Attempt, DispatchError, HistoryRecord, IllegalTransitionError, Job, LeaseLostError, OutcomeUnknownError
from jobstate.flows.dispatch import DISPATCH_DELAYED
from jobstate.flows.many import Fate
from jobstate.lifecycle import replay
from jobstate.memory import MemoryRepository
from jobstate.model import Lease, evolve
from tests.commands import (
    COMMANDS,
    PARTS,
    Act,
    Command,
    cancel,
    expire,
    failed,
    retry,
    somebody,
    start,
    the_job,
    with_a_broken_dispatcher,
)
from tests.support import ENDPOINT, NOW, REQUEST, World, make_world

SAVED = [command for command in COMMANDS if command.method != "insert"]

WITH_OTHERS = [command for command in COMMANDS if command.after]
REPLACED = [command for command in COMMANDS if command.instead]

Fault = Callable[[World, Command, Callable[[], object]], None]


def lost(world: World, command: Command, then: Callable[[], object]) -> None:
    world.repository.lose(command.method, skip=command.skip, then=then)


def landing_before_the_reload(world: World, command: Command, then: Callable[[], object]) -> None:
    world.repository.late(command.method, until="load", skip=command.skip, then=then)


def landing_before_the_next_try(world: World, command: Command, then: Callable[[], object]) -> None:
    world.repository.late(command.method, until=command.again, skip=command.skip, then=then)


DONE: list[Fault] = [lost, landing_before_the_reload, landing_before_the_next_try]
CASES = [
    pytest.param(command, fault, id=f"{command.name}-{fault.__name__}")
    for command in COMMANDS
    for fault in DONE
    if command.method != "insert" or fault is not landing_before_the_reload  # a create reads nothing back: it inserts again
]


class Witness:
    """Who wrote what: the operations of the world before, and those of others."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.others = self.operations()

    def operations(self) -> set[str]:
        return {record.operation for record in self.history()}

    def history(self) -> list[Any]:
        return [record for job in self.world.others.list().data for record in self.world.others.history(job.id)]

    def writes(self, acts: Sequence[Act]) -> None:
        for act in acts:
            before = self.operations()
            act(self.world)
            self.others |= self.operations() - before

    def own(self) -> tuple[str, ...]:
        return tuple(str(record.event) for record in self.history() if record.operation not in self.others)


def both(world: World, one: Act, other: Act) -> Callable[[], None]:
    def act() -> None:
        one(world)
        other(world)

    return act


def job_in(answer: Attempt[Any, Any] | Job) -> Job:
    return answer if isinstance(answer, Job) else answer.job


def assert_true(answer: Any, world: World) -> None:
    """What was told is the row as it stands, and the row is what its history tells."""
    row = the_job(world)
    told = job_in(answer)
    assert (told.version, told.status, told.run) == (row.version, row.status, row.run)
    again = replay(list(world.others.history(row.id)))
    assert (again.status, again.run, again.attempt_count) == (row.status, row.run, row.attempt_count)


def as_anyones(job: Job) -> object:
    """The row without what differs from one world to the next: ids, and the jitter that is made of them."""
    lease = job.lease and Lease(token="token", expires_at=job.lease.expires_at)
    same = evolve(job, {"operation": "", "lease": lease, "available_at": job.available_at and NOW})
    return json.loads(same.model_dump_json().replace(job.id, "job"))


def without_faults(command: Command, folder: Path) -> object:
    with make_world("memory", folder) as world:
        command.prepare(world)()
        return as_anyones(the_job(world))


def everyone(commands: Sequence[Command]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("command", commands, ids=lambda command: command.name)


@pytest.mark.parametrize(("command", "fault"), CASES)
def test_a_write_whose_answer_is_lost_has_one_effect(world: World, command: Command, fault: Fault, tmp_path: Path) -> None:
    act = command.prepare(world)
    witness = Witness(world)
    fault(world, command, lambda: None)
    answer = act()
    assert witness.own() == command.records
    assert_true(answer, world)
    assert as_anyones(the_job(world)) == without_faults(command, tmp_path)


@pytest.mark.parametrize("writes", [1, 2])
@pytest.mark.parametrize(("command", "fault"), [case for case in CASES if case.values[0] in WITH_OTHERS])
def test_a_write_whose_answer_is_lost_is_found_behind_those_of_others(
    world: World, command: Command, fault: Fault, writes: int
) -> None:
    act = command.prepare(world)
    witness = Witness(world)
    fault(world, command, lambda: witness.writes(command.after[:writes]))
    if command.found_in_history:
        assert_true(act(), world)
    else:
        with pytest.raises(OutcomeUnknownError):
            act()
    assert witness.own() == command.records
    assert "delete" not in world.artifacts.calls


@everyone(COMMANDS)
def test_a_write_that_was_not_made_is_made_again(world: World, command: Command, tmp_path: Path) -> None:
    act = command.prepare(world)
    witness = Witness(world)
    world.repository.drop(command.method, skip=command.skip)
    answer = act()
    assert witness.own() == command.records
    assert_true(answer, world)
    assert as_anyones(the_job(world)) == without_faults(command, tmp_path)


@everyone(REPLACED)
def test_a_write_whose_place_is_taken_was_never_made_and_is_decided_again(world: World, command: Command) -> None:
    act = command.prepare(world)
    witness = Witness(world)
    world.repository.drop(command.method, skip=command.skip, then=lambda: witness.writes(command.instead[:1]))
    if isinstance(command.then, str):
        assert_true(act(), world)
    else:
        with pytest.raises(command.then):
            act()
    assert witness.own() == (command.records if command.then == "moved" else command.undone)


@everyone(REPLACED)
def test_a_write_that_nobody_can_find_is_an_unknown_outcome(world: World, command: Command) -> None:
    act = command.prepare(world)
    witness = Witness(world)
    world.repository.drop(command.method, skip=command.skip, then=lambda: witness.writes(command.instead))
    if command.later == "found":
        assert_true(act(), world)
    else:
        with pytest.raises(OutcomeUnknownError):
            act()
    assert witness.own() == command.undone
    assert "delete" not in world.artifacts.calls


@everyone([command for command in SAVED if not command.name.endswith("mark")])
def test_a_write_that_cannot_be_read_back_is_an_unknown_outcome(world: World, command: Command) -> None:
    act = command.prepare(world)
    witness = Witness(world)
    down = ConnectionError("the network is down")
    world.repository.lose(command.method, skip=command.skip, then=lambda: world.repository.fail("load", down))
    with pytest.raises(OutcomeUnknownError):
        act()
    assert witness.own() == command.records
    assert "delete" not in world.artifacts.calls


REPEATABLE = ("create with key", "complete", "complete with artifacts", "fail", "retry", "retry with key", "retry_many")


@everyone([command for command in COMMANDS if command.name in REPEATABLE])
def test_a_command_is_safe_to_repeat_after_an_unknown_outcome(world: World, command: Command) -> None:
    act = command.prepare(world)
    witness = Witness(world)
    read_back = "insert" if command.method == "insert" else "load"
    down = ConnectionError("the network is down")
    world.repository.lose(command.method, skip=command.skip, then=lambda: world.repository.fail(read_back, down))
    with pytest.raises(OutcomeUnknownError):
        act()
    assert_true(act(), world)
    assert witness.own() == command.records


# Starts: whose attempt it is


def test_a_start_whose_answer_is_lost_holds_its_own_attempt_behind_a_dispatch_mark(world: World) -> None:
    world.dispatcher.fail("dispatch", DispatchError("the broker is down"))
    job = world.create()
    world.repository.lose("save", then=lambda: world.others._run("mark", _mark_dispatched(job.id)))
    attempt = world.start(job)
    row = world.row(job.id)
    assert (attempt.number, row.attempt_count, row.dispatch_count) == (1, 1, 1)
    assert row.lease is not None
    assert attempt.token == row.lease.token
    assert attempt.job.request == REQUEST
    assert attempt.complete("done").status == "completed"


def _mark_dispatched(job_id: str) -> Any:
    from jobstate.effects import Load
    from jobstate.flows.settle import Scope, carry_out, command
    from jobstate.model import Event
    from jobstate.policy import Policy

    job = yield from Load(job_id)
    asked = yield from command(Event.DISPATCHED, {"run": job.run, "task_name": "theirs"})
    return (yield from carry_out(Scope(Policy()), job, asked))


def test_a_start_found_only_in_the_history_hands_out_no_attempt(world: World) -> None:
    job = world.create()
    theirs: list[Attempt[Any, Any]] = []

    def others_go_on() -> None:
        cancel(world)
        retry(world)
        theirs.append(somebody(world).start(the_job(world).delivery))

    world.repository.lose("save", then=others_go_on)
    with pytest.raises(OutcomeUnknownError):
        world.start(job)
    assert [attempt.number for attempt in theirs] == [2]
    assert theirs[0].complete("theirs").attempt_count == 2


def test_the_history_is_asked_for_what_came_after_the_doubtful_version_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    history = MemoryRepository.history

    def noted(self: MemoryRepository, job_id: str, *, after_version: int = 0) -> Sequence[HistoryRecord]:
        asked.append(after_version)
        return history(self, job_id, after_version=after_version)

    def others_go_on() -> None:
        retry(world)
        cancel(world)

    monkeypatch.setattr(MemoryRepository, "history", noted)
    with make_world("memory", tmp_path) as world:
        job = world.create()
        world.repository.lose("save", then=others_go_on)
        world.ours.cancel(job.id)
        assert asked == [job.version]


def test_a_start_that_was_never_made_counts_nothing(world: World) -> None:
    job = world.create()
    theirs: list[Attempt[Any, Any]] = []
    world.repository.drop("save", then=lambda: theirs.append(somebody(world).start(job.delivery)))
    with pytest.raises(IllegalTransitionError) as caught:
        world.start(job)
    assert caught.value.code == "already_started"
    assert theirs[0].complete("theirs").attempt_count == 1


# Artifacts


def test_a_result_in_doubt_keeps_its_artifacts(world: World) -> None:
    attempt = world.start(world.create())
    world.repository.drop("save", skip=1, then=both(world, cancel, retry))
    with pytest.raises(OutcomeUnknownError):
        attempt.complete("done", artifacts=PARTS)
    assert world.artifacts.keys() == [f"{the_job(world).id}/1/scan.pdf"]


def test_a_result_that_certainly_was_not_saved_takes_only_its_own_artifacts_along(world: World) -> None:
    job = world.create(artifacts=PARTS)
    attempt = world.start(job)
    world.repository.drop("save", skip=1, then=lambda: cancel(world))
    with pytest.raises(LeaseLostError):
        attempt.complete("done", artifacts=PARTS)
    assert world.artifacts.keys() == [f"{job.id}/request/scan.pdf"]


def test_a_lost_heartbeat_before_a_result_is_no_lost_lease(world: World) -> None:
    attempt = world.start(world.create())
    world.repository.lose("save", then=lambda: cancel(world))
    with pytest.raises(OutcomeUnknownError):
        attempt.complete("done", artifacts=PARTS)
    assert world.artifacts.calls == []


def test_a_create_whose_answer_is_lost_finds_that_another_finished_it(world: World) -> None:
    def another_finishes_it() -> None:
        world.others.for_organization(world.organization).create(ENDPOINT, REQUEST, idempotency_key="inv-17", artifacts=PARTS)

    world.repository.lose("insert", then=another_finishes_it)
    job = world.create(idempotency_key="inv-17", artifacts=PARTS)
    assert job.status == "queued"
    assert [record.event for record in world.others.history(the_job(world).id)] == ["created", "accept"]
    assert len(world.dispatcher) == 1


# What stands around a lost answer


def test_a_delay_is_told_when_only_the_answer_to_noting_it_is_lost(world: World) -> None:
    act = with_a_broken_dispatcher(world)
    world.repository.lose("save", then=both(world, start, cancel))
    told = act()
    assert [warning.code for warning in told.warnings] == [DISPATCH_DELAYED]
    assert the_job(world).warnings is None


def test_a_lost_cancel_leaves_the_task_of_a_later_retry_alone(world: World) -> None:
    job = world.create()
    world.take()
    world.repository.lose("save", then=lambda: world.others.retry(job.id))
    world.ours.cancel(job.id)
    row = world.row(job.id)
    assert row.dispatched_at is not None
    assert world.take() == row.delivery


def test_a_bulk_command_whose_whole_answer_is_lost_finds_each_of_its_rows_and_is_safe_to_repeat(world: World) -> None:
    jobs = [failed(world) for _ in range(3)]
    world.repository.by_row = False
    world.repository.lose("save_many")
    assert [outcome.fate for outcome in world.ours.retry_many(status="failed")] == [Fate.MOVED] * 3
    assert [outcome.fate for outcome in world.ours.retry_many(ids=[job.id for job in jobs])] == [Fate.ALREADY] * 3
    assert [world.row(job.id).run for job in jobs] == [2, 2, 2]


def test_one_lost_answer_in_a_bulk_command_is_the_outcome_of_its_own_row_only(world: World) -> None:
    jobs = [world.create() for _ in range(3)]
    world.repository.by_row = True
    world.repository.drop("save_many", then=both(world, lambda world: somebody(world).start(jobs[1].delivery), expire))
    outcomes = {outcome.job_id: outcome for outcome in world.ours.cancel_many(ids=[job.id for job in jobs])}
    assert outcomes[jobs[1].id].fate == Fate.UNKNOWN
    assert isinstance(outcomes[jobs[1].id].error, OutcomeUnknownError)
    assert [outcomes[job.id].fate for job in (jobs[0], jobs[2])] == [Fate.REFUSED] * 2
