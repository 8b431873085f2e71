"""How a job is shown to a person: rich at a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from pydantic import JsonValue

from jobstate.model import HistoryRecord, Job

QUIET = frozenset({"status", "version", "operation", "updated_at", "metadata", "object", "id"})
"""Fields that a line of history need not repeat."""


class Out(Protocol):
    """Where lines go."""

    def line(self, text: str = "", *, style: str = "") -> None:
        """One line; `style` is a colour or weight where there is one."""
        ...

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table with a heading."""
        ...


class PlainOut:
    """Lines on standard output."""

    def line(self, text: str = "", *, style: str = "") -> None:
        """As `Out.line`."""
        print(text)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """As `Out.table`: columns padded with blanks."""
        lines = [tuple(columns), *(tuple(row) for row in rows)]
        widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
        for line in lines:
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


class RichOut:
    """A terminal, through rich."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False)

    def line(self, text: str = "", *, style: str = "") -> None:
        """As `Out.line`."""
        self._console.print(text, style=style or None, markup=False)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """As `Out.table`."""
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns)
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self._console.print(table)


def open_out() -> Out:
    """Rich at a terminal where it is installed, else plain."""
    if sys.stdout.isatty():
        try:
            return RichOut()
        except ImportError:
            return PlainOut()
    return PlainOut()


_STYLES = {"failed": "red", "cancelled": "yellow", "expired": "magenta", "completed": "green", "in_progress": "cyan"}


def show_record(out: Out, record: HistoryRecord, before: HistoryRecord | None = None) -> None:
    """One transition, with the fields that it changed; `before`, the one that came before it, gives the time between them."""
    source = "" if record.source is None else f"{record.source} -> "
    between = "" if before is None else f"  {'+' + span(record.at - before.at):<9}"
    out.line(
        f"  {clock(record.at)}{between}  v{record.version:<3} {record.event:<14} {source}{record.target}{_by(record)}",
        style=_STYLES.get(record.target.value, "bold"),
    )
    new = record.event == "created"
    fields = {name: value for name, value in record.changes.items() if name not in QUIET and not (new and not value)}
    if fields:
        out.line("      " + "  ".join(f"{name}={_short(value)}" for name, value in fields.items()), style="dim")


def _by(record: HistoryRecord) -> str:
    """Who, and why, if that was told."""
    who = "" if record.actor is None else f"  by {_short(record.actor)}"
    return who if record.reason is None else f"{who}  ({_short(record.reason)})"


def show_timeline(out: Out, history: Sequence[HistoryRecord]) -> None:
    """A history, under the days on which it happened, with the time from one record to the next."""
    before: HistoryRecord | None = None
    for record in history:
        if before is None or day(record.at) != day(before.at):
            out.line(day(record.at), style="bold")
        show_record(out, record, before or record)
        before = record


def show_job(out: Out, job: Job[Any, Any], history: Sequence[HistoryRecord]) -> None:
    """A job with its fields, and its history as a timeline."""
    for name, value in job.model_dump(mode="json").items():
        if value not in (None, {}, [], False):
            out.line(f"{name:<22} {_short(_moment_of(name, value), 100)}")
    out.line()
    show_timeline(out, history)


def _moment_of(name: str, value: JsonValue) -> JsonValue:
    """A time in words too."""
    return f"{value}  ({moment(value)})" if name.endswith("_at") and type(value) is int else value


def show_jobs(out: Out, jobs: Iterable[Job[Any, Any]]) -> None:
    """A table of jobs."""
    rows = [
        (
            job.id,
            job.status.value,
            _harmless(job.endpoint),
            f"{job.attempt_count}",
            f"{job.run}",
            moment(job.created_at),
            _why(job),
        )
        for job in jobs
    ]
    out.table(("id", "status", "endpoint", "attempts", "run", "created", "last failure"), rows)


def _harmless(text: str) -> str:
    """Control characters, which a terminal would obey, as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _why(job: Job[Any, Any]) -> str:
    return _harmless(job.last_failure_code or "")


def moment(seconds: int) -> str:
    """A time as date and time, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def day(seconds: int) -> str:
    """A date, UTC."""
    return moment(seconds)[:10]


def span(seconds: int) -> str:
    """A time between two others, in its two largest units."""
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        number, seconds = divmod(seconds, length)
        if number:
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2]) or "0s"


def clock(seconds: int) -> str:
    """A time of day, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S")


def _short(value: JsonValue, limit: int = 60) -> str:
    if isinstance(value, dict):
        value = ", ".join(f"{name}: {_short(item, limit)}" for name, item in value.items())
        return "{" + (value if len(value) <= 2 * limit else value[: 2 * limit - 3] + "...") + "}"
    text = "none" if value is None else _harmless(str(value))
    return text if len(text) <= limit else text[: limit - 3] + "..."
