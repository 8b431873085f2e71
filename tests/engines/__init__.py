"""One set of scenarios for every engine, with its real broker, real worker processes, and the jobs on PostgreSQL.

To plug in an engine:

1. Write a subclass of `tests.engines.engine.Engine` in a file of its own here (`redis_engines.py` has examples): its broker's
   start and stop, its dispatcher, and `work`, which is what a worker process does until it is told to stop.
2. Name it in `tests.engines.registry.ENGINES`.

Then `tests/test_engines.py` runs every scenario of `tests.engines.scenarios` on it. The parts: `place` says where everything is
and travels to the worker processes; `handler` is what the jobs do, and logs each start; `__main__` is the worker process.
"""
