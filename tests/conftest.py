from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import WORLDS, World, make_world


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A service with the default policy, once on each kind of store and in each colour."""
    with make_world(request.param, tmp_path) as made:
        yield made
