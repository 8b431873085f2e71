"""`python -m tests.engines PLACE`: a worker process of the engine that the place names."""

from __future__ import annotations

import json
import sys

from tests.engines.handler import handler_of
from tests.engines.place import Place
from tests.engines.registry import ENGINES, VARIANTS

if __name__ == "__main__":
    here = Place(*json.loads(sys.argv[1]))
    {**ENGINES, **VARIANTS}[here.engine].work(here, handler_of(here))
