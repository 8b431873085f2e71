"""Payloads and artifacts as they come in: JSON that comes back as it went in, digests, and keys.

Pure functions. A payload is checked once, here; everything behind trusts it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeGuard, TypeVar, cast

from pydantic import ValidationError
from pydantic_core import from_json

from jobstate.errors import InvalidInputError
from jobstate.model import Artifact, JobError, JobResponse, JobWarning, construct

DEPTH = 200
"""How deep a payload may be nested: what pydantic's JSON parser takes, wherever it is called from."""

DIGITS = 4300
"""How many digits an integer may have: what Python and pydantic's JSON parser read."""

_TOO_LONG = 10**DIGITS

ARTIFACT_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


encode: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
"""Compact JSON text."""


_sorted = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)


def _canonical(value: Any) -> bytes:
    return _sorted.encode(value).encode()


def json_value(field: str, value: Any) -> Any:
    """A copy of a JSON value that shares nothing with it.

    Raises InvalidInputError, naming the place, for what would not come back from a store as it is: other types than JSON's,
    keys that are no strings, NaN and infinities, integers of more than DIGITS digits, halves of surrogate pairs, cycles, depths
    that Python cannot encode, and what raises when it is read.
    """
    try:
        text = encode(value)
        _ = text.encode()
        copy = from_json(text)
        if copy == value:
            return copy
    except RecursionError:
        raise InvalidInputError(field, f"it is nested too deeply: at most {DEPTH} levels") from None
    except Exception as error:  # a host's subclass of dict or list may raise anything
        if "Circular" in str(error):
            raise InvalidInputError(field, "it contains itself: give a tree") from None
        if "recursion" in str(error):
            raise InvalidInputError(field, f"it is nested too deeply: at most {DEPTH} levels") from None
    place, problem = next(_faults(field, value), (field, "it would not come back from JSON as it is"))
    raise InvalidInputError(place, problem)


def _faults(place: str, value: object) -> Iterator[tuple[str, str]]:
    kind = type(value).__name__
    if isinstance(value, dict):
        try:
            items = list(cast("dict[object, object]", value).items())
        except Exception as error:
            yield place, f"{kind} cannot be read ({words_of(error)}): give a dict"
            return
        for key, item in items:
            if not isinstance(key, str):
                yield place, f"key {_shown(key)} is {type(key).__name__}, a JSON object has strings as keys"
            else:
                yield from _faults(place, key) if not _is_unicode(key) else _faults(f"{place}.{key}", item)
    elif isinstance(value, list):
        for index, item in enumerate(cast("list[object]", value)):
            yield from _faults(f"{place}[{index}]", item)
    elif isinstance(value, str):
        if not _is_unicode(value):
            yield place, "it has half of a surrogate pair: give valid Unicode"
    elif isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            yield place, f"{value} is not a JSON number: give a finite one, or null"
    elif isinstance(value, int):
        if abs(value) >= _TOO_LONG:
            yield place, f"it has more than {DIGITS} digits: give a string"
    elif value is not None:
        yield place, f"{kind} is not a JSON type: give an object, array, string, number, boolean or null"


def _is_unicode(text: str) -> bool:
    try:
        _ = text.encode()
    except UnicodeEncodeError:
        return False
    return True


def json_object(field: str, value: object) -> dict[str, Any]:
    """The same for a JSON object."""
    kind = type(value).__name__
    if not isinstance(value, Mapping):
        raise InvalidInputError(field, f"a JSON object (a mapping) is needed, not {kind}")
    try:
        plain = dict(cast("Mapping[str, Any]", value))
    except Exception as error:
        raise InvalidInputError(field, f"{kind} cannot be read ({words_of(error)}): give a dict") from None
    return cast("dict[str, Any]", json_value(field, plain))


def check_artifacts(field: str, artifacts: Mapping[str, bytes] | None) -> dict[str, bytes]:
    """Artifacts by name. Raises InvalidInputError for a name that no key can hold, or a value that is not bytes."""
    if artifacts is None:
        return {}
    if not isinstance(artifacts, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # it comes from outside
        raise InvalidInputError(field, f"a mapping of names to bytes is needed, not {type(artifacts).__name__}")
    checked = dict(artifacts)
    for name, data in cast("dict[object, object]", checked).items():
        if not isinstance(name, str) or not ARTIFACT_NAME.fullmatch(name):
            raise InvalidInputError(
                field, f"name {name!r}: 1 to 128 letters, digits, '_', '-' and '.', not '.' first, are allowed"
            )
        if not isinstance(data, bytes):
            raise InvalidInputError(f"{field}.{name}", f"bytes are needed, not {type(data).__name__}")
    return checked


def artifact_prefix(job_id: str, attempt: int | None = None) -> str:
    """What all keys of a job begin with, or those of one attempt's response."""
    return f"{job_id}/" if attempt is None else f"{job_id}/{attempt}/"


def describe_artifacts(prefix: str, artifacts: Mapping[str, bytes]) -> tuple[Artifact, ...]:
    """References to artifacts under a prefix, in the order of their names."""
    if not artifacts:
        return ()
    return tuple(
        construct(Artifact, name=name, key=prefix + name, size=len(data), digest=sha256(data).hexdigest())
        for name, data in sorted(artifacts.items())
    )


def request_prefix(job_id: str) -> str:
    """What the keys of a request's artifacts begin with."""
    return f"{job_id}/request/"


def request_digest(endpoint: str, request: object, artifacts: Mapping[str, bytes]) -> str:
    """What tells two requests apart under one idempotency key: SHA-256 (hex) of endpoint, request and artifacts."""
    parts = {name: sha256(data).hexdigest() for name, data in artifacts.items()}
    return sha256(_canonical([endpoint, request, parts])).hexdigest()


def result_digest(result: JobResponse[Any] | JobError, artifacts: tuple[Artifact, ...] | None = None) -> str:
    """What tells two results of one attempt apart: SHA-256 (hex) of its kind, its content and its artifacts."""
    parts = [(artifact.name, artifact.digest) for artifact in artifacts or ()]
    kind = "complete" if isinstance(result, JobResponse) else "fail"
    content = [result.status_code, result.body] if isinstance(result, JobResponse) else result.model_dump(mode="json")
    return sha256(_canonical([kind, content, parts])).hexdigest()


T = TypeVar("T")

_KINDS: dict[type, str] = {bool: "boolean", str: "string"}


def instance(field: str, value: object, kind: type[T]) -> T:
    """The value, if it is of this kind. Raises InvalidInputError."""
    if not isinstance(value, kind):
        raise InvalidInputError(field, f"a {_KINDS.get(kind, kind.__name__)} is needed, not {type(value).__name__}")
    return value


def is_storable_name(value: object) -> TypeGuard[str]:
    """Whether a name that came from outside can be stored: 1 to 1024 characters of Unicode without NUL."""
    return isinstance(value, str) and 0 < len(value) <= 1024 and "\0" not in value and _is_unicode(value)


def words_of(error: BaseException) -> str:
    """What an exception says, as text that can be stored, at most 10,000 characters of it; its type when it says nothing."""
    try:
        words = str(error)
    except BaseException:  # whatever it is, it is no reason to lose the attempt
        words = ""
    return _escaped(words or type(error).__name__)[:10_000]


def _escaped(words: str) -> str:
    """Words that came from anywhere, such as the name of a file, as valid Unicode."""
    return words.encode(errors="backslashreplace").decode()


E = TypeVar("E", JobError, JobWarning)


def said(kind: type[E], code: str, message: str, details: dict[str, Any] | None) -> E:
    """An error or warning in a handler's words, escaped as those of `words_of`; of details that are not JSON, what is wrong.

    Raises InvalidInputError for another code or message than can be stored.
    """
    words = _escaped(message) if isinstance(message, str) else message  # pyright: ignore[reportUnnecessaryIsInstance]
    try:
        return kind(code=code, message=words, details=details)
    except ValidationError as error:
        fault = invalid_input(error)
        if not fault.field.startswith("details"):
            raise fault from None
    return kind(code=code, message=words, details={"invalid_details": words_of(fault)})


def rebuilt(field: str, value: E, kind: type[E]) -> E:
    """An error or warning from outside, checked once more, with the three fields that are stored and no others."""
    given = instance(field, value, kind)
    try:
        return kind(code=given.code, message=given.message, details=given.details)
    except ValidationError as error:
        raise invalid_input(error, field) from None


def invalid_input(error: ValidationError, prefix: str = "") -> InvalidInputError:
    """The first fault of a validation as the library's own error: field, problem, limit."""
    fault = error.errors(include_url=False)[0]
    place = [str(part) for part in fault["loc"]]
    return fault_of(fault, [prefix, *place] if prefix else place)


def fault_of(fault: Mapping[str, Any], place: Sequence[str]) -> InvalidInputError:
    """One fault that pydantic found, as the library's own error, with the path to its place."""
    field, words = ".".join(place) or "value", fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "missing":
        return InvalidInputError(field, words)
    return InvalidInputError(field, f"{words} (got {_shown(fault['input'])})")


def _shown(value: object) -> str:
    """A value in at most 80 characters; its type when it cannot be shown."""
    try:
        given = repr(value)
    except Exception:
        given = type(value).__name__
    return given if len(given) <= 80 else given[:77] + "..."
