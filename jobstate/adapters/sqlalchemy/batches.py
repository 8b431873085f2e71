"""Many transitions as columns, for one statement that carries them all: quicker than a `Write` for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobstate.adapters.sqlalchemy.codec import AS_IT_STANDS, Row, compact, payloads_of, row_of
from jobstate.lifecycle import Accepted
from jobstate.model import PAYLOADS

Columns = dict[str, Sequence[Any]]
"""By the names of parameters, as in `Write.values`: a value for each row."""

_ENUMS = ("event", "source", "target")
_AS_DECIDED = ("at", "attempt", "operation", "actor", "reason")


def divided(transitions: Sequence[Accepted]) -> list[list[Accepted]]:
    """Those together that have one shape."""
    shapes: dict[object, list[Accepted]] = {}
    for one in transitions:
        changes = one.changes
        absent = () if PAYLOADS.isdisjoint(changes) else [changes.get(name) is None for name in PAYLOADS]
        shapes.setdefault((one.event, *changes, *absent), []).append(one)
    return list(shapes.values())


SHARING = 100
"""A batch of fewer transitions has one statement for its shape, whatever its rows share: else each mixture had its own."""


def columns_of(batch: Sequence[Accepted], *, recorded: bool, sharing: bool) -> tuple[Row, Columns]:
    """Transitions of one shape as columns, `at_id` one of them; with `sharing`, what all rows share stands apart, once."""
    fields: Columns = dict(zip(Accepted._fields, zip(*batch, strict=True), strict=True))
    columns = _written(fields["changes"])
    if recorded:
        columns |= _records(fields, _texts(batch, columns))
    columns |= _payloads(fields["changes"])
    columns["at_version"] = fields["version"]
    shared = {name: values[0] for name, values in columns.items() if sharing and values.count(values[0]) == len(values)}
    return shared, {"at_id": fields["job_id"], **{name: columns[name] for name in columns if name not in shared}}


def _written(changes: Sequence[Mapping[str, Any]]) -> Columns:
    """The columns of the jobs table."""
    columns: Columns = {}
    for name in changes[0]:
        values = [one[name] for one in changes]
        if name in AS_IT_STANDS:
            columns[name] = values
        elif name not in PAYLOADS:
            rows = [row_of({name: value}) for value in values]
            columns |= {column: [row[column] for row in rows] for column in rows[0]}
    return columns


def _payloads(changes: Sequence[Mapping[str, Any]]) -> Columns:
    """The payloads that are put, as text."""
    put = [name for name in PAYLOADS if changes[0].get(name) is not None]
    return {f"payload_{name}": [payloads_of({name: one[name]})[name] for one in changes] for name in put}


def _records(fields: Columns, texts: Sequence[str]) -> Columns:
    """The columns of the history; a record's id and version are the row's."""
    columns: Columns = {f"record_{name}": list(map(str, fields[name])) for name in _ENUMS}
    return columns | {f"record_{name}": fields[name] for name in _AS_DECIDED} | {"record_changes": texts}


def _texts(batch: Sequence[Accepted], columns: Columns) -> list[str]:
    """What was changed, as JSON text: made once for those that write the same."""
    known: dict[tuple[Any, ...], str] = {}
    texts: list[str] = []
    for one, row in zip(batch, zip(*columns.values(), strict=True), strict=True):
        text = known.get(row)
        if text is None:
            fields = one.record_fields or {}
            text = known[row] = compact(fields["changes"])
        texts.append(text)
    return texts
