"""`jobstate jobs retry` and `cancel`: one job, or many, a page at a time. Each outcome is the core's."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec

from jobstate.cli.choice import add_choice, conditions, face
from jobstate.cli.source import opened
from jobstate.cli.told import tell_json
from jobstate.face import Filter
from jobstate.flows.many import BulkOutcome, Fate
from jobstate.service import Jobs

PAGE = 100
"""Jobs between two steps of the progress bar."""


def add_change(parser: argparse.ArgumentParser, verb: str) -> None:
    """The options of a verb that changes jobs."""
    parser.add_argument("job_ids", nargs="*", metavar="JOB", help="ids of jobs; or say which, by the options")
    add_choice(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--yes", action="store_true", help="do not ask, also when there are many")
    parser.add_argument("--actor", help="who does it, for the history")
    parser.add_argument("--reason", help="why, for the history")
    parser.set_defaults(verb=verb)


def change(options: argparse.Namespace) -> int:
    """Change what was asked for; 1 when a job was refused, or nobody knows."""
    asked = conditions(options)
    if options.job_ids:
        asked["ids"] = options.job_ids
    outcomes: list[BulkOutcome] = []
    with opened(options) as jobs:
        try:
            _change(face(jobs, options), asked, options, outcomes)
        except Exception:
            if outcomes:  # what was done before the error is told all the same
                _tell(options, outcomes)
            raise
    _tell(options, outcomes)
    missing = [job_id for job_id in options.job_ids if job_id not in {outcome.job_id for outcome in outcomes}]
    for job_id in missing:
        print(f"jobstate: no job {job_id!r}", file=sys.stderr)
    bad = any(outcome.fate in (Fate.REFUSED, Fate.UNKNOWN) for outcome in outcomes)
    return 1 if bad or missing else 0


def _change(jobs: Jobs, asked: Filter, options: argparse.Namespace, outcomes: list[BulkOutcome]) -> None:
    """First a dry run: it says how many there are, and refuses what is too wide. Then page by page."""
    many = jobs.retry_many if options.verb == "retry" else jobs.cancel_many
    plan = many(dry_run=True, **asked)
    going = [one.job_id for one in plan if one.fate is not Fate.REFUSED]
    if options.dry_run:
        outcomes += plan
        return
    if not (len(going) <= 1 or options.yes or _is_agreed(f"{options.verb} {len(going)} jobs?")):
        raise ValueError("nothing was done")
    outcomes += [one for one in plan if one.fate is Fate.REFUSED]
    with _progress(len(going), options.verb) as advance:
        for start in range(0, len(going), PAGE):
            page_ids = going[start : start + PAGE]
            page: Filter = {**asked, "ids": page_ids}  # what has changed meanwhile, and is not asked for any more, is not met
            outcomes += many(actor=options.actor, reason=options.reason, **page)
            advance(len(page_ids))


def _is_agreed(question: str) -> bool:
    """What a person at the terminal says. Raises ValueError where there is none."""
    if not sys.stdin.isatty():
        raise ValueError(f"{question} Nobody is here to ask: look with --dry-run, then give --yes")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@contextmanager
def _progress(total: int, words: str) -> Generator[Callable[[int], object]]:
    """A bar on standard error, at a terminal, if rich is there."""
    if find_spec("rich") is None:
        yield _no_bar
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(words, total=total)
        yield partial(bar.advance, task)


def _no_bar(_: int) -> None:
    """Nothing is shown."""


def _tell(options: argparse.Namespace, outcomes: Sequence[BulkOutcome]) -> None:
    counts = Counter(outcome.fate.value for outcome in outcomes)
    if options.json:
        data = [_fields(outcome) for outcome in outcomes]
        tell_json({"event": options.verb, "dry_run": options.dry_run, "counts": dict(counts), "data": data})
        return
    from jobstate.show import open_out

    out = open_out()
    if outcomes:
        out.table(("id", "outcome", "status", "why"), [_row(outcome) for outcome in outcomes])
    would = "would be " if options.dry_run else ""
    figures = ", ".join(f"{number} {would}{fate}" for fate, number in counts.items()) or "no jobs"
    out.line(f"{options.verb}: {figures}")


def _fields(outcome: BulkOutcome) -> dict[str, object]:
    error = outcome.error
    return {
        "job_id": outcome.job_id,
        "outcome": outcome.fate,
        "status": outcome.job.status if outcome.job is not None else getattr(error, "status", None),
        "code": getattr(error, "code", None),
        "why": None if error is None else str(getattr(error, "reason", error)),
    }


def _row(outcome: BulkOutcome) -> tuple[str, str, str, str]:
    fields = _fields(outcome)
    why = ": ".join(str(fields[name]) for name in ("code", "why") if fields[name] is not None)
    return outcome.job_id, outcome.fate.value, str(fields["status"] or ""), why
