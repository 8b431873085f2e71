"""Contracts: what an adapter has to keep, one case for each clause of `jobstate.ports`.

clauses     what all have in common: clauses, capabilities, and how a case is run
repository  `RepositoryContract`, `AsyncRepositoryContract`
"""

from jobstate.testing.contracts.clauses import Capability, clauses
from jobstate.testing.contracts.repository import AsyncRepositoryContract, RepositoryContract

__all__ = ["AsyncRepositoryContract", "Capability", "RepositoryContract", "clauses"]
