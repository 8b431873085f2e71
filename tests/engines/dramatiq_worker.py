"""The module that Dramatiq's command line imports in its worker process."""

from __future__ import annotations

import json
import os
from typing import Any

from dramatiq.brokers.redis import RedisBroker

from jobstate.adapters.dramatiq import DramatiqDispatcher
from tests.engines.handler import handler_of
from tests.engines.place import Place
from tests.engines.redis_engines import client_of

place = Place(*json.loads(os.environ["PLACE"]))
broker: Any = RedisBroker(client=client_of(place.broker))
dispatcher = DramatiqDispatcher(broker)
dispatcher.register(place.jobs(dispatcher), handler_of(place), grace=0.5)
