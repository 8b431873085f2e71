"""The machine: it finds nothing on what is right, in either colour, and something on each service that is broken."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import create_engine, event

from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.effects import Moved
from jobstate.errors import OutcomeUnknownError
from jobstate.memory import AsyncMemoryRepository, MemoryDispatcher, MemoryRepository
from jobstate.model import Delivery
from jobstate.ports import offers
from jobstate.query import DuePage
from jobstate.testing.stateful import AsyncJobsMachine, BrokenPromiseError, Fault, JobsMachine
from jobstate.testing.stateful.faults import READS, FaultyPort, PortError
from jobstate.testing.stateful.machine import Machine
from tests.broken.services import SERVICES, Broken
from tests.test_contracts import Outbox

RUNS = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)


class OnMemory(JobsMachine):
    def open_repository(self) -> MemoryRepository:
        return MemoryRepository()


class OnSQLite(JobsMachine):
    def open_repository(self) -> SQLAlchemyRepository:
        self.folder = TemporaryDirectory()
        self.engine = create_engine(f"sqlite:///{Path(self.folder.name) / 'jobs.sqlite'}")

        @event.listens_for(self.engine, "connect")
        def no_sync(connection: Any, _record: Any) -> None:  # no test of these cuts the power
            connection.execute("PRAGMA synchronous = OFF")

        repository = SQLAlchemyRepository(self.engine)
        repository.create_schema()
        return repository

    def close_repository(self, repository: Any) -> None:
        self.engine.dispose()
        self.folder.cleanup()


class OnAsyncMemory(AsyncJobsMachine):
    async def open_repository(self) -> AsyncMemoryRepository:
        return AsyncMemoryRepository()


class AlarmDispatcher(MemoryDispatcher):
    """With a time, by the machine's own clock: in a run, whose clock is far behind that, all is early."""

    def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        assert not_before < time.time()
        return self.dispatch(delivery, task_name)


class WithAlarms(OnMemory):
    def open_dispatcher(self) -> AlarmDispatcher:
        return AlarmDispatcher()


class WithOutbox(OnSQLite):
    def open_dispatcher(self) -> Outbox:
        return Outbox(self.engine)

    def received(self, dispatcher: Outbox) -> list[Delivery]:
        return dispatcher.received()


MACHINES: list[tuple[type[Machine], int]] = [
    (OnMemory, 40),
    (OnSQLite, 8),
    (OnAsyncMemory, 15),
    (WithAlarms, 20),
    (WithOutbox, 8),
]


@pytest.mark.parametrize(("machine", "examples"), MACHINES, ids=[machine.__name__ for machine, _ in MACHINES])
def test_a_right_service_keeps_its_promises(machine: type[Machine], examples: int) -> None:
    run_state_machine_as_test(machine, settings=settings(RUNS, max_examples=examples))


@pytest.mark.full
@pytest.mark.parametrize(("machine", "examples"), MACHINES, ids=[machine.__name__ for machine, _ in MACHINES])
def test_a_right_service_keeps_its_promises_for_long(machine: type[Machine], examples: int) -> None:
    run_state_machine_as_test(machine, settings=settings(RUNS, max_examples=10 * examples, stateful_step_count=60))


def caught(broken: Broken, patch: pytest.MonkeyPatch, examples: int) -> str:
    """What the machine says to it."""

    class OnBroken(JobsMachine):
        def open_repository(self) -> MemoryRepository:
            return broken.repository()

        def open_dispatcher(self) -> MemoryDispatcher:
            return broken.dispatcher()

    broken.put_in(patch)
    with pytest.raises(BrokenPromiseError) as found:
        run_state_machine_as_test(OnBroken, settings=settings(RUNS, max_examples=examples))
    return str(found.value)


def test_there_are_many_broken_services() -> None:
    names = {broken.name for broken in SERVICES}
    assert len(names) == len(SERVICES) >= 30
    assert names > RARE


RARE = {
    *("any token is the lease's", "a retry after clean-up", "a lost answer is success", "a failed dispatch is an error"),
    "LosesUpdatesInBulk",
}
"""What the machine needs more than a second to meet."""

PARAMETERS = [
    pytest.param(broken, id=broken.name, marks=[pytest.mark.full] if broken.name in RARE else []) for broken in SERVICES
]


@pytest.mark.parametrize("broken", PARAMETERS)
def test_a_broken_service_is_caught(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    assert broken.says in caught(broken, monkeypatch, 400)


def test_a_failing_run_is_told_as_steps_and_names_the_promise(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "from hypothesis import Phase, settings\n"
        "from jobstate.memory import MemoryRepository\n"
        "from jobstate.testing import JobsMachine\n"
        "class Mine(MemoryRepository):\n"
        "    def save(self, transition, **options):\n"
        "        super().save(transition._replace(changes={**transition.changes, 'request': None}))\n"
        "class MyMachine(JobsMachine):\n"
        "    def open_repository(self):\n"
        "        return Mine()\n"
        "TestMine = MyMachine.TestCase\n"
        "TestMine.settings = settings(phases=[Phase.generate], deadline=None, derandomize=True, database=None)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "state.create(" in done.stdout
    assert "BrokenPromiseError: an active job has its request whole (P9, P22)" in done.stdout


def test_a_machine_without_a_repository_says_what_to_do() -> None:
    with pytest.raises(NotImplementedError, match="open_repository"):
        JobsMachine()


# The faults are what they are called


class Store:
    def __init__(self) -> None:
        self.saved: list[str] = []

    def save(self, what: str) -> str:
        self.saved.append(what)
        return f"saved {what}"

    def save_many(self, what: list[str]) -> list[None]:
        self.saved += what
        return [None] * len(what)

    def load(self) -> list[str]:
        return self.saved


@pytest.mark.parametrize(
    ("fault", "error", "done"),
    [
        (Fault.LOST, "OutcomeUnknownError", True),
        (Fault.DROPPED, "OutcomeUnknownError", False),
        (Fault.LATE, "OutcomeUnknownError", False),
        (Fault.STALE, "StaleJobError", False),
        (Fault.FAILED, "PortError", False),
    ],
)
def test_a_faulty_port_does_what_its_fault_says(fault: Fault, error: str, done: bool) -> None:
    port = FaultyPort(Store(), ("save", "save_many", *READS))
    port.planned = [None, fault]
    assert port.save("a") == "saved a"
    with pytest.raises(Exception, match=r".") as raised:
        port.save("b")
    assert type(raised.value).__name__ == error
    assert port.load() == (["a", "b"] if done else ["a"])
    assert port.struck == 1
    for call in port.take_landing():
        call()
    assert ("b" in port.load()) is (done or fault is Fault.LATE)
    assert port.save("c") == "saved c"


def test_a_fault_of_many_saves_is_an_answer_for_each() -> None:
    port = FaultyPort(Store(), ("save_many",))
    port.planned = [Fault.LOST]
    assert [type(answer).__name__ for answer in port.save_many(["a", "b"])] == ["OutcomeUnknownError"] * 2
    assert port.saved == ["a", "b"]


def test_only_a_failing_port_fails_a_read() -> None:
    port = FaultyPort(Store(), ("save", *READS))
    port.planned = [Fault.LOST, Fault.FAILED]
    assert port.load() == []
    port.planned = [Fault.FAILED]
    with pytest.raises(PortError):
        port.load()


def test_a_rival_comes_before_the_save() -> None:
    met: list[list[str]] = []
    port = FaultyPort(MemoryRepository(), ("save",), met.append)
    port.planned = [Fault.RIVAL]

    class Transition:
        job_id = "job_1"
        version = 1

    with pytest.raises(Exception, match="job_1 is not at version"):
        port.save(Transition())
    assert met == [["job_1"]]


class Engine:
    """A dispatcher that can delay."""

    def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int) -> str:
        return task_name


def test_a_dispatch_with_a_time_goes_wrong_and_is_noted_as_one_without() -> None:
    port = FaultyPort(Engine(), ("dispatch_at",))
    assert offers(port, "dispatch_at")
    assert not offers(FaultyPort(MemoryDispatcher(), ("dispatch", "dispatch_at")), "dispatch_at")
    port.planned = [Fault.LOST, Fault.DROPPED]
    for number in (1, 2):
        with pytest.raises(PortError):
            port.dispatch_at(Delivery(job_id="job_1", run=number), "task", 5)
    assert port.dispatch_at(Delivery(job_id="job_1", run=3), "task", 5) == "task"
    assert [args[0].run for _, args in port.done] == [1, 3]


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.FAILED, Fault.DROPPED, Fault.LATE])
def test_a_fault_of_a_shared_sweep_is_an_answer_for_each_row_or_an_error(fault: Fault) -> None:
    class Shares:
        def move_due(self) -> Moved:
            return Moved(DuePage([], None, []), [cast(Any, "a transition")], [None])

    port = FaultyPort(Shares(), ("move_due",))
    port.planned = [fault]
    if fault is Fault.LOST:
        assert [type(answer) for answer in port.move_due().answers] == [OutcomeUnknownError]
    else:
        with pytest.raises((PortError, OutcomeUnknownError)):
            port.move_due()
    assert port.move_due().answers == [None]


class Carrier:
    """A repository that dispatches in its transaction, and rolls back with it."""

    def __init__(self, dispatcher: Any) -> None:
        self.dispatcher = dispatcher

    def save(self, run: int, *, fails: bool = False) -> None:
        self.dispatcher.dispatch(Delivery(job_id="job_1", run=run), "task")
        if fails:
            raise ValueError("the transaction")


def test_what_is_dispatched_with_a_write_counts_when_that_is_done() -> None:
    dispatcher = FaultyPort(MemoryDispatcher(), ("dispatch",))
    repository = FaultyPort(Carrier(dispatcher), ("save",), carried=dispatcher)

    def noted() -> list[int]:
        return [args[0].run for _, args in dispatcher.done]

    dispatcher.planned = [Fault.LOST]
    with pytest.raises(PortError):
        repository.save(1)
    with pytest.raises(ValueError, match="the transaction"):
        repository.save(2, fails=True)
    assert noted() == []
    repository.planned = [None, Fault.LOST, Fault.LATE]
    repository.save(3)
    for run in (4, 5):
        with pytest.raises(OutcomeUnknownError):
            repository.save(run)
    assert noted() == [3, 4]
    for call in repository.take_landing():
        call()
    assert noted() == [3, 4, 5]
