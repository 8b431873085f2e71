"""The command line: `python -m jobstate`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from jobstate.errors import JobNotFoundError, JobstateError

DATABASE = Path("jobstate.sqlite")


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Exit codes: 0 done, 1 not done (the reason is on standard error), 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except ImportError as error:
        extra = getattr(options, "extra", "demo")
        print(f"jobstate: {error.name} is missing: pip install 'jobstate[{extra}]'", file=sys.stderr)
    except (JobstateError, OSError, ValueError) as error:
        print(f"jobstate: {error}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m jobstate", description="Job semantics to embed.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="send a document through its whole life on a SQLite file, and watch")
    demo.add_argument(
        "file", nargs="?", type=Path, help="a PDF or text file; without one, an invoice that comes with the package"
    )
    demo.set_defaults(run=_demo)
    jobs = commands.add_parser("jobs", help="list the jobs of a database, or show one with its history")
    jobs.add_argument("job_id", nargs="?", help="the job to show")
    jobs.add_argument("--status", help="list only jobs in this status")
    jobs.add_argument("--limit", type=int, default=20, help="at most this many (1 to 1000, default 20)")
    jobs.set_defaults(run=_jobs)
    serve = commands.add_parser("serve", help="serve the job API over HTTP, with workers in the process")
    serve.add_argument("--database", default=str(DATABASE), help=f"a SQLite file, or a URL (default {DATABASE})")
    serve.add_argument("--host", default="127.0.0.1", help="the address to listen on (default 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8000, help="the port to listen on; 0 for any (default 8000)")
    serve.add_argument("--workers", type=int, default=4, help="how many jobs run at once (default 4)")
    serve.add_argument("--grace", type=float, default=10, help="seconds for what runs when it is stopped (default 10)")
    serve.set_defaults(run=_serve, extra="serve")
    work = commands.add_parser("work", help="take pending jobs from a database and run a handler on them")
    work.add_argument("handler", metavar="MODULE:HANDLER", help="a function of a request and a context")
    work.add_argument("--database", default=str(DATABASE), help=f"a SQLite file, or a URL (default {DATABASE})")
    work.add_argument("--concurrency", type=int, default=10, help="how many jobs run at once, in threads (default 10)")
    work.add_argument("--poll", type=float, default=1.0, help="seconds between two looks of who is idle (default 1)")
    work.add_argument("--grace", type=float, default=10.0, help="seconds for what runs when it is stopped (default 10)")
    work.set_defaults(run=_work, extra="postgresql")
    sweep = commands.add_parser("sweep", help="expire, rescue, clean up and forget, once: for a cron job")
    sweep.add_argument("--database", default=str(DATABASE), help=f"a SQLite file, or a URL (default {DATABASE})")
    sweep.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    sweep.set_defaults(run=_sweep, extra="postgresql")
    for command in (demo, jobs):
        command.add_argument("--database", type=Path, default=DATABASE, help=f"a SQLite file (default {DATABASE})")
    return parser


def _demo(options: argparse.Namespace) -> int:
    from jobstate.demo import run_demo
    from jobstate.show import open_out

    return 0 if run_demo(options.database, options.file, open_out()) else 1


def _jobs(options: argparse.Namespace) -> int:
    from sqlalchemy import create_engine

    from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
    from jobstate.service import Jobs
    from jobstate.show import open_out, show_job, show_jobs

    if not options.database.exists():
        raise FileNotFoundError(f"{options.database} does not exist: name a file with --database, or run the demo first")
    engine = create_engine(f"sqlite:///{options.database}")
    try:
        jobs = Jobs(SQLAlchemyRepository(engine))
        out = open_out()
        if options.job_id is None:
            show_jobs(out, jobs.list(limit=options.limit, status=options.status).data)
        else:
            show_job(out, jobs.retrieve(options.job_id), jobs.history(options.job_id))
    except JobNotFoundError as error:
        raise ValueError(f"{error} (in {options.database})") from error
    finally:
        engine.dispose()
    return 0


def _serve(options: argparse.Namespace) -> int:
    from jobstate.serve import API_KEYS, api_keys, serve

    keys = api_keys(os.environ.get(API_KEYS))
    serve(
        options.database,
        keys,
        host=options.host,
        port=options.port,
        workers=options.workers,
        grace=options.grace,
    )
    return 0


def _work(options: argparse.Namespace) -> int:
    from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
    from jobstate.database import open_engine
    from jobstate.loop import handler_named, work
    from jobstate.service import Jobs

    handler = handler_named(options.handler)
    engine = open_engine(options.database, connections=options.concurrency + 1)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    try:
        work(Jobs(repository), handler, concurrency=options.concurrency, poll=options.poll, grace=options.grace)
    finally:
        engine.dispose()
    return 0


def _sweep(options: argparse.Namespace) -> int:
    """The sweeps of the default policy, once: what each did, and 1 if one met an error."""
    from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
    from jobstate.database import open_engine
    from jobstate.service import Jobs

    if "://" not in options.database and not Path(options.database).exists():
        raise FileNotFoundError(f"{options.database} does not exist: name a database with --database")
    engine = open_engine(options.database)
    try:
        report = Jobs(SQLAlchemyRepository(engine)).sweep()
    except ExceptionGroup as errors:
        for error in errors.exceptions:
            print(f"jobstate: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    finally:
        engine.dispose()
    did = {name: swept._asdict() for name, swept in report._asdict().items()}
    lines = [
        f"{name}: {', '.join(f'{n} {what}' for what, n in counts.items() if what != 'unreadable')}"
        for name, counts in did.items()
    ]
    print(json.dumps(did) if options.json else "\n".join(lines))
    for job_id in sorted({job_id for swept in report for job_id in swept.unreadable}):
        print(f"jobstate: the row of {job_id} cannot be read", file=sys.stderr)
    return int(any(swept.failed or swept.unreadable for swept in report))


if __name__ == "__main__":
    sys.exit(main())
