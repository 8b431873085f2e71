"""What other people's tests import. Nothing of the library imports it.

strategies  jobs, histories, events and policies, for Hypothesis
stateful    a state machine of the whole service, on ports that go wrong
contracts   what an adapter has to keep, one case for each clause of a port
explorer    every interleaving of several actors
clock       a clock by hand

Each name is imported when it is asked for, so that a clock needs no third party. Strategies and machines need Hypothesis,
contracts need pytest: `pip install 'jobstate[testing]'`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobstate.testing.clock import ManualClock
    from jobstate.testing.contracts import (
        ArtifactStoreContract,
        AsyncArtifactStoreContract,
        AsyncDispatcherContract,
        AsyncRepositoryContract,
        AsyncRepositoryRaces,
        Capability,
        DispatcherContract,
        RepositoryContract,
        RepositoryRaces,
    )
    from jobstate.testing.explorer import explore
    from jobstate.testing.history import JobHistory
    from jobstate.testing.stateful import AsyncJobsMachine, BrokenPromiseError, JobsMachine
    from jobstate.testing.strategies import events, histories, jobs, policies

__all__ = [
    "ArtifactStoreContract",
    "AsyncArtifactStoreContract",
    "AsyncDispatcherContract",
    "AsyncJobsMachine",
    "AsyncRepositoryContract",
    "AsyncRepositoryRaces",
    "BrokenPromiseError",
    "Capability",
    "DispatcherContract",
    "JobHistory",
    "JobsMachine",
    "ManualClock",
    "RepositoryContract",
    "RepositoryRaces",
    "events",
    "explore",
    "histories",
    "jobs",
    "policies",
]

_PLACES = {
    "clock": ("ManualClock",),
    "explorer": ("explore",),
    "history": ("JobHistory",),
    "stateful": ("AsyncJobsMachine", "BrokenPromiseError", "JobsMachine"),
    "strategies": ("events", "histories", "jobs", "policies"),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    """A public name, imported now."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACE_OF.get(name, 'contracts')}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
