"""procrastinate, whose tasks stand beside the jobs."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import make_url

from jobstate.adapters.procrastinate import ProcrastinateDispatcher
from jobstate.worker import Handler
from tests.engines.engine import Engine
from tests.engines.place import Place
from tests.postgresql import engine_of
from tests.procrastinate_tables import app_of, prepared


class ProcrastinateEngine(Engine):
    name = "procrastinate"
    has_broker = False
    tells_early = False

    def __init__(self, folder: Path) -> None:
        self.broker = ""

    def start(self) -> None:
        engine = engine_of(self.database)
        prepared(engine, self.database)
        engine.dispose()

    def stop(self) -> None:
        """There is none."""

    def dispatcher(self) -> ProcrastinateDispatcher:
        return ProcrastinateDispatcher(app_of(self.database))

    @classmethod
    def work(cls, place: Place, handler: Handler) -> None:
        app = app_of(make_url(place.database))
        dispatcher = ProcrastinateDispatcher(app)
        dispatcher.register(place.jobs(dispatcher), handler)
        app.run_worker(concurrency=2, shutdown_graceful_timeout=0.5, fetch_job_polling_interval=0.5)
