"""Oban among the peers, where its Python allows: it needs 3.12, and is left out where it is not installed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg

from benchmarks.peers import AT_ONCE, JOBS, PAYLOAD, _InLoop


class Oban(_InLoop):
    """One instance that only enqueues, and for each round one that works on the queue."""

    name = "oban"
    finished = "SELECT count(*) FROM oban_jobs WHERE state = 'completed'"

    async def opened(self) -> None:
        import oban
        from oban.schema import install

        self.pool = await oban.Oban.create_pool(self.dsn, max_size=AT_ONCE + 2)
        await install(self.pool)
        self.enqueuing = await oban.Oban(pool=self.pool).start()

        @oban.worker(queue="words")
        class Words:
            async def process(self, job: Any) -> None:
                len(job.args["text"])

        self.words: Any = Words

    async def closed(self) -> None:
        await self.enqueuing.stop()
        await self.pool.close()

    def empty(self) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("TRUNCATE oban_jobs")

    def enqueue(self) -> None:
        async def all_of_them() -> None:
            for _ in range(JOBS):
                await self.enqueuing.enqueue(self.words.new(PAYLOAD))

        self.run(all_of_them())

    def start(self) -> Callable[[], None]:
        from oban import Oban

        async def started() -> Any:
            return await Oban(pool=self.pool, name="working", queues={"words": AT_ONCE}).start()

        working = asyncio.run_coroutine_threadsafe(started(), self.loop).result()
        return lambda: self.run(working.stop())
