"""Which jobs: options of a command line as the conditions of the face."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from jobstate.face import Filter, Time
from jobstate.service import Jobs


def add_choice(parser: argparse.ArgumentParser) -> None:
    """The options; all that are given must hold."""
    when = "Unix seconds, a date (UTC), or a date and time with its offset"
    parser.add_argument("--status", action="append", help="in this status; several times: in one of these")
    parser.add_argument("--endpoint", help="of this endpoint")
    parser.add_argument("--organization", help="of this organization")
    parser.add_argument("--created-from", type=_time, metavar="TIME", help=f"created then or later: {when}")
    parser.add_argument("--created-to", type=_time, metavar="TIME", help="created before")
    parser.add_argument("--metadata", type=_pair, action="append", metavar="KEY=VALUE", help="with this in its metadata")


def conditions(options: argparse.Namespace) -> Filter:
    """What was asked for. The organization is not among them: it is the scope of the face."""
    given: Filter = {
        "status": options.status,
        "endpoint": options.endpoint,
        "created_from": options.created_from,
        "created_to": options.created_to,
        "metadata": None if options.metadata is None else dict(options.metadata),
    }
    return given


def face(jobs: Jobs, options: argparse.Namespace) -> Jobs:
    """The jobs of the organization that was asked for, or of all."""
    return jobs if options.organization is None else jobs.for_organization(options.organization)


def _time(text: str) -> Time:
    """Unix seconds, or a date, or a date and time: whether that one has an offset is the face's to check."""
    if text.isdecimal():
        return int(text)
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if len(text) == len("2026-01-31") else time


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(text)
    return key, value
