"""Every status, event and circumstance, with its answer written by hand from the design; decision and `transitions` agree."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import product
from random import Random
from typing import Any, Final

import pytest
from transitions import MachineError

from jobstate import (
    Event,
    GuardRefusedError,
    IllegalTransitionError,
    Job,
    JobError,
    JobResponse,
    JobStatus,
    LeaseLostError,
    Policy,
    decide,
)
from jobstate.lifecycle import MACHINE, Accepted, Already, Facts, Refused
from jobstate.model import Lease, evolve
from tests.support import NOW, a_job

POLICY = Policy(
    lease=timedelta(seconds=300),
    clock_skew=timedelta(seconds=10),
    max_give_backs=2,
    resend_window=timedelta(seconds=60),
    cleanup_after=timedelta(days=1),
)
AT = NOW + 1_000_000
"""When all is decided. A circumstance says what lies where, seen from here."""

AXES: Final[dict[str, tuple[str, ...]]] = {
    "accepted": ("once", "never"),
    "run": ("current", "over", "ahead"),
    "dispatched": ("no", "yes"),
    "available": ("none", "reached", "early"),
    "expiry": ("ahead", "reached", "almost_a_day_ago", "a_day_ago"),
    "attempts": ("left", "none"),
    "give_backs": ("left", "none"),
    "lease": ("live", "margin", "run_out", "endless", "none"),
    "token": ("own", "other"),
    "digest": ("none", "equal", "other"),
    "retried": ("never", "without_key", "with_key"),
    "key": ("none", "last", "former", "new"),
    "delayed": ("none", "recent", "limit", "old"),
    "cleanup": ("no", "begun", "grace_over", "ended"),
    "clock": ("right", "stepped_back"),
}
"""The circumstances. The first value of each stands for an axis that an event does not ask about."""

_FENCED = "token lease digest attempts give_backs expiry clock"
ASKS: Final[dict[Event, str]] = {
    Event.ACCEPT: "accepted lease expiry clock",
    Event.REJECT: "accepted lease expiry clock",
    Event.DISPATCHED: "run dispatched delayed available expiry attempts clock",
    Event.DELAYED: "run dispatched delayed available expiry attempts clock",
    Event.START: "run available expiry attempts token lease digest clock",
    Event.HEARTBEAT: _FENCED,
    Event.COMPLETE: _FENCED,
    Event.FAIL: _FENCED,
    Event.RELEASE: _FENCED,
    Event.GIVE_BACK: _FENCED,
    Event.RESCUE: "token lease digest attempts give_backs expiry clock",
    Event.CANCEL: "accepted lease digest attempts expiry clock",
    Event.RETRY: "accepted retried key delayed cleanup expiry attempts clock",
    Event.EXPIRE: "accepted lease attempts available cleanup expiry clock",
    Event.BEGIN_CLEANUP: "accepted lease cleanup expiry clock",
    Event.END_CLEANUP: "accepted lease cleanup expiry clock",
}
"""Which axes are multiplied out in full for an event, in every status."""

MATRIX: Final = """
accept      validating                                          -> queued
            queued in_progress completed failed cancelled expired -> illegal_transition

reject      validating                                          -> failed
            queued in_progress completed failed cancelled expired -> illegal_transition

dispatched  queued in_progress    | run=over                    -> run_over
            queued in_progress    | run=ahead                   -> run_not_reached
            queued                                              -> queued
            in_progress                                         -> in_progress
            validating completed failed cancelled expired       -> illegal_transition

delayed     queued                | run=over                    -> run_over
            queued                | run=ahead                   -> run_not_reached
            queued                | dispatched=yes              -> already_dispatched
            queued                                              -> queued
            validating in_progress completed failed cancelled expired -> illegal_transition

start       queued                | run=over                    -> run_over
            queued                | run=ahead                   -> run_not_reached
            queued                | available=early             -> not_available
            queued                | expiry=reached,almost_a_day_ago,a_day_ago -> expired
            queued                | attempts=none               -> no_attempts_left
            queued                                              -> in_progress
            in_progress           | token=own                   -> already
            in_progress                                         -> already_started
            validating completed failed cancelled expired       -> illegal_transition

heartbeat   in_progress           | token=other                 -> lease_lost
            in_progress                                         -> in_progress
            completed failed expired | token=own digest=equal,other -> already
            validating queued completed failed cancelled expired -> lease_lost

complete    in_progress           | token=other                 -> lease_lost
            in_progress                                         -> completed
            completed failed expired | token=own digest=equal   -> already
            completed failed expired | token=own digest=other   -> already_finished
            validating queued completed failed cancelled expired -> lease_lost

fail        in_progress           | token=other                 -> lease_lost
            in_progress                                         -> failed
            completed failed expired | token=own digest=equal   -> already
            completed failed expired | token=own digest=other   -> already_finished
            validating queued completed failed cancelled expired -> lease_lost

release     in_progress           | token=other                 -> lease_lost
            in_progress           | attempts=none               -> no_attempts_left
            in_progress                                         -> queued
            completed failed expired | token=own digest=equal,other -> already_finished
            validating queued completed failed cancelled expired -> lease_lost

give_back   in_progress           | token=other                 -> lease_lost
            in_progress           | give_backs=none             -> no_give_backs_left
            in_progress                                         -> queued
            completed failed expired | token=own digest=equal,other -> already_finished
            validating queued completed failed cancelled expired -> lease_lost

rescue      in_progress           | lease=endless               -> lease_without_end
            in_progress           | lease=live,margin           -> lease_live
            in_progress           | attempts=none               -> failed
            in_progress                                         -> queued
            validating queued completed failed cancelled expired -> illegal_transition

cancel      validating queued in_progress                       -> cancelled
            cancelled                                           -> already_cancelled
            completed failed expired                            -> illegal_transition

retry       queued in_progress completed failed cancelled expired | key=last,former -> already
            queued in_progress    | key=none retried=without_key,with_key -> already
            completed failed cancelled | key=none retried=without_key,with_key delayed=recent,limit -> already
            validating queued in_progress completed             -> illegal_transition
            failed cancelled expired | accepted=never           -> never_accepted
            expired               | cleanup=begun,grace_over,ended -> cleaned_up
            failed cancelled expired                            -> queued

expire      validating queued in_progress completed failed cancelled | expiry=ahead -> not_due
            in_progress           | lease=live,margin           -> lease_live
            validating queued in_progress completed failed cancelled -> expired
            expired                                             -> illegal_transition

begin_cleanup expired             | cleanup=begun,grace_over,ended -> cleaned_up
            expired               | expiry=reached,almost_a_day_ago -> not_due
            expired                                             -> expired
            validating queued in_progress completed failed cancelled -> illegal_transition

end_cleanup expired               | cleanup=no                  -> cleanup_not_begun
            expired               | cleanup=ended               -> cleaned_up
            expired               | cleanup=begun               -> not_due
            expired                                             -> expired
            validating queued in_progress completed failed cancelled -> illegal_transition
"""
"""event, statuses | circumstances -> a status, `already`, or the code of the refusal. The first line that fits answers."""

HAS_ROW: Final[dict[Event, str]] = {
    Event.ACCEPT: "validating",
    Event.REJECT: "validating",
    Event.DISPATCHED: "queued in_progress",
    Event.DELAYED: "queued",
    Event.START: "queued",
    Event.HEARTBEAT: "in_progress",
    Event.COMPLETE: "in_progress",
    Event.FAIL: "in_progress",
    Event.RELEASE: "in_progress",
    Event.GIVE_BACK: "in_progress",
    Event.RESCUE: "in_progress",
    Event.CANCEL: "validating queued in_progress",
    Event.RETRY: "failed cancelled expired",
    Event.EXPIRE: "validating queued in_progress completed failed cancelled",
    Event.BEGIN_CLEANUP: "expired",
    Event.END_CLEANUP: "expired",
}
"""The second column of the design's table. Elsewhere an event is illegal, not refused by a guard."""

WAIT: Final[dict[tuple[str, str], int]] = {
    ("start", "not_available"): AT + 1,
    ("expire", "not_due"): AT + 1,
    ("begin_cleanup", "not_due reached"): AT + 86_400,
    ("begin_cleanup", "not_due almost_a_day_ago"): AT + 1,
    ("end_cleanup", "not_due"): AT + 1,
    ("rescue", "lease_live live"): AT + 1 + 10,
    ("rescue", "lease_live margin"): AT + 1,
    ("expire", "lease_live live"): AT + 1 + 10,
    ("expire", "lease_live margin"): AT + 1,
}
"""Until when a refusal says to wait; any other refusal that is not of a completed job's retry says that waiting is no help."""

Circumstances = dict[str, str]
Line = tuple[dict[str, list[str]], str]
PAIRS = [(event, status) for event in Event for status in JobStatus]


def _read(matrix: str) -> dict[tuple[str, str], list[Line]]:
    lines: dict[tuple[str, str], list[Line]] = {}
    event = ""
    for text in filter(None, matrix.splitlines()):
        asked, answer = text.split("->")
        words, _, conditions = asked.partition("|")
        statuses = words.split()
        if not text.startswith(" "):
            event = statuses.pop(0)
        when = {axis: values.split(",") for axis, values in (pair.split("=") for pair in conditions.split())}
        assert all(set(values) <= set(AXES[axis]) for axis, values in when.items()), text
        for status in statuses:
            lines.setdefault((event, status), []).append((when, answer.strip()))
    return lines


LINES = _read(MATRIX)


def _line(event: Event, status: JobStatus, given: Circumstances) -> int:
    fits = (n for n, (when, _) in enumerate(LINES[event, status]) if all(given[axis] in when[axis] for axis in when))
    return next(fits)


def _can_be(status: JobStatus, given: Circumstances) -> bool:
    """Whether a job can stand so: what no job can be has no answer in the design."""
    fresh = given["accepted"] == "never"
    return all(
        (
            given["digest"] == "none" or (status in ("completed", "failed", "expired") and given["lease"] != "none"),
            given["token"] == "other" or given["lease"] != "none",
            given["lease"] == "none" if status in ("validating", "queued") or fresh else True,
            given["lease"] != "none" if status == "in_progress" else True,
            status not in ("queued", "in_progress", "completed") if fresh else status != "validating",
            (given["retried"], given["delayed"], given["dispatched"]) == ("never", "none", "no") if fresh else True,
            given["key"] != "last" or given["retried"] == "with_key",
            given["key"] != "former" or given["retried"] != "never",
            given["cleanup"] == "no" or status == "expired",
            given["expiry"] != "ahead" or status != "expired",
        )
    )


def _cases(event: Event, status: JobStatus) -> Iterator[Circumstances]:
    """The full product of the axes that the event asks about; the others stand at their first possible value."""
    asked = ASKS[event].split()
    rest = {axis: values[0] for axis, values in AXES.items() if axis not in asked}
    if "lease" not in asked and status in ("validating", "queued"):
        rest["lease"] = "none"
    if "accepted" not in asked and status == "validating":
        rest["accepted"] = "never"
    if "token" not in asked:
        rest["token"] = "other"
    if "expiry" not in asked and status == "expired":
        rest["expiry"] = "a_day_ago"
    for values in product(*(AXES[axis] for axis in asked)):
        given = {**rest, **dict(zip(asked, values, strict=True))}
        if event is Event.RETRY and given["accepted"] == "never":
            given["lease"] = "none"
        if _can_be(status, given):
            yield given


_LEASES = {"live": AT + 1, "margin": AT - 9, "run_out": AT - 10, "endless": None}
_EXPIRY = {"ahead": AT + 1, "reached": AT, "almost_a_day_ago": AT - 86_399, "a_day_ago": AT - 86_400}


_ANY_JOB = a_job()


def _job(status: JobStatus, given: Circumstances) -> Job:
    retried, cleanup = given["retried"] != "never", given["cleanup"]
    fields = {
        "status": status,
        "run": 0 if given["accepted"] == "never" else 2,
        "dispatched_at": AT - 100 if given["dispatched"] == "yes" else None,
        "available_at": {"none": None, "reached": AT, "early": AT + 1}[given["available"]],
        "expires_at": _EXPIRY[given["expiry"]],
        "attempt_count": 4 if given["attempts"] == "left" else 5,
        "attempt_base": 3,
        "max_attempts": 2,
        "give_backs": 1 if given["give_backs"] == "left" else 2,
        "lease": None if given["lease"] == "none" else Lease(token="own", expires_at=_LEASES[given["lease"]]),
        "result_digest": None if given["digest"] == "none" else "digest",
        "retried_at": AT - 500 if retried else None,
        "retry_key": "last" if given["retried"] == "with_key" else None,
        "dispatch_delayed_at": {"none": None, "recent": AT - 59, "limit": AT - 60, "old": AT - 61}[given["delayed"]],
        "cleanup_started_at": None if cleanup == "no" else AT - 309 if cleanup == "begun" else AT - 310,
        "cleanup_completed_at": AT if cleanup == "ended" else None,
        "completed_at": AT - 200,
        "updated_at": AT if given["clock"] == "stepped_back" else AT - 100_000,
    }
    return evolve(_ANY_JOB, fields)


def _facts(event: Event, job: Job, given: Circumstances) -> Facts:
    facts: Facts = {}
    if event in (Event.DISPATCHED, Event.DELAYED, Event.START):
        facts["run"] = job.run + {"over": -1, "current": 0, "ahead": 1}[given["run"]]
    if event is Event.DISPATCHED:
        facts["task_name"] = "task"
    if event in (Event.START, Event.HEARTBEAT, Event.COMPLETE, Event.FAIL, Event.RELEASE, Event.GIVE_BACK):
        facts["token"] = given["token"]
    if event in (Event.COMPLETE, Event.FAIL):
        facts["digest"] = "another digest" if given["digest"] == "other" else "digest"
    if event is Event.COMPLETE:
        facts["response"] = JobResponse[Any](body={})
    if event in (Event.FAIL, Event.REJECT):
        facts["error"] = JobError(code="broken", message="it broke")
    if event is Event.RELEASE:
        facts["failure_code"] = "broken"
    if event is Event.RETRY and given["key"] != "none":
        facts["retry_key"] = given["key"]
    if event is Event.RETRY and given["retried"] != "never":
        facts["past_retry_keys"] = frozenset({"former"})
    return facts


class _Throwaway:
    """What `transitions` moves instead of a job."""

    def __init__(self, state: JobStatus) -> None:
        self.state = state


def _engine(event: Event, job: Job, at: int, facts: Facts) -> JobStatus | str:
    model = _Throwaway(job.status)
    try:
        moved = MACHINE.events[event].trigger(model, job, at, facts, POLICY)
    except MachineError:
        return "no row"
    return model.state if moved else "a guard says no"


def _check_refusal(decision: Refused, answer: str, given: Circumstances, job: Job) -> None:
    has_row = decision.status in HAS_ROW[decision.event].split()
    kind = LeaseLostError if answer == "lease_lost" else GuardRefusedError if has_row else IllegalTransitionError
    assert type(decision.error()) is kind
    waits = [WAIT.get((decision.event, f"{answer}{more}")) for more in ("", f" {given['lease']}", f" {given['expiry']}")]
    if decision.event is Event.RETRY and decision.status is JobStatus.COMPLETED:
        waits = [job.expires_at]
    assert decision.wait_until == next(filter(None, waits), None)


def _check(event: Event, status: JobStatus, given: Circumstances) -> int:
    """The decision is the matrix's, and `transitions`' own; which line of the matrix it was."""
    job, n = _job(status, given), _line(event, status, given)
    facts, answer = _facts(event, job, given), LINES[event, status][n][1]
    now = AT - 50_000 if given["clock"] == "stepped_back" else AT
    decision = decide(job, event, now, policy=POLICY, **facts)
    if answer == "already":
        assert isinstance(decision, Already), (given, str(decision))
        return n  # the rule of repeats answers before the table is asked
    engine = _engine(event, job, AT, facts)
    if isinstance(decision, Accepted):
        assert decision.target == answer, (given, str(decision))
        assert engine is decision.target, (given, engine)
        assert (decision.source, decision.version, decision.at) == (status, job.version, AT)
        return n
    assert isinstance(decision, Refused), (given, str(decision))
    assert decision.code == answer, (given, str(decision))
    assert engine == ("a guard says no" if status in HAS_ROW[event].split() else "no row"), (given, engine)
    _check_refusal(decision, answer, given, job)
    return n


@pytest.mark.parametrize(("event", "status"), PAIRS)
def test_every_circumstance_has_the_answer_of_the_design_and_of_transitions(event: Event, status: JobStatus) -> None:
    used = {_check(event, status, given) for given in _cases(event, status)}
    assert used == set(range(len(LINES[event, status]))), "a line of the matrix that no case reaches"


@pytest.mark.parametrize(("event", "status"), PAIRS)
def test_what_an_event_does_not_ask_about_does_not_matter(event: Event, status: JobStatus) -> None:
    random = Random(f"{event} {status}")
    unasked = set(AXES) - set(ASKS[event].split())
    for given in random.sample(list(_cases(event, status)) * 50, 50):
        for axis in sorted(unasked):
            other = {**given, axis: random.choice(AXES[axis])}
            if _can_be(status, other):
                given = other
        _check(event, status, given)


def test_the_matrix_speaks_of_every_event_in_every_status() -> None:
    assert set(LINES) == {(event.value, status.value) for event, status in PAIRS}
    assert len(LINES) == 16 * 7
    assert all(not lines[-1][0] for lines in LINES.values()), "the last line of each pair answers whatever is left"
