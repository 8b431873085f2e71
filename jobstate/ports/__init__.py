"""The ports: what a host brings, or takes from an adapter. Each clause is one numbered promise, and a test of that number.

An adapter holds no rules of the lifecycle: it stores, compares versions, and pages. An error that no clause names goes to the
caller as it is; an adapter that does not know whether a write was done says so with `OutcomeUnknownError`, so that the library
can find out.

The `Async` twins have the same methods, to be awaited, and the same clauses.
"""

from jobstate.ports.artifacts import ArtifactStore, AsyncArtifactStore
from jobstate.ports.besides import (
    AsyncListener,
    AsyncNotices,
    AsyncSharedSweeps,
    HostTransactions,
    Listener,
    Notices,
    SharedSweeps,
    offers,
)
from jobstate.ports.clock import AsyncClock, Clock
from jobstate.ports.dispatcher import AsyncDelayedDispatch, AsyncDispatcher, DelayedDispatch, Dispatcher
from jobstate.ports.repository import AsyncRepository, AsyncWithin, Repository, Within

__all__ = [
    "ArtifactStore",
    "AsyncArtifactStore",
    "AsyncClock",
    "AsyncDelayedDispatch",
    "AsyncDispatcher",
    "AsyncListener",
    "AsyncNotices",
    "AsyncRepository",
    "AsyncSharedSweeps",
    "AsyncWithin",
    "Clock",
    "DelayedDispatch",
    "Dispatcher",
    "HostTransactions",
    "Listener",
    "Notices",
    "Repository",
    "SharedSweeps",
    "Within",
    "offers",
]
