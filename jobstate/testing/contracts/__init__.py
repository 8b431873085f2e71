"""Contracts: what an adapter has to keep, one case for each clause of `jobstate.ports`.

clauses     what all have in common: clauses, capabilities, and how a case is run
repository  `RepositoryContract`, `AsyncRepositoryContract`
dispatcher  `DispatcherContract`, `AsyncDispatcherContract`
artifacts   `ArtifactStoreContract`, `AsyncArtifactStoreContract`
sweeps      `SharedSweepsContract`, `AsyncSharedSweepsContract`
races       `RepositoryRaces`, `DispatcherRaces`, `ArtifactStoreRaces` and async twins: the clauses on threads and tasks
"""

from jobstate.testing.contracts.artifacts import ArtifactStoreContract, AsyncArtifactStoreContract
from jobstate.testing.contracts.clauses import Capability, clauses
from jobstate.testing.contracts.dispatcher import AsyncDispatcherContract, DispatcherContract
from jobstate.testing.contracts.races import (
    ArtifactStoreRaces,
    AsyncArtifactStoreRaces,
    AsyncDispatcherRaces,
    AsyncRepositoryRaces,
    DispatcherRaces,
    RepositoryRaces,
)
from jobstate.testing.contracts.repository import AsyncRepositoryContract, RepositoryContract
from jobstate.testing.contracts.sweeps import AsyncSharedSweepsContract, SharedSweepsContract

__all__ = [
    "ArtifactStoreContract",
    "ArtifactStoreRaces",
    "AsyncArtifactStoreContract",
    "AsyncArtifactStoreRaces",
    "AsyncDispatcherContract",
    "AsyncDispatcherRaces",
    "AsyncRepositoryContract",
    "AsyncRepositoryRaces",
    "AsyncSharedSweepsContract",
    "Capability",
    "DispatcherContract",
    "DispatcherRaces",
    "RepositoryContract",
    "RepositoryRaces",
    "SharedSweepsContract",
    "clauses",
]
