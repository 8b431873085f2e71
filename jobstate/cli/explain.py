"""`jobstate explain`: what an event would do to a job now, and why."""

from __future__ import annotations

import argparse
import time

from jobstate.cli.source import Commands, add_source, opened
from jobstate.cli.told import add_json, tell_json
from jobstate.lifecycle import Accepted, Already, Decision, Refused, foresee
from jobstate.model import Event


def add(commands: Commands) -> None:
    """The command's options."""
    parser = commands.add_parser("explain", help="say what an event would do to a job now, and why")
    parser.add_argument("job_id", metavar="JOB", help="the job's id")
    parser.add_argument("event", metavar="EVENT", choices=[*map(str, Event)], help=", ".join(Event))
    add_source(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Explain it; 1 when it would be refused. What is not known here, such as a worker's token, is taken to be right."""
    with opened(options) as jobs:
        answer = foresee(jobs.retrieve(options.job_id), Event(options.event), int(time.time()), policy=jobs.policy)
    if options.json:
        tell_json(_fields(answer))
    else:
        print(answer)
    return 1 if isinstance(answer, Refused) else 0


def _fields(answer: Decision) -> dict[str, object]:
    known: dict[str, object] = {"job_id": answer.job_id, "event": answer.event}
    if isinstance(answer, Accepted):
        return {**known, "answer": "accepted", "status": answer.source, "target": answer.target}
    if isinstance(answer, Already):
        return {**known, "answer": "already", "status": answer.status, "reason": answer.words}
    return {
        **known,
        "answer": "refused",
        "status": answer.status,
        "code": answer.code,
        "reason": answer.words,
        "legal": answer.legal,
        "wait_until": answer.wait_until,
    }
