"""Parts of a request that stand in the artifact store: cut out when a job is created, put back when its request is asked for.

Pure functions. A part is a data URL (RFC 2397), any string in the request that begins with `data:` and has a comma. Its text is
kept as it came, byte for byte, and never read: odd base64, parameters and case all come back.

The name of a part is a hash of its place, and a reference, itself a short data URL, stands there in the stored request. A
reference counts only at its own place, and only if the job has a part of this name under the key that `part_prefix` begins,
which no caller can choose. So whatever a request holds, nothing in it is taken for a reference that is none.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from copy import copy
from hashlib import blake2b
from typing import Any, NamedTuple, TypeGuard, cast

from jobstate.model import AnyJob, Artifact
from jobstate.payload import encode

Place = tuple[str | int, ...]
"""Where a string stands in a request: keys and indexes, from the outside in."""

REFERENCE = "data:application/vnd.jobstate.part,"
"""What a reference begins with; the name of the part follows."""

_DATA_URL = re.compile(r"data:[^,]*,", re.IGNORECASE)


class Cut(NamedTuple):
    """A request without its parts, and these by name."""

    request: Any
    parts: dict[str, bytes]


def part_prefix(job_id: str) -> str:
    """What the keys of parts begin with; those of artifacts that a caller gave do not."""
    return f"{job_id}/parts/"


def part_name(place: Place) -> str:
    """The name of the part that stands here."""
    return "part-" + blake2b(encode(list(place)).encode(), digest_size=16).hexdigest()


def cut(request: Any, limit: int | None) -> Cut:
    """The request without the data URLs of more than `limit` bytes, and these; with None all of it, untouched.

    Nothing in the request that is given changes; what is not on the way to a part is shared with it.
    """
    parts: dict[str, bytes] = {}
    if limit is None:
        return Cut(request, parts)
    whole = request
    for place, text in _data_urls(whole):
        data = text.encode()
        if len(data) > limit:
            name = part_name(place)
            parts[name] = data
            request = _with(request, place, REFERENCE + name)
    return Cut(request, parts)


def parts_in(request: Any, names: Container[str]) -> Iterator[tuple[str, bytes]]:
    """The parts of these names as a whole request has them: name and bytes."""
    for place, text in _data_urls(request):
        name = part_name(place)
        if name in names:
            yield name, text.encode()


def put_back(request: Any, parts: Mapping[str, bytes]) -> Any:
    """The stored request with these parts at their places again; references to others stay."""
    stored = request
    for place, text in _data_urls(stored):
        name = text.removeprefix(REFERENCE)
        if name in parts and text != name and name == part_name(place):
            request = _with(request, place, parts[name].decode())
    return request


def parts_of(job: AnyJob) -> dict[str, Artifact]:
    """The job's parts by name; none for most."""
    prefix = part_prefix(job.id)
    return {part.name: part for part in job.request_artifacts or () if part.key.startswith(prefix)}


def _data_urls(request: Any) -> Iterator[tuple[Place, str]]:
    """All data URLs in a request, each with its place."""
    waiting: list[tuple[Place, Any]] = [((), request)]
    while waiting:
        at, holder = waiting.pop()
        for step, value in _items(holder):
            if isinstance(value, (dict, list)):
                waiting.append(((*at, step), cast("Any", value)))
            elif _is_data_url(value):
                yield (*at, step), value


def _items(holder: Any) -> Iterable[tuple[str | int, Any]]:
    """What stands in an object or array, each with its key or index."""
    return cast("dict[str, Any]", holder).items() if isinstance(holder, dict) else enumerate(cast("list[Any]", holder))


def _is_data_url(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _DATA_URL.match(value) is not None


def _with(request: Any, place: Place, text: str) -> Any:
    """A request that differs at one place; what is on the way there is copied, the rest is shared."""
    holder = changed = copy(request)
    for step in place[:-1]:
        holder[step] = copy(holder[step])
        holder = holder[step]
    holder[place[-1]] = text
    return changed
