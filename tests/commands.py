"""Every command of the service, and what others may do while its answer is on its way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from jobstate import DispatchError, IllegalTransitionError, Job, JobError, Jobs, JobWarning, LeaseLostError
from jobstate.drivers import perform
from jobstate.effects import Flow
from jobstate.flows.many import BulkOutcome
from tests.support import ENDPOINT, REQUEST, World

DAY = 86_400
ERROR = JobError(code="broken", message="it broke")
WARNING = JobWarning(code="blurred", message="page 2 is blurred")
PARTS = {"scan.pdf": b"a scan"}

Act = Callable[[World], object]
"""What somebody does."""


# Somebody else's writes: one save each.


def somebody(world: World) -> Jobs:
    """A face without faults and without a dispatcher."""
    return Jobs(world.others._ports.repository, policy=world.policy, clock=world.clock)


def the_job(world: World) -> Job:
    [job] = world.others.list(limit=2, include_request=True).data
    return job


def cancel(world: World) -> None:
    somebody(world).cancel(the_job(world).id)


def accept(world: World) -> None:
    somebody(world).accept(the_job(world).id)


def retry(world: World) -> None:
    somebody(world).retry(the_job(world).id)


def start(world: World) -> None:
    somebody(world).start(the_job(world).delivery)


def create_alike(world: World) -> None:
    somebody(world).for_organization(world.organization).create(ENDPOINT, REQUEST, idempotency_key="inv-17")


def expire(world: World) -> None:
    world.clock.advance(8 * DAY)
    somebody(world).expire()


def begin_cleanup(world: World) -> None:
    world.clock.advance(2 * DAY)
    somebody(world).cleanup()


# The commands


@dataclass(frozen=True)
class Command:
    """A command, how to bring a world to where it is possible, and what others may do meanwhile.

    `records` are what it leaves in the history, `undone` what it leaves where the write at fault was never made. `instead` are
    writes of others in its place; `then` is what a decision on the first of them says, `later` what is known after both.
    """

    name: str
    records: tuple[str, ...]
    prepare: Callable[[World], Callable[[], Any]]
    after: tuple[Act, ...]
    instead: tuple[Act, ...] = ()
    then: type[Exception] | Literal["moved", "found"] = IllegalTransitionError
    later: Literal["unknown", "found"] = "unknown"
    found_in_history: bool = True
    unmade: tuple[str, ...] | None = None
    method: str = "save"
    skip: int = 0

    @property
    def undone(self) -> tuple[str, ...]:
        return self.records[:-1] if self.unmade is None else self.unmade

    @property
    def again(self) -> str:
        """The call by which it tries again."""
        return "insert" if self.method == "insert" else "save"


def creating(**options: Any) -> Callable[[World], Callable[[], Any]]:
    return lambda world: partial(world.create, **options)


def held(verb: str, *arguments: Any) -> Callable[[World], Callable[[], Any]]:
    return lambda world: partial(getattr(world.ours, verb), world.create(validating=True).id, *arguments)


def working(verb: str, *arguments: Any, **options: Any) -> Callable[[World], Callable[[], Any]]:
    return lambda world: partial(getattr(world.start(world.create()), verb), *arguments, **options)


def starting(world: World) -> Callable[[], Any]:
    return partial(world.start, world.create())


def cancelling(world: World) -> Callable[[], Any]:
    return partial(world.ours.cancel, world.create().id)


def retrying(**options: Any) -> Callable[[World], Callable[[], Any]]:
    return lambda world: partial(world.ours.retry, failed(world).id, **options)


def failed(world: World) -> Job:
    return world.start(world.create()).fail(ERROR)


def in_bulk(verb: str, bring: Callable[[World], Job]) -> Callable[[World], Callable[[], Any]]:
    def prepare(world: World) -> Callable[[], Any]:
        world.repository.by_row = True
        job_id = bring(world).id
        return lambda: the_outcome(getattr(world.ours, verb)(ids=[job_id]))

    return prepare


def the_outcome(outcomes: Sequence[BulkOutcome]) -> Job | None:
    [outcome] = outcomes
    if outcome.error is not None:
        raise outcome.error
    return outcome.job


def with_a_broken_dispatcher(world: World) -> Callable[[], Any]:
    world.dispatcher.fail("dispatch", DispatchError("the broker is down"))
    return world.create


LEASED: dict[str, Any] = {"instead": (cancel, retry), "then": LeaseLostError}

COMMANDS = [
    Command("create", ("created",), creating(), (start, cancel), method="insert"),
    Command(
        *("create with key", ("created",), creating(idempotency_key="inv-17"), (start, cancel), (create_alike, start)),
        then="found",
        later="found",
        method="insert",
    ),
    Command("create with artifacts", ("created", "accept"), creating(artifacts=PARTS), (), method="insert"),
    Command(
        *("accept of a create with artifacts", ("created", "accept"), creating(artifacts=PARTS), (start, cancel)),
        instead=(cancel, expire),
        then="found",
    ),
    Command("accept", ("accept",), held("accept"), (start, cancel), (cancel, expire)),
    Command("reject", ("reject",), held("reject", ERROR), (expire, begin_cleanup), (accept, start)),
    Command("start", ("start",), starting, (cancel, retry), (cancel, retry), found_in_history=False),
    Command("heartbeat", (), working("heartbeat", 0.5, warnings=[WARNING]), (cancel, retry), found_in_history=False, **LEASED),
    Command("complete", ("complete",), working("complete", {"pages": 2}), (expire, retry), **LEASED),
    Command(
        "complete with artifacts", ("complete",), working("complete", 1, artifacts=PARTS), (expire, retry), skip=1, **LEASED
    ),
    Command("fail", ("fail",), working("fail", ERROR), (retry, start), **LEASED),
    Command("release", ("release",), working("fail", ERROR, retryable=True), (cancel, retry), **LEASED),
    Command("give back", ("give_back",), working("give_back"), (start, cancel), **LEASED),
    Command("cancel", ("cancel",), cancelling, (retry, start), (start, expire), then="moved"),
    Command("retry", ("retry",), retrying(), (start, cancel), (retry, start), then="found", later="found"),
    Command("retry with key", ("retry",), retrying(retry_key="again-1"), (start, cancel), (retry, start)),
    Command(
        *("retry_many", ("retry",), in_bulk("retry_many", failed), (start, cancel), (retry, start)),
        then="found",
        later="found",
        method="save_many",
    ),
    Command(
        *("cancel_many", ("cancel",), in_bulk("cancel_many", World.create), (retry, start), (start, expire)),
        then="moved",
        method="save_many",
    ),
    Command(
        *("dispatched mark", ("created",), creating(), (start, cancel), (start, cancel)),
        then="moved",
        later="found",
        unmade=("created",),
    ),
    Command(
        *("delayed mark", ("created", "delayed"), with_a_broken_dispatcher, (start, cancel), (start, cancel)),
        then="found",
        later="found",
    ),
]


# Crashes


class CrashError(Exception):
    """The process is gone."""


def crash_after(steps: int, face: Jobs) -> Jobs:
    """The same face, whose next command dies after so many effects."""

    def run(_name: str, flow: Flow[Any]) -> Any:
        try:
            effect = next(flow)
            for _ in range(steps):
                effect = flow.send(perform(effect, face._ports))
        except StopIteration as stop:
            return stop.value
        flow.close()
        raise CrashError

    vars(face)["_run"] = run
    return face


INTERRUPTED: dict[str, tuple[Callable[[World], Job | None], Callable[[Jobs, Job | None], object]]] = {
    "create": (lambda _: None, lambda face, _: face.create(ENDPOINT, REQUEST)),
    "accept": (lambda world: world.create(validating=True), lambda face, job: job and face.accept(job.id)),
    "retry": (failed, lambda face, job: job and face.retry(job.id)),
    "retry_many": (failed, lambda face, job: job and face.retry_many(ids=[job.id])),
}
"""Commands that end with a dispatch: what is brought about first, and the command on a face."""
