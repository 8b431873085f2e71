"""The pages of the reference that are made from the code. `python -m tests.pages` writes them."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from types import UnionType
from typing import Any, Literal, cast, get_args, get_origin

from pydantic import BaseModel

from jobstate import ports
from jobstate.adapters.fastapi import wire
from jobstate.loop import Working
from jobstate.policy import Policy

DOCS = Path(__file__).parents[2] / "docs"
_MADE = "Made from the code by `python -m tests.pages`; a test fails when this page is not fresh."

_PORTS: tuple[type[Any], ...] = (
    ports.Repository,
    ports.Dispatcher,
    ports.ArtifactStore,
    ports.Clock,
    ports.SharedSweeps,
    ports.HostTransactions,
    ports.Notices,
)

_MODELS: tuple[type[BaseModel], ...] = (
    wire.JobObject,
    wire.StatusObject,
    wire.ResponseObject,
    wire.ProblemObject,
    wire.JobList,
    wire.ErrorBody,
    wire.ErrorDetail,
)


def _table(head: str, rows: Sequence[tuple[str, ...]]) -> str:
    names = head.split("|")
    lines = [head, "|".join("---" for _ in names), *("|".join(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join(f"|{line}|" for line in lines)


def _sections(parts: Iterable[str]) -> str:
    return "\n\n".join(parts)


def _words(text: str | None) -> str:
    return " ".join((text or "").split())


def _said_below(cls: type[Any]) -> dict[str, str]:
    """The strings that stand below the fields of a class."""
    body = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(body, ast.ClassDef)
    said: dict[str, str] = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            said[ast.unparse(field.target)] = _words(str(text.value.value))
    return said


def _setting(value: object) -> str:
    """A default as a person writes it."""
    if not isinstance(value, timedelta):
        return f"`{value}`"
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if value and value % timedelta(seconds=length) == timedelta(0):
            return f"`timedelta({unit}={value // timedelta(seconds=length)})`"
    return f"`timedelta(seconds={value // timedelta(seconds=1)})`"


def configuration() -> str:
    """docs/configuration.md."""
    said = _said_below(Policy)
    rows = [
        (f" `{name}` ", f" {_setting(field.get_default(call_default_factory=True))} ", f" {said[name]} ")
        for name, field in Policy.model_fields.items()
    ]
    return f"""# Configuration

{_MADE}

There is no file and no global setting: a service gives a `Policy` to `Jobs`, and options to a worker.

## Policy

{_words(inspect.getdoc(Policy))} How to choose: [retry policy](retry-policy.md), [run in production](run-in-production.md).

{_table(" field | default | what it is ", rows)}

A field that does not exist, or a value out of its limits, is refused when the policy is made. `create` takes a `ttl` and a
`max_attempts` of the job's own.

## Worker

{_words(inspect.getdoc(Working))}

`Worker`, `AsyncWorker`, `work` and `async_work` take these; how they are used is in [database-queue.md](database-queue.md).
"""


def _port(port: type[Any]) -> str:
    doc = inspect.getdoc(port) or ""
    before, *clauses = re.split(r"^(?=[A-Z]\d\d )", doc, flags=re.MULTILINE)
    *clauses, last = clauses
    last, _, after = last.partition("\n\n")
    lines = [f"## {port.__name__}", before.strip()]
    lines.append("\n".join(f"- **{clause[:3]}** {_words(clause[4:])}" for clause in (*clauses, last)))
    return "\n\n".join(line for line in (*lines, after.strip()) if line)


def clauses() -> str:
    """docs/clauses.md."""
    return f"""# The clauses of the ports

{_MADE}

What a host brings keeps these promises, and the library rests on no other. Those of `Repository`, `Dispatcher`,
`ArtifactStore`, `SharedSweeps` and `Notices` are each proved by a case of the same number in `jobstate.testing.contracts`:
[write a repository](write-a-repository.md), [write a dispatcher](write-a-dispatcher.md). The `Async` twins have the same
clauses.

{_sections(_port(port) for port in _PORTS)}
"""


_NAMES = {
    "str": "string",
    "int": "integer",
    "bool": "boolean",
    "JobStatus": "status",
    "JsonValue": "any JSON",
    "NoneType": "null",
}


def _type(annotation: Any) -> str:
    """A type as it is on the wire."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.__name__
    match get_origin(annotation), get_args(annotation):
        case (kind, parts) if kind is Literal:
            return f'`"{parts[0]}"`'
        case (kind, parts) if kind is UnionType:
            return " or ".join(_type(part) for part in parts)
        case (kind, (part,)) if kind is list:
            return f"list of {_type(part)}"
        case (kind, _) if kind is dict:
            return "object"
        case _:
            return _NAMES[cast(Any, annotation).__name__]


def _object(model: type[BaseModel]) -> str:
    fields = model.model_fields.items()
    rows = [(f" `{name}` ", f" {_type(field.annotation)} ", f" {field.description or ''} ") for name, field in fields]
    return f"## {model.__name__}\n\n{_words(inspect.getdoc(model))}\n\n{_table(' field | type | notes ', rows)}"


def wire_format() -> str:
    """docs/wire-format.md."""
    return f"""# The job on the wire

{_MADE}

What `jobs_router` answers, as JSON; the calls, their status codes and headers are in [http.md](http.md), and an application
that mounts it shows all of this in its OpenAPI document. Times are whole Unix seconds in UTC; what has no value is `null`, and
no field is left out. A status is one of those in [lifecycle.md](lifecycle.md).

{_sections(_object(model) for model in _MODELS)}
"""


PAGES: dict[str, Callable[[], str]] = {
    "clauses.md": clauses,
    "configuration.md": configuration,
    "wire-format.md": wire_format,
}
