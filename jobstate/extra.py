"""What a missing extra says. Knows nothing of the library."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def needs_extra(extra: str) -> Generator[None]:
    """Around an import of a third party: an ImportError names the extra of jobstate that brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        words = f"{error.name} is not installed: pip install 'jobstate[{extra}]'"
        raise ModuleNotFoundError(words, name=error.name, path=error.path) from None
