"""Contracts: what an adapter has to keep, one case for each clause of `jobstate.ports`.

clauses     what all have in common: clauses, capabilities, and how a case is run
repository  `RepositoryContract`, `AsyncRepositoryContract`
dispatcher  `DispatcherContract`, `AsyncDispatcherContract`
artifacts   `ArtifactStoreContract`, `AsyncArtifactStoreContract`
sweeps      `SharedSweepsContract`, `AsyncSharedSweepsContract`
races       `RepositoryRaces`, `AsyncRepositoryRaces`: the clause on threads and tasks
"""

from jobstate.testing.contracts.artifacts import ArtifactStoreContract, AsyncArtifactStoreContract
from jobstate.testing.contracts.clauses import Capability, clauses
from jobstate.testing.contracts.dispatcher import AsyncDispatcherContract, DispatcherContract
from jobstate.testing.contracts.races import AsyncRepositoryRaces, RepositoryRaces
from jobstate.testing.contracts.repository import AsyncRepositoryContract, RepositoryContract
from jobstate.testing.contracts.sweeps import AsyncSharedSweepsContract, SharedSweepsContract

__all__ = [
    "ArtifactStoreContract",
    "AsyncArtifactStoreContract",
    "AsyncDispatcherContract",
    "AsyncRepositoryContract",
    "AsyncRepositoryRaces",
    "AsyncSharedSweepsContract",
    "Capability",
    "DispatcherContract",
    "RepositoryContract",
    "RepositoryRaces",
    "SharedSweepsContract",
    "clauses",
]
