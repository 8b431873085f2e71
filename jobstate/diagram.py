"""The table as Markdown and as a Mermaid diagram, made from the table itself. `python -m jobstate.diagram` prints the page."""

from __future__ import annotations

from collections import defaultdict

from jobstate.lifecycle import FINGERPRINT, RETRY_KEEPS, RETRY_RESETS, RETRY_SETS, TABLE
from jobstate.lifecycle.machine import Row
from jobstate.model import Event, JobStatus

CREATED = (JobStatus.VALIDATING, JobStatus.QUEUED)
"""The statuses that a job can be created in."""


def markdown_table() -> str:
    """Every row: event, sources, target, guards, fields written, and what it means. Rows that differ in source only are one."""
    lines = ["| event | from | to | guards | writes | meaning |", "|---|---|---|---|---|---|"]
    for rows in _merged():
        first = rows[0]
        sources = ", ".join(row.source for row in rows)
        target = "the same" if all(row.source is row.target for row in rows) else str(first.target)
        guards = "; ".join(_words(guard.__doc__) for guard in first.guards)
        writes = "the reset list" if first.event is Event.RETRY else ", ".join(f"`{name}`" for name in first.writes)
        lines.append(f"| {first.event} | {sources} | {target} | {guards} | {writes} | {first.doc} |")
    return "\n".join(lines)


def _merged() -> list[list[Row]]:
    groups: dict[object, list[Row]] = defaultdict(list)
    for rows in TABLE.values():
        for row in rows:
            target = None if row.source is row.target else row.target
            groups[row.event, target, row.guards, row.doc].append(row)
    order = list(Event)
    return sorted(groups.values(), key=lambda rows: order.index(rows[0].event))


def _words(doc: str | None) -> str:
    return (doc or "").strip().splitlines()[0].rstrip(".")


def arrows() -> dict[tuple[JobStatus, JobStatus], list[Event]]:
    """The events between each two statuses; those that leave the status as it is are left out."""
    found: dict[tuple[JobStatus, JobStatus], list[Event]] = defaultdict(list)
    for (event, source), rows in TABLE.items():
        for row in rows:
            if row.target is not source:
                found[source, row.target].append(event)
    return dict(found)


def mermaid() -> str:
    """The transitions between statuses, one arrow for each pair."""
    lines = ["stateDiagram-v2", *(f"    [*] --> {status}: create" for status in CREATED)]
    for (source, target), events in arrows().items():
        lines.append(f"    {source} --> {target}: {', '.join(events)}")
    return "\n".join(lines)


def page() -> str:
    """The documentation page of the table."""
    resets = ", ".join(f"`{name}` = {_literal(value)}" for name, value in RETRY_RESETS.items())
    sets = ", ".join(f"`{name}`" for name in RETRY_SETS)
    keeps = ", ".join(f"`{name}`" for name in sorted(RETRY_KEEPS))
    return f"""# The lifecycle

Made from the table by `python -m jobstate.diagram`; a test fails when this page is not fresh. Fingerprint of the table:
`{FINGERPRINT}`.

![The statuses of a job, and the events that lead from one to another](lifecycle.svg)

An arrow from a frame begins at each status in it. `jobstate graph --format svg` prints the picture, `jobstate graph` the same
in Mermaid's words, with an arrow for each two statuses.

## The table

Each accepted event also writes `status`, `version`, `operation` and `updated_at`.

{markdown_table()}

## The reset list of a retry

One list for every kind of retry.

- Reset: {resets}.
- Computed: {sets}.
- Kept: {keeps}.
"""


def _literal(value: object) -> str:
    return "none" if value is None else str(value).lower()


if __name__ == "__main__":
    print(page(), end="")
