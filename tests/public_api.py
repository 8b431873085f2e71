"""The public API as text, with its signatures: `python -m tests.public_api` writes it anew, and a diff shows what changes.

Of each public module: the names of its `__all__`, else those that are defined in it without an underscore. Of a class: what it
and its bases in this library define.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "public_api.txt"

MODULES = """
jobstate jobstate.ports jobstate.memory jobstate.inprocess jobstate.lifecycle jobstate.policy jobstate.query jobstate.effects
jobstate.adapters.sqlalchemy jobstate.adapters.sqlalchemy.schema jobstate.adapters.filesystem jobstate.adapters.fsspec
jobstate.adapters.fastapi jobstate.adapters.fastapi.cloud_tasks jobstate.adapters.celery jobstate.adapters.dramatiq
jobstate.adapters.rq jobstate.adapters.procrastinate jobstate.adapters.cloud_tasks jobstate.observe jobstate.maintenance
jobstate.testing jobstate.testing.contracts jobstate.testing.explorer jobstate.testing.stateful
""".split()
"""What others may import; everything else may change in any release."""

OPTIONS = {"jobstate.face": ("Creation", "Filter"), "jobstate.loop": ("Working",)}
"""The options that public functions take by name."""


def text() -> str:
    """All of it."""
    return "\n".join(line for name in (*MODULES, *OPTIONS) for line in _module(name))


def _module(name: str) -> Iterator[str]:
    module = import_module(name)
    here = [key for key, value in vars(module).items() if key[0] != "_" and getattr(value, "__module__", None) == name]
    names: Iterable[str] = OPTIONS.get(name) or getattr(module, "__all__", None) or here
    yield f"# {name}"
    for key in sorted(names, key=str.lower):
        yield from _value(key, getattr(module, key))
    yield ""


def _value(name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        yield f"class {name}({', '.join(base.__name__ for base in value.__bases__ if base is not object)})"
        yield from sorted(set(_members(value)))
    elif inspect.isfunction(value):
        yield f"{_colour(value)}{name}{_signature(value)}"
    else:
        yield f"{name}: {type(value).__name__}"


def _members(cls: Any) -> Iterator[str]:
    if issubclass(cls, Enum):
        yield from (f"    {member.name} = {member.value!r}" for member in cls)
        return
    bases: tuple[type[Any], ...] = cls.__mro__
    for base in bases:
        if not base.__module__.startswith("jobstate"):
            continue
        for name, kind in inspect.get_annotations(base).items():
            if name[0] != "_":
                yield f"    {name}: {getattr(kind, '__forward_arg__', kind)}{' = ...' if _has_default(base, name) else ''}"
        defined: dict[str, Any] = dict(vars(base))
        for name, value in defined.items():
            if name[0] != "_" or name == "__init__":
                yield from _member(cls, name, value)


def _member(cls: Any, name: str, value: Any) -> Iterator[str]:
    function: Any = getattr(value, "__func__", value)  # of a class method
    if isinstance(value, property):
        yield f"    {name}: property"
    elif inspect.isfunction(function) and function.__module__.startswith("jobstate"):
        found = getattr(cls, name)
        if getattr(found, "__qualname__", "") == function.__qualname__:  # else it is overridden nearer to the class
            yield f"    {_colour(function)}{name}{_signature(function)}"


def _has_default(cls: Any, name: str) -> bool:
    if hasattr(cls, "_field_defaults"):  # a NamedTuple
        return name in cls._field_defaults
    field = getattr(cls, "__pydantic_fields__", {}).get(name)
    return name in vars(cls) if field is None else not field.is_required()


def _colour(function: Any) -> str:
    return "async def " if inspect.iscoroutinefunction(function) else "def "


def _signature(function: Any) -> str:
    """Defaults that are values of the library are shown without their insides, which may hold addresses."""
    signature = inspect.signature(function)
    parameters = [
        one.replace(default=...) if not isinstance(one.default, (str, int, float, bool, type(None), tuple, type)) else one
        for one in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters)).replace("'", "").replace("Ellipsis", "...")


if __name__ == "__main__":
    FILE.write_text(text())
