"""A process of its own that runs one delivery, and prints the spans it made, one a line."""

from __future__ import annotations

import sys

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import create_engine

from jobstate import Delivery, Jobs, run_job
from jobstate.adapters.opentelemetry import OpenTelemetryObserver
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.testing import ManualClock


def main(database: str, now: str, job_id: str, run: str) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    engine = create_engine(f"sqlite:///{database}")
    observer = OpenTelemetryObserver(provider)
    jobs = Jobs(SQLAlchemyRepository(engine), clock=ManualClock(int(now)), observers=[observer])
    with provider.get_tracer("engine").start_as_current_span("receive"):
        run_job(jobs, Delivery(job_id=job_id, run=int(run)), lambda request, context: "done")
    engine.dispose()
    for span in exporter.get_finished_spans():
        print(span.to_json(indent=None))


if __name__ == "__main__":
    main(*sys.argv[1:])
