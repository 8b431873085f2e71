"""The contracts bite: each broken adapter is caught by the clause that says what it breaks; the correct one passes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobstate.memory import AsyncMemoryArtifactStore, AsyncMemoryDispatcher, MemoryArtifactStore, MemoryDispatcher
from jobstate.model import Delivery, Job, JobResponse, evolve
from jobstate.testing.contracts import (
    ArtifactStoreContract,
    ArtifactStoreRaces,
    AsyncArtifactStoreRaces,
    AsyncDispatcherContract,
    AsyncDispatcherRaces,
    Capability,
    DispatcherContract,
    DispatcherRaces,
    RepositoryContract,
    RepositoryRaces,
    SharedSweepsContract,
    clauses,
    dispatcher,
)
from jobstate.testing.contracts.clauses import Contract
from jobstate.testing.contracts.samples import WRITTEN
from tests.broken import dispatchers
from tests.broken.dispatchers import DELAYING, DISPATCHERS, STORES, Delaying
from tests.broken.repositories import BROKEN, Base, leaving_out

ROOT = Path(__file__).parent.parent


def contract_of(repository: type[Base]) -> RepositoryContract:
    class Held(RepositoryContract):
        def open_repository(self, folder: Path) -> Base:
            return repository()

        def spoil(self, repository: Any, job_id: str) -> None:
            repository.spoilt.add(job_id)

        def lose(self, repository: Any) -> None:
            repository.losing = True

    return Held()


def failed(contract: Contract, folder: Path) -> set[str]:
    """The clauses that it breaks."""
    found = set[str]()
    for number, name in clauses(type(contract)).items():
        if breaks(getattr(contract, name), folder):
            found.add(number)
    return found


def breaks(case: Callable[[Path], None], folder: Path) -> bool:
    """Whether a case ends in an error."""
    try:
        case(folder)
    except Exception:
        return True
    return False


def test_the_correct_one_keeps_every_clause(tmp_path: Path) -> None:
    assert failed(contract_of(Base), tmp_path) == set()


def test_a_response_without_a_type_is_as_good_as_one_of_anything(tmp_path: Path) -> None:
    class AnswersWithABareResponse(Base):
        def load(self, job_id: str, **options: Any) -> Job[Any, Any]:
            job = super().load(job_id, **options)
            return job if job.response is None else evolve(job, {"response": _bare(job.response)})

    assert failed(contract_of(AnswersWithABareResponse), tmp_path) == set()


def _bare(response: JobResponse[Any]) -> JobResponse[Any]:
    bare: JobResponse[Any] = JobResponse.model_construct(status_code=response.status_code, body=response.body)
    assert type(bare) is not type(response)
    return bare


@pytest.mark.parametrize(("broken", "number"), BROKEN, ids=[f"{number}-{broken.__name__}" for broken, number in BROKEN])
def test_a_broken_one_is_caught_by_its_clause(broken: type[Base], number: str, tmp_path: Path) -> None:
    found = failed(contract_of(broken), tmp_path)
    print(f"{broken.__name__} breaks {', '.join(sorted(found))}")
    assert number in found


@pytest.mark.parametrize(("bulk", "number"), [(False, "R08"), (True, "R14")])
@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_a_field_that_a_save_leaves_out_is_caught(name: str, bulk: bool, number: str, tmp_path: Path) -> None:
    """Each that a row of the table writes."""
    case = getattr(contract_of(leaving_out(name, bulk=bulk)), clauses(RepositoryContract)[number])
    with pytest.raises(AssertionError, match=f"^{name}: "):
        case(tmp_path)


@pytest.mark.parametrize(("broken", "number"), [(MemoryDispatcher, ""), *DISPATCHERS])
def test_a_broken_dispatcher_is_caught_by_its_clause(
    broken: type[MemoryDispatcher], number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "DEADLINE", 0.0)  # what a dispatcher in memory has not delivered at once never comes

    found = broken_clauses(broken, "D", tmp_path)
    assert found == set() if not number else number in found, found


@pytest.mark.full
@pytest.mark.parametrize(("broken", "number"), [(Delaying, ""), *DELAYING])
def test_a_dispatcher_that_delays_in_a_wrong_way_is_caught_by_its_clause(
    broken: type[Delaying], number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "DEADLINE", 4.0)
    found = broken_clauses(broken, "L", tmp_path)
    assert found == set() if not number else number in found, found


@pytest.mark.parametrize("number", ["D05", "L03"])
def test_a_dispatcher_that_takes_no_notice_of_its_transaction_is_caught(
    number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "DEADLINE", 4.0)
    case = clauses(DispatcherContract)[number]
    contract = held(dispatchers.TakesNoNoticeOfItsTransaction)
    with pytest.raises(AssertionError, match="delivered, and never dispatched"):
        getattr(contract, case)(tmp_path)


def held(made: type[MemoryDispatcher]) -> DispatcherContract:
    """The contract of a dispatcher in memory."""

    class Held(DispatcherContract):
        def open_dispatcher(self, folder: Path) -> MemoryDispatcher:
            return made()

        def received(self, dispatcher: Any) -> list[Delivery]:
            return list(iter(dispatcher.take, None))

    return Held()


def broken_clauses(broken: type[MemoryDispatcher], letter: str, folder: Path) -> set[str]:
    """The clauses of this letter that a dispatcher in memory, which writes to no database, breaks."""
    contract = held(broken)
    every = clauses(DispatcherContract).items()
    asked = {number: name for number, name in every if number[0] == letter and number not in ("D05", "L03")}
    return {number for number, name in asked.items() if breaks(getattr(contract, name), folder)}


@pytest.mark.parametrize(("broken", "number"), [(MemoryArtifactStore, ""), *STORES])
def test_a_broken_store_is_caught_by_its_clause(broken: type[MemoryArtifactStore], number: str, tmp_path: Path) -> None:
    class Held(ArtifactStoreContract):
        def open_store(self, folder: Path) -> MemoryArtifactStore:
            return broken()

    found = failed(Held(), tmp_path)
    assert found == set() if not number else number in found, found


# Races

RACES: list[tuple[type[Any], type[Any], type[Any]]] = [
    (DispatcherRaces, MemoryDispatcher, dispatchers.ForgetsWhatIsAddedMeanwhile),
    (DispatcherRaces, MemoryDispatcher, dispatchers.LooksForATaskWhileOthersAreAdded),
    (AsyncDispatcherRaces, AsyncMemoryDispatcher, dispatchers.AsyncForgetsWhatIsAddedMeanwhile),
    (ArtifactStoreRaces, MemoryArtifactStore, dispatchers.LooksBeforeItPuts),
    (ArtifactStoreRaces, MemoryArtifactStore, dispatchers.PutsPartByPart),
    (AsyncArtifactStoreRaces, AsyncMemoryArtifactStore, dispatchers.AsyncLooksBeforeItPuts),
]


@pytest.mark.parametrize(("races", "correct", "broken"), RACES, ids=[broken.__name__ for _, _, broken in RACES])
def test_what_is_right_for_one_alone_is_caught_in_a_race(
    races: type[Any], correct: type[Any], broken: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "DEADLINE", 0.0)

    def lost(adapter: type[Any]) -> list[str]:
        cases = [name for name in dir(races) if name.startswith("test")]
        return [name for name in cases if breaks(getattr(_racing(races, adapter)(), name), tmp_path)]

    assert lost(correct) == []
    assert lost(broken)


def _racing(races: type[Any], adapter: type[Any]) -> type[Any]:
    """The races of an adapter in memory."""

    async def aopen(self: Any, folder: Path) -> Any:
        return adapter()

    async def areceived(self: Any, dispatcher: Any) -> list[Delivery]:
        return list(iter(dispatcher.take, None))

    def open_(self: Any, folder: Path) -> Any:
        return adapter()

    def received(self: Any, dispatcher: Any) -> list[Delivery]:
        return list(iter(dispatcher.take, None))

    opens, takes = (aopen, areceived) if races.__name__.startswith("Async") else (open_, received)
    return type("Racing", (races,), {"open_dispatcher": opens, "open_store": opens, "received": takes})


def test_there_is_one_for_every_clause() -> None:
    assert len(BROKEN) >= 40
    assert {number for _, number in BROKEN} == set(clauses(RepositoryContract))


@pytest.mark.full
def test_a_broken_one_is_red_when_pytest_runs_it(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "from jobstate.memory import MemoryRepository\n"
        "from jobstate.testing.contracts import Capability, RepositoryContract\n"
        "class Mine(MemoryRepository):\n"
        "    def delete(self, job_id, version):\n"
        "        super().delete(job_id, self._rows[job_id].version)\n"
        "class TestMine(RepositoryContract):\n"
        "    lacks = {Capability.SPOIL: 'it keeps values', Capability.LOSE: 'no wire'}\n"
        "    def open_repository(self, folder):\n"
        "        return Mine()\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "test_R23_a_stale_delete_removes_nothing" in done.stdout
    assert "1 failed, 24 passed, 3 skipped" in done.stdout
    assert "R12 needs 'lose', which this adapter lacks: no wire" in done.stdout


CASES: list[tuple[type[Any], str]] = [
    (RepositoryContract, "test_R23_a_stale_delete_removes_nothing"),
    (AsyncDispatcherContract, "test_D01_what_is_taken_is_delivered"),
    (SharedSweepsContract, "test_S03_several_at_once_share_the_rows"),
    (RepositoryRaces, "test_R29_readers_see_whole_versions"),
    (AsyncDispatcherRaces, "test_D06_what_many_dispatch_at_once_is_delivered"),
    (ArtifactStoreRaces, "test_A07_an_artifact_is_there_whole_or_not_at_all"),
    (RepositoryContract, "run"),
]


@pytest.mark.parametrize(("suite", "name"), CASES)
def test_a_case_is_not_overridden(suite: type[Any], name: str) -> None:
    """By the class itself, one before it, or one that both come from."""
    mixin = type("Mixin", (), {name: None})
    words = f"Mine: {name}: the cases of a contract are not overridden, nor how they are run; give a test of your own another"
    for bases, attributes in [((suite,), {name: None}), ((mixin, suite), {}), ((type("Under", (mixin,), {}), suite), {})]:
        with pytest.raises(TypeError, match=words):
            type("Mine", bases, attributes)
    assert getattr(type("Mine", (suite, mixin), {"test_of_mine": None}), name) is getattr(suite, name)


def test_a_capability_that_nobody_knows_is_not_lacking() -> None:
    with pytest.raises(TypeError, match="sql: there is no such capability; there are transaction, delay, spoil, lose"):
        type("Other", (RepositoryContract,), {"lacks": {"sql": "no"}})


def test_a_contract_without_an_adapter_says_what_to_do(tmp_path: Path) -> None:
    class Nothing(RepositoryContract):
        lacks = dict.fromkeys(Capability, "not yet")

    with pytest.raises(NotImplementedError, match="open_repository"):
        Nothing().test_R01_a_new_job_is_stored_with_payloads_and_record(tmp_path)
