"""The engines that every scenario is run on."""

from __future__ import annotations

from tests.engines.engine import Engine

ENGINES: dict[str, type[Engine]] = {}
"""By name."""
