"""Every engine, with its real broker, real worker processes and the jobs on PostgreSQL: what the library promises holds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import URL

from jobstate import Delivery, Job
from jobstate.memory import MemoryDispatcher
from jobstate.model import Event
from tests.engines.registry import ENGINES, VARIANTS
from tests.engines.scene import ENDPOINT, ORG, Scene, scene_of

pytestmark = pytest.mark.full

CARRIERS = [name for name, engine in ENGINES.items() if engine.has_deliveries]
BROKERS = [name for name, engine in ENGINES.items() if engine.has_broker]


@pytest.fixture
def scene(engine: str, server: URL, tmp_path: Path) -> Iterator[Scene]:
    folder = tmp_path / "broker"
    folder.mkdir()
    with scene_of({**ENGINES, **VARIANTS}[engine](folder), server, tmp_path) as made:
        yield made


@pytest.mark.parametrize("engine", [*ENGINES, *VARIANTS])
def test_what_a_deploy_interrupts_is_queued_again_with_its_budget_intact(scene: Scene) -> None:
    (job_id,) = scene.create(gate="never")
    worker = scene.workers.start()
    scene.until_started(job_id)
    worker.send(scene.engine.interrupt, children=scene.engine.interrupts_children)
    scene.until(lambda: scene.events(job_id)[Event.GIVE_BACK] == 1, "the job is given back")
    assert worker.process.wait(30) is not None
    job = scene.job(job_id)
    assert (job.status, job.attempt_count, job.attempts_used, job.give_backs) == ("queued", 1, 0, 1)
    assert scene.place.path("stopping").exists() == scene.engine.tells_early
    scene.workers.start()
    with scene.sweeping():
        scene.until_finished([job_id])
    scene.check([job_id])
    assert scene.job(job_id).attempts_used == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_a_worker_that_stands_still_past_its_lease_is_fenced_out(scene: Scene) -> None:
    """Its job is run by another, and its late result is dropped."""
    (job_id,) = scene.create(gate="open")
    slow = scene.workers.start()
    scene.until_started(job_id)
    slow.freeze()
    scene.workers.start()
    with scene.sweeping():
        scene.until_finished([job_id])
        scene.place.path("open").touch()
        slow.thaw()
        scene.until(lambda: scene.place.path("ended").exists(), "the slow handler comes to its end")
    slow.send(scene.engine.drain)
    assert slow.process.wait(30) is not None
    scene.check([job_id])
    assert scene.job(job_id).attempt_count == 2


@pytest.mark.parametrize("engine", CARRIERS)
def test_late_repeated_and_lost_deliveries_are_harmless(scene: Scene) -> None:
    ids = scene.create(10)
    dispatcher = scene.dispatcher
    for job_id in ids:
        for run in (1, 1, 1, 0, 7):
            dispatcher.dispatch(Delivery(job_id=job_id, run=run), f"{job_id}-more-{run}-{len(ids)}")
    dispatcher.dispatch(Delivery(job_id="job_" + "0" * 21, run=1), "nobody")
    loses = scene.place.jobs(MemoryDispatcher())
    ids.append(loses.create(ENDPOINT, {}, organization_id=ORG).id)
    scene.workers.start()
    with scene.sweeping():
        scene.until_finished(ids)
    scene.check(ids)
    assert {scene.job(job_id).attempt_count for job_id in ids} == {1}


@pytest.mark.parametrize("engine", BROKERS)
def test_a_broker_that_is_down_delays_and_loses_nothing(scene: Scene) -> None:
    """Callers are told, and one sweep brings all of it to the workers once the broker is back."""
    new = 100
    cancelled = [scene.jobs.cancel(job_id).id for job_id in scene.create(new // 5)]
    scene.engine.stop()

    def create(_number: int) -> Job:
        return scene.jobs.create(ENDPOINT, {}, organization_id=ORG)

    with ThreadPoolExecutor(20) as pool:
        answers = [*pool.map(create, range(new)), *pool.map(scene.jobs.retry, cancelled)]
    for job in answers:
        assert job.dispatch_pending
        assert [warning.code for warning in job.warnings or ()] == ["dispatch_delayed"]
    scene.engine.start()
    scene.workers.start()
    assert scene.jobs.sweep().relay.moved == len(answers)
    scene.until_finished([job.id for job in answers])
    scene.check([job.id for job in answers])


@pytest.mark.parametrize("engine", ENGINES)
def test_many_jobs_outlive_killed_workers_and_a_restart_of_the_broker(scene: Scene) -> None:
    soak(scene, jobs=500, kills=5, restarts=1 if scene.engine.has_broker else 0)


def soak(scene: Scene, *, jobs: int, kills: int, restarts: int) -> None:
    """A tenth of the jobs fails once, workers are killed at random, and others start in their place, as a supervisor does."""
    chance = random.Random(jobs)
    goals = chance.sample(range(jobs // 10, jobs * 8 // 10), kills)
    moments = sorted([*((goal, "kill") for goal in goals), *((jobs // 2, "restart") for _ in range(restarts))])
    scene.be_patient()
    ids = [*scene.create(jobs - jobs // 10), *scene.create(jobs // 10, fails=1)]
    with scene.sweeping():
        for goal, what in moments:
            scene.workers.keep(3)
            scene.until_begun(goal)
            if what == "kill":
                chance.choice(scene.workers.alive()).kill()
            else:
                scene.engine.stop()
                scene.engine.start()

        def all_finished() -> bool:
            scene.workers.keep(3)
            return scene.jobs.count(status=["queued", "in_progress"]) == 0

        scene.until(all_finished, "the end of all jobs", 180)
    scene.check(ids)
    killed = 4 * kills  # at most, of those that run in one worker: in their first attempt they did not come to fail
    assert sum(scene.events(job_id)[Event.RELEASE] for job_id in ids) >= jobs // 10 - killed
