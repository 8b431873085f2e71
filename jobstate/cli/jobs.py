"""`jobstate jobs`: list, show, retry, cancel."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from jobstate.cli.choice import add_choice, conditions, face
from jobstate.cli.many import add_change, change
from jobstate.cli.source import Commands, add_source, opened
from jobstate.cli.told import add_json, tell_json
from jobstate.query import JobPage

Run = Callable[[argparse.Namespace], int]

VERBS = ("list", "show", "retry", "cancel")


def with_verb(words: Sequence[str]) -> list[str]:
    """The words of a command line, with the verb that `jobs` alone stands for."""
    short = words[:1] == ["jobs"] and (len(words) == 1 or words[1] not in (*VERBS, "-h", "--help"))
    return ["jobs", "list", *words[1:]] if short else list(words)


def add(commands: Commands) -> None:
    """The command's verbs and their options."""
    verbs = commands.add_parser(
        "jobs",
        help="list the jobs of a database, show one with its history; retry or cancel one or many",
        description="Without a verb it lists, or shows the job of the id that follows.",
    ).add_subparsers(required=True, metavar="VERB")
    _add_list(_verb(verbs, "list", "list jobs, newest first", run_list))
    show = _verb(verbs, "show", "show a job with its history as a timeline", run_show)
    show.add_argument("job_id", metavar="JOB", help="the job's id")
    _add_payloads(show)
    for name in ("retry", "cancel"):
        add_change(_verb(verbs, name, f"{name} one job, or many", change), name)


def _verb(verbs: Commands, name: str, words: str, run: Run) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=words, description=words[0].upper() + words[1:] + ".")
    add_source(parser)
    add_json(parser)
    parser.set_defaults(run=run)
    return parser


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job_id", nargs="?", metavar="JOB", help="a job's id: as `show`")
    add_choice(parser)
    parser.add_argument("--limit", type=int, default=20, help="at most this many (1 to 1000, default 20)")
    parser.add_argument("--after", metavar="JOB", help="go on behind the job of this id")
    parser.add_argument("--order", choices=("asc", "desc"), default="desc", help="by creation (default desc)")
    _add_payloads(parser)


def _add_payloads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--request", action="store_true", help="with the request")
    parser.add_argument("--response", action="store_true", help="with the response")


def run_list(options: argparse.Namespace) -> int:
    """List jobs, or show the one that was named."""
    from jobstate.show import open_out, show_jobs

    if options.job_id is not None:
        return run_show(options)
    with opened(options) as jobs:
        page = face(jobs, options).list(
            limit=options.limit,
            after=options.after,
            order=options.order,
            include_request=options.request,
            include_response=options.response,
            **conditions(options),
        )
    if options.json:
        tell_json(_page(page))
    else:
        show_jobs(open_out(), page.data)
    return 0


def _page(page: JobPage) -> dict[str, object]:
    """As the job API answers it."""
    data = [job.model_dump(mode="json") for job in page.data]
    return {"object": "list", "data": data, "first_id": page.first_id, "last_id": page.last_id, "has_more": page.has_more}


def run_show(options: argparse.Namespace) -> int:
    """Show a job with its history."""
    from jobstate.show import open_out, show_job

    with opened(options) as jobs:
        job = jobs.retrieve(options.job_id, include_request=options.request, include_response=options.response)
        history = jobs.history(options.job_id)
    if options.json:
        tell_json({"job": job.model_dump(mode="json"), "history": [record.model_dump(mode="json") for record in history]})
    else:
        show_job(open_out(), job, history)
    return 0
