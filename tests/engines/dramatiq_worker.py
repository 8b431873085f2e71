"""The module that Dramatiq's command line imports in its worker process."""

from __future__ import annotations

import json
import os

from jobstate.adapters.dramatiq import DramatiqDispatcher
from tests.engines.handler import handler_of
from tests.engines.place import Place
from tests.engines.redis_engines import broker_of

place = Place(*json.loads(os.environ["PLACE"]))
broker = broker_of(place.broker)
dispatcher = DramatiqDispatcher(broker)
dispatcher.register(place.jobs(dispatcher), handler_of(place), grace=0.5)
