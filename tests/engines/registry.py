"""The engines that every scenario is run on."""

from __future__ import annotations

from tests.engines.database_engine import DatabaseEngine
from tests.engines.engine import Engine
from tests.engines.redis_engines import CeleryEngine, DramatiqEngine, HerokuRQEngine, RemappedCeleryEngine, RQEngine
from tests.engines.task_engines import CloudTasksEngine, ProcrastinateEngine

_ALL: list[type[Engine]] = [
    DatabaseEngine,
    CeleryEngine,
    DramatiqEngine,
    RQEngine,
    ProcrastinateEngine,
    CloudTasksEngine,
]

ENGINES = {engine.name: engine for engine in _ALL}
"""By name."""

_STOPPED_OTHERWISE: list[type[Engine]] = [RemappedCeleryEngine, HerokuRQEngine]

VARIANTS = {engine.name: engine for engine in _STOPPED_OTHERWISE}
"""The same engines, whose workers are stopped in another way."""
