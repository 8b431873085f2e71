"""Contracts: what an adapter has to keep, one case for each clause of `jobstate.ports`.

clauses     what all have in common: clauses, capabilities, and how a case is run
repository  `RepositoryContract`, `AsyncRepositoryContract`; their cases in repository_writes and repository_reads
dispatcher  `DispatcherContract`, `AsyncDispatcherContract`
artifacts   `ArtifactStoreContract`, `AsyncArtifactStoreContract`
sweeps      `SharedSweepsContract`, `AsyncSharedSweepsContract`
notices     `NoticesContract`, `AsyncNoticesContract`
races       `RepositoryRaces`, and in dispatcher_races and artifact_races the others: the clauses on threads and tasks
"""

from jobstate.testing.contracts.artifact_races import ArtifactStoreRaces, AsyncArtifactStoreRaces
from jobstate.testing.contracts.artifacts import ArtifactStoreContract, AsyncArtifactStoreContract
from jobstate.testing.contracts.clauses import Capability, clauses
from jobstate.testing.contracts.dispatcher import AsyncDispatcherContract, DispatcherContract
from jobstate.testing.contracts.dispatcher_races import AsyncDispatcherRaces, DispatcherRaces
from jobstate.testing.contracts.notices import AsyncNoticesContract, NoticesContract
from jobstate.testing.contracts.races import AsyncRepositoryRaces, RepositoryRaces
from jobstate.testing.contracts.repository import AsyncRepositoryContract, RepositoryContract
from jobstate.testing.contracts.sweeps import AsyncSharedSweepsContract, SharedSweepsContract

__all__ = [
    "ArtifactStoreContract",
    "ArtifactStoreRaces",
    "AsyncArtifactStoreContract",
    "AsyncArtifactStoreRaces",
    "AsyncDispatcherContract",
    "AsyncDispatcherRaces",
    "AsyncNoticesContract",
    "AsyncRepositoryContract",
    "AsyncRepositoryRaces",
    "AsyncSharedSweepsContract",
    "Capability",
    "DispatcherContract",
    "DispatcherRaces",
    "NoticesContract",
    "RepositoryContract",
    "RepositoryRaces",
    "SharedSweepsContract",
    "clauses",
]
