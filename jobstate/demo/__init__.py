"""The main job, told step by step: one document through its whole life on a SQLite file, and two other lives beside it."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import create_engine

from jobstate import Job, Jobs, Policy, TransitionError
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.demo.extract import EXTRACT, LIMIT, ExtractRequest, ExtractResult, extractor
from jobstate.inprocess import ThreadDispatcher
from jobstate.show import Out, show_record

ORGANIZATION = "org_demo"

POLICY = Policy(lease=timedelta(seconds=2), clock_skew=timedelta(seconds=1), cleanup_after=timedelta(0))
"""Short times, so that a person can watch a job expire and be cleaned."""


@dataclass
class Story:
    """The service, and how far each job's history was shown."""

    jobs: Jobs
    out: Out
    shown: dict[str, int] = field(default_factory=dict[str, int])

    def tell(self, job: Job[Any, Any]) -> None:
        """Show what happened to a job since it was shown last."""
        for record in self.jobs.history(job.id, after_version=self.shown.get(job.id, 0)):
            show_record(self.out, record)
            self.shown[job.id] = record.version

    def say(self, text: str) -> None:
        """A heading."""
        self.out.line()
        self.out.line(text, style="bold")


def read_document(path: Path | None) -> ExtractRequest:
    """The user's document, or the invoice that comes with the package. Raises ValueError for one that is too large."""
    name, data = (
        ("invoice.pdf", (files(__name__) / "invoice.pdf").read_bytes()) if path is None else (path.name, path.read_bytes())
    )
    if len(data) > LIMIT:
        raise ValueError(f"{name} has {len(data):,} bytes, the demo takes at most {LIMIT:,}: give a smaller document")
    return ExtractRequest(filename=name, content=base64.b64encode(data).decode())


def run_demo(database: Path, document: Path | None, out: Out) -> bool:
    """Tell the story on a SQLite file; False when the document could not be read to its end."""
    request = read_document(document)
    engine = create_engine(f"sqlite:///{database}")
    try:
        repository = SQLAlchemyRepository(engine)
        repository.create_schema()
        dispatcher = ThreadDispatcher(workers=2)
        jobs = Jobs(repository, dispatcher, policy=POLICY, endpoints=[EXTRACT])
        with TemporaryDirectory() as folder:
            rates = Path(folder) / "rates.csv"
            with dispatcher.running(jobs, extractor(rates)):
                story = Story(jobs.for_organization(ORGANIZATION), out)
                done = extract_and_retry(story, dispatcher, rates, request)
                cancel_one(story, request)
                expire_one(story, jobs, request)
    finally:
        engine.dispose()
    out.line()
    out.line(f"All of it is in {database}: look with   python -m jobstate jobs --database {database}")
    return done


def extract_and_retry(story: Story, dispatcher: ThreadDispatcher, rates: Path, request: ExtractRequest) -> bool:
    """A document fails for want of the exchange rates, and is retried when they are there."""
    story.say(f"1. {request.filename} is to be extracted; nobody has put the exchange rates in place")
    job = story.jobs.create(EXTRACT, request, metadata={"batch_id": "batch_001"})
    dispatcher.join()
    story.tell(job)
    if story.jobs.retrieve(job.id).last_failure_code != "rates_missing":
        return False
    story.say("   The rates are put in place, and the same job is retried")
    rates.write_bytes((files(__name__) / "rates.csv").read_bytes())
    story.jobs.retry(job.id, actor="demo", reason="the rates are there now")
    dispatcher.join()
    story.tell(job)
    job = story.jobs.retrieve(job.id, EXTRACT, include_response=True)
    if job.response is None:
        return False
    tell_result(story.out, job.response.body)
    return True


def tell_result(out: Out, result: ExtractResult) -> None:
    """What was found in the document."""
    out.line(f"   Found: {result.pages} page(s), {result.words} words")
    if result.invoice_number is not None:
        out.line(f"   Invoice {result.invoice_number}, {len(result.lines)} lines, sums checked")
    if result.total_converted is not None:
        out.line(f"   Total {result.total} {result.currency} = {result.total_converted} EUR", style="green")


def cancel_one(story: Story, request: ExtractRequest) -> None:
    """A job that was to run in an hour is cancelled."""
    story.say("2. Another one is to start in an hour, and is cancelled before")
    job = story.jobs.create(EXTRACT, request, available_at=int(time.time()) + 3600)
    story.jobs.cancel(job.id, actor="demo", reason="not wanted any more")
    story.tell(job)


def expire_one(story: Story, jobs: Jobs, request: ExtractRequest) -> None:
    """A job is not started in time: it expires and is cleaned, and its retry is refused."""
    story.say("3. A third one may wait for a second only, and is not started in time")
    job = story.jobs.create(EXTRACT, request, ttl=timedelta(seconds=1), available_at=int(time.time()) + 3600)
    while jobs.retrieve(job.id).cleanup_completed_at is None:
        jobs.sweep()
        story.tell(job)
        time.sleep(0.1)
    story.tell(job)
    story.say("   Its retry comes too late")
    try:
        story.jobs.retry(job.id)
    except TransitionError as refusal:
        story.out.line(f"   {refusal}", style="yellow")
