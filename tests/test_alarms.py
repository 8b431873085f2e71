"""Alarms: one thread calls for all, at their times; cancelled ones are neither called nor kept."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import timedelta
from threading import Event
from threading import enumerate as all_threads

import pytest

from jobstate import Context, Delivery, Jobs, Policy, run_job
from jobstate.alarms import Alarms
from jobstate.memory import MemoryRepository

SOON = 30.0


def test_calls_come_in_the_order_of_their_times() -> None:
    alarms = Alarms()
    called: list[str] = []
    last = Event()
    with alarms._changed:  # nobody is called before all are set
        alarms.set(0.6, last.set)
        alarms.set(0.4, lambda: called.append("second"))
        alarms.set(0.2, lambda: called.append("first"))
    assert last.wait(SOON)
    assert called == ["first", "second"]


def test_one_that_is_due_earlier_is_not_held_up_by_one_that_is_due_later() -> None:
    alarms = Alarms()
    early = Event()
    late = alarms.set(3600, lambda: None)
    alarms.set(0.01, early.set)
    assert early.wait(SOON)
    alarms.cancel(late)


def test_a_cancelled_one_is_not_called() -> None:
    alarms = Alarms()
    called: list[str] = []
    after = Event()
    cancelled = alarms.set(0.02, lambda: called.append("cancelled"))
    alarms.cancel(cancelled)
    alarms.set(0.04, after.set)
    assert after.wait(SOON)
    assert called == []


def test_cancelled_ones_are_not_kept() -> None:
    alarms = Alarms()
    live = [alarms.set(3600, lambda: None) for _ in range(10)]
    for _ in range(10_000):
        alarms.cancel(alarms.set(3600, lambda: None))
    assert len(alarms._entries) < 250
    assert sum(not entry.alarm.cancelled for entry in alarms._entries) == len(live)


def test_the_thread_ends_when_nothing_is_left_and_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobstate.alarms._LINGER", 0.01)
    alarms = Alarms()
    for _ in range(2):
        called = Event()
        alarms.set(0, called.set)
        assert called.wait(SOON)
        thread = alarms._thread
        if thread is not None:
            thread.join(SOON)
        assert alarms._thread is None


def test_a_forked_process_has_alarms_of_its_own() -> None:
    """Its parent's thread is not there."""
    code = "import os, sys\nfrom threading import Event\nfrom jobstate.alarms import ALARMS\n"
    code += "ALARMS.set(3600, print)\npid = os.fork()\n"
    code += "if pid == 0:\n    rang = Event()\n    ALARMS.set(0.01, rang.set)\n    os._exit(0 if rang.wait(30) else 1)\n"
    code += "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_short_attempt_has_no_thread_of_its_own_and_a_long_one_is_kept_alive() -> None:
    jobs = Jobs(MemoryRepository(), policy=Policy(lease=timedelta(seconds=1)))
    names: list[str] = []

    def handler(request: dict[str, bool], context: Context) -> None:
        end = time.monotonic() + SOON
        version = context.job.version
        while request["long"] and context.job.version < version + 2:
            assert time.monotonic() < end
            time.sleep(0.01)
        names.extend(thread.name for thread in all_threads())

    for long in (False, True):
        job = jobs.create("/x", {"long": long}, organization_id="org")
        run_job(jobs, Delivery(job_id=job.id, run=1), handler)
        assert any(name == f"heartbeat-{job.id}" for name in names) is long
        assert jobs.retrieve(job.id).status == "completed"
