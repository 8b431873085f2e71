"""The table: what may follow what, declared once with the `transitions` package, checked and compiled at import."""

from __future__ import annotations

from typing import Any, Final

from jobstate.lifecycle import changes, guards
from jobstate.lifecycle.machine import Change, Guard, compile_table, declare, fingerprint
from jobstate.model import Event, JobStatus

_V, _Q, _P = JobStatus.VALIDATING, JobStatus.QUEUED, JobStatus.IN_PROGRESS
_COMPLETED, _F, _CANCELLED, _E = JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED
_FAILED = ("error", "completed_at", "last_failure_code", "expires_at")
_REQUEUED = ("run", "last_failure_code", "available_at", *changes.DISPATCH_PENDING, "started_at", "progress", "lease")
_RETRY = (*changes.RETRY_RESETS, *changes.RETRY_SETS)


def _row(
    event: Event,
    source: JobStatus | tuple[JobStatus, ...],
    target: JobStatus | str,
    guards: tuple[Guard, ...],
    change: Change,
    writes: tuple[str, ...],
    doc: str,
) -> dict[str, Any]:
    sources = [source] if isinstance(source, JobStatus) else list(source)
    return {
        "trigger": event.value,
        "source": sources,
        "dest": target,
        "guards": guards,
        "change": change,
        "writes": writes,
        "doc": doc,
    }


_SAME = "="  # `transitions`' word for: the target is the source
_OWN = (guards.lease_is_own,)
_MARKS = tuple(changes.DISPATCH_PENDING)

MACHINE = declare(
    (
        _row(Event.ACCEPT, _V, _Q, (), changes.accept, ("run", *_MARKS), "The host takes it: the first run, dispatch pending."),
        _row(Event.REJECT, _V, _F, (), changes.reject, _FAILED, "The host turns it down before its first run."),
        _row(
            Event.DISPATCHED,
            (_Q, _P),
            _SAME,
            (guards.run_is_current,),
            changes.dispatched,
            _MARKS,
            "A dispatcher took the delivery.",
        ),
        _row(
            Event.DELAYED,
            _Q,
            _SAME,
            (guards.run_is_current, guards.not_dispatched),
            changes.delayed,
            ("dispatch_delayed_at",),
            "The dispatcher failed, and a caller was told so.",
        ),
        _row(
            Event.START,
            _Q,
            _P,
            (guards.run_is_current, guards.available, guards.not_expired, guards.attempts_left),
            changes.start,
            ("attempt_count", "started_at", "last_attempt_at", "lease"),
            "A worker begins an attempt under a new lease.",
        ),
        _row(
            Event.HEARTBEAT,
            _P,
            _P,
            _OWN,
            changes.heartbeat,
            ("lease", "progress", "warnings"),
            "The worker is alive: the lease grows.",
        ),
        _row(
            Event.COMPLETE,
            _P,
            _COMPLETED,
            _OWN,
            changes.complete,
            ("response", "response_artifacts", "result_digest", "warnings", "completed_at", "expires_at"),
            "The attempt brought a result.",
        ),
        _row(Event.FAIL, _P, _F, _OWN, changes.fail, (*_FAILED, "result_digest", "warnings"), "The attempt failed for good."),
        _row(
            Event.RELEASE,
            _P,
            _Q,
            (*_OWN, guards.attempts_left),
            changes.release,
            _REQUEUED,
            "The attempt failed; another follows later.",
        ),
        _row(
            Event.GIVE_BACK,
            _P,
            _Q,
            (*_OWN, guards.give_backs_left),
            changes.give_back,
            (*_REQUEUED, "attempt_base", "give_backs"),
            "The worker stops in good order: another attempt at once, at no cost.",
        ),
        _row(
            Event.RESCUE,
            _P,
            _Q,
            (guards.lease_is_over, guards.attempts_left),
            changes.rescue,
            _REQUEUED,
            "The worker is lost; another attempt.",
        ),
        _row(
            Event.RESCUE,
            _P,
            _F,
            (guards.lease_is_over,),
            changes.give_up,
            _FAILED,
            "The worker is lost, and no attempt is left.",
        ),
        _row(
            Event.CANCEL,
            (_V, _Q, _P),
            _CANCELLED,
            (),
            changes.cancel,
            ("cancelled", "completed_at", "expires_at"),
            "Somebody does not want it any more.",
        ),
        _row(Event.RETRY, (_F, _CANCELLED), _Q, (guards.accepted_once,), changes.retry, _RETRY, "Its user wants it once more."),
        _row(
            Event.RETRY,
            _E,
            _Q,
            (guards.accepted_once, guards.cleanup_not_begun),
            changes.retry,
            _RETRY,
            "Its user wants it once more, in time.",
        ),
        _row(
            Event.EXPIRE,
            tuple(status for status in JobStatus if status is not _E),
            _E,
            (guards.expiry_reached, guards.lease_is_not_live),
            changes.expire,
            (),
            "Its time is over.",
        ),
        _row(
            Event.BEGIN_CLEANUP,
            _E,
            _E,
            (guards.cleanup_not_begun, guards.cleanup_is_due),
            changes.begin_cleanup,
            ("cleanup_started_at", "request", "response"),
            "Payloads go; from here on nothing is retried.",
        ),
        _row(
            Event.END_CLEANUP,
            _E,
            _E,
            (guards.cleanup_may_end,),
            changes.end_cleanup,
            ("cleanup_completed_at", "request_artifacts", "response_artifacts"),
            "Artifacts are gone.",
        ),
    ),
    initial=JobStatus.VALIDATING,
)
"""The table as `transitions` holds it: the authority."""

TABLE: Final = compile_table(MACHINE)
"""The same, compiled: (event, status) to the rows that may apply, in order."""

FINGERPRINT: Final = fingerprint(TABLE)
"""Changes when the table does."""

UNRECORDED: Final = frozenset({Event.HEARTBEAT, Event.DISPATCHED})
"""Events that leave no history record."""
