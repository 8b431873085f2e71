"""The lifecycle: what may follow what. The only place that knows.

    machine    how a table is declared with `transitions`, read back, checked, compiled
    guards     why not
    changes    what is written, and the reset list
    table      the rows
    creation   the first version of a job, and what its history gives back
    answers    accepted, already, refused
    decision   decide, apply, explain

Rules for the next editor:

1. A guard is pure, runs once in a decision, and answers None or its `Reason`.
2. A change returns exactly the fields that its row says it writes.
3. A time that is written is the decision's `at`, which is never before the row's last write.
4. Every field of `Job` stands in one of RETRY_RESETS, RETRY_SETS, RETRY_KEEPS and EVERY_WRITE.
"""

from jobstate.lifecycle.answers import Accepted, Already, Decision, Refused
from jobstate.lifecycle.changes import EVERY_WRITE, RETRY_KEEPS, RETRY_RESETS, RETRY_SETS
from jobstate.lifecycle.creation import NOT_REPLAYED, Draft, creation_record, mark_created, new_job, replay
from jobstate.lifecycle.decision import (
    Facts,
    allowed_events,
    apply,
    decide,
    explain,
    mark_dispatched,
    may_be_forgotten,
)
from jobstate.lifecycle.table import FINGERPRINT, MACHINE, TABLE, UNRECORDED

__all__ = [
    "EVERY_WRITE",
    "FINGERPRINT",
    "MACHINE",
    "NOT_REPLAYED",
    "RETRY_KEEPS",
    "RETRY_RESETS",
    "RETRY_SETS",
    "TABLE",
    "UNRECORDED",
    "Accepted",
    "Already",
    "Decision",
    "Draft",
    "Facts",
    "Refused",
    "allowed_events",
    "apply",
    "creation_record",
    "decide",
    "explain",
    "mark_created",
    "mark_dispatched",
    "may_be_forgotten",
    "new_job",
    "replay",
]
