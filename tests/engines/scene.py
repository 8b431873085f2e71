"""One scenario's stage: an engine that runs, an empty database, the service of the host, and worker processes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Flag
from threading import Thread

from sqlalchemy import URL

from jobstate import Job, Jobs
from jobstate.model import Event
from jobstate.ports import Dispatcher
from tests.engines.engine import Engine
from tests.engines.handler import Start, starts
from tests.engines.place import PATIENT, Place
from tests.engines.workers import Workers, workers_of

ORG, ENDPOINT = "org", "/v1/work"
DEADLINE = 60.0
"""Seconds after which what was waited for has not come."""


class Scene:
    """`jobs` is the service as the host has it, with the engine's dispatcher."""

    def __init__(self, engine: Engine, place: Place, workers: Workers, jobs: Jobs) -> None:
        self.engine = engine
        self.place = place
        self.workers = workers
        self.jobs = jobs

    @property
    def dispatcher(self) -> Dispatcher:
        """Another dispatcher of the host's, where there is one."""
        dispatcher = self.engine.dispatcher()
        assert dispatcher is not None
        return dispatcher

    def create(self, count: int = 1, **request: object) -> list[str]:
        """Jobs with this request, by id."""
        return [self.jobs.create(ENDPOINT, request, organization_id=ORG).id for _ in range(count)]

    def job(self, job_id: str) -> Job:
        """With its response."""
        return self.jobs.retrieve(job_id, include_response=True)

    def events(self, job_id: str) -> Counter[Event]:
        """How often each was saved."""
        return Counter(record.event for record in self.jobs.history(job_id) if isinstance(record.event, Event))

    def starts(self, job_id: str | None = None) -> list[Start]:
        """What handlers have logged."""
        return [start for start in starts(self.place) if job_id in (None, start.job_id)]

    def until(self, condition: Callable[[], bool], what: str, deadline: float = DEADLINE) -> None:
        """Wait for it."""
        end = time.monotonic() + deadline
        while not condition():
            assert time.monotonic() < end, f"not within {deadline} s: {what}\n{self.told()}"
            time.sleep(0.05)

    def be_patient(self) -> None:
        """Many jobs are to wait in the queue."""
        self.jobs = self.place.jobs(self.engine.dispatcher(), PATIENT)

    def until_begun(self, count: int) -> None:
        """So many starts are logged, of whatever job."""
        self.until(lambda: len(self.starts()) >= count, f"{count} starts", 120)

    def until_started(self, job_id: str, attempt: int = 1) -> Start:
        """Its handler was called."""
        self.until(lambda: any(start.attempt == attempt for start in self.starts(job_id)), f"start {attempt} of {job_id}")
        return next(start for start in self.starts(job_id) if start.attempt == attempt)

    def until_finished(self, ids: Iterable[str], deadline: float = DEADLINE) -> None:
        """All of them are terminal."""
        left = list(ids)

        def all_finished() -> bool:
            nonlocal left
            left = [job_id for job_id in left if self.jobs.retrieve(job_id).status in ("queued", "in_progress")]
            return not left

        self.until(all_finished, "the end of all jobs", deadline)

    @contextmanager
    def sweeping(self) -> Generator[None]:
        """Sweeps go on meanwhile."""
        done = Flag()

        def sweep() -> None:
            while not done.wait(0.3):
                self.jobs.sweep()

        thread = Thread(target=sweep)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def check(self, ids: Iterable[str]) -> None:
        """Each is completed, by one attempt, all attempts are counted, and none ran twice."""
        for job_id in ids:
            self._check(self.job(job_id))

    def _check(self, job: Job) -> None:
        records = list(self.jobs.history(job.id))
        started = [record.attempt for record in records if record.event is Event.START]
        assert started == list(range(1, job.attempt_count + 1)), f"{job.id}: {started}, and {job.attempt_count} counted"
        logged = [start.attempt for start in self.starts(job.id)]
        assert len(logged) == len(set(logged)), f"{job.id}: an attempt ran twice: {logged}"
        assert set(logged) <= set(started), f"{job.id}: {logged} ran, {started} were started"
        completed = [record.attempt for record in records if record.event is Event.COMPLETE]
        assert job.status == "completed", f"{job.id} is {job.status}: {job.error}"
        assert job.response is not None
        body = job.response.body
        assert completed == [body["attempt"]], f"{job.id}: completed by {completed}, shows {body}"
        assert Start(job.id, body["attempt"], body["pid"]) in self.starts(job.id)
        assert not job.dispatch_pending

    def told(self) -> str:
        """The end of what the workers have printed."""
        path = self.place.path("workers.log")
        return path.read_text(errors="replace")[-6000:] if path.exists() else ""


@contextmanager
def scene_of(engine: Engine, database: URL, folder: Path) -> Generator[Scene]:
    """All of it started, and gone at the end."""
    url = database.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    place = Place(engine.name, url, engine.broker, str(folder))
    place.prepare()
    engine.database = database
    engine.start()
    try:
        with workers_of(place, engine.environment) as workers:
            yield Scene(engine, place, workers, place.jobs(engine.dispatcher()))
    finally:
        engine.stop()
