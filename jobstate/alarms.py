"""One thread that calls back at set times, for all: most attempts are over before their first heartbeat is due."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from threading import Condition, Thread
from typing import NamedTuple

_TIDY = 100
"""Cancelled alarms that may lie among the others."""
_LINGER = 5.0
"""Seconds that the thread waits for another alarm before it ends."""


class Alarm:
    """A call that is due at a time, unless it is cancelled."""

    __slots__ = ("call", "cancelled")

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call
        self.cancelled = False


class _Entry(NamedTuple):
    due: float
    order: int
    alarm: Alarm


class Alarms:
    """Calls must be short: one after the other is made, in the order of their times."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        """In a forked process: its parent's threads are not there."""
        self._changed = Condition()
        self._entries: list[_Entry] = []
        self._thread: Thread | None = None
        self._count = 0
        self._dead = 0

    def set(self, seconds: float, call: Callable[[], object]) -> Alarm:
        """Call in so many seconds."""
        alarm = Alarm(call)
        with self._changed:
            self._count += 1
            entry = _Entry(time.monotonic() + seconds, self._count, alarm)
            heappush(self._entries, entry)
            if self._thread is None:
                self._thread = Thread(target=self._work, name="alarms", daemon=True)
                self._thread.start()
            elif self._entries[0] is entry:
                self._changed.notify_all()
        return alarm

    def cancel(self, alarm: Alarm) -> None:
        """Do not call; a call that is being made is made."""
        with self._changed:
            alarm.cancelled = True
            self._dead += 1
            if self._dead > _TIDY and self._dead * 2 > len(self._entries):
                self._entries = [entry for entry in self._entries if not entry.alarm.cancelled]
                heapify(self._entries)
                self._dead = 0

    def _work(self) -> None:
        while (alarm := self._next()) is not None:
            alarm.call()

    def _next(self) -> Alarm | None:
        with self._changed:
            idle = False
            while True:
                self._drop_cancelled()
                pause = self._entries[0].due - time.monotonic() if self._entries else _LINGER
                if pause <= 0:
                    return heappop(self._entries).alarm
                if idle and not self._entries:
                    self._thread = None
                    return None
                idle = not self._changed.wait(pause) and not self._entries

    def _drop_cancelled(self) -> None:
        while self._entries and self._entries[0].alarm.cancelled:
            _ = heappop(self._entries)


ALARMS = Alarms()
"""Of this process."""

os.register_at_fork(after_in_child=ALARMS._forget)
