"""Repository, dispatcher and artifact store in memory, of both colours: the reference for all others. Gone with the process."""

from jobstate.memory.artifacts import AsyncMemoryArtifactStore, MemoryArtifactStore
from jobstate.memory.dispatcher import AsyncMemoryDispatcher, MemoryDispatcher
from jobstate.memory.repository import AsyncMemoryRepository, MemoryRepository

__all__ = [
    "AsyncMemoryArtifactStore",
    "AsyncMemoryDispatcher",
    "AsyncMemoryRepository",
    "MemoryArtifactStore",
    "MemoryDispatcher",
    "MemoryRepository",
]
