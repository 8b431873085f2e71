"""The engines that every scenario is run on."""

from __future__ import annotations

from tests.engines.engine import Engine
from tests.engines.redis_engines import CeleryEngine, DramatiqEngine, HerokuRQEngine, RemappedCeleryEngine, RQEngine
from tests.engines.task_engines import CloudTasksEngine, ProcrastinateEngine

ENGINES: dict[str, type[Engine]] = {
    engine.name: engine for engine in (CeleryEngine, DramatiqEngine, RQEngine, ProcrastinateEngine, CloudTasksEngine)
}
"""By name."""

VARIANTS: dict[str, type[Engine]] = {engine.name: engine for engine in (RemappedCeleryEngine, HerokuRQEngine)}
"""The same engines, whose workers are stopped in another way."""
