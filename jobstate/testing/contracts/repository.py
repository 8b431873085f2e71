"""The contract of a repository: what its author gives, and the cases of what it writes and reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobstate.drivers import Ports
from jobstate.memory import AsyncMemoryArtifactStore, MemoryArtifactStore
from jobstate.ports import AsyncRepository, Repository
from jobstate.testing.contracts.clauses import Async, AsyncScript, Script, Sync, clock
from jobstate.testing.contracts.repository_reads import ReadCases
from jobstate.testing.contracts.repository_writes import WriteCases


class RepositoryCases(WriteCases, ReadCases):
    """A case for each clause."""


class RepositoryPorts(Sync):
    """What the author of a sync repository gives to its contracts."""

    def open_repository(self, folder: Path) -> Repository:
        """A new, empty repository."""
        raise NotImplementedError("open_repository: the contract needs a repository to hold to it")

    def close_repository(self, repository: Any) -> None:
        """Let go of it, after each case."""

    def spoil(self, repository: Any, job_id: str) -> None:
        """Make a stored row unreadable: for example a status that nobody knows."""
        raise NotImplementedError("spoil: make a row unreadable, or declare that Capability.SPOIL is lacking")

    def lose(self, repository: Any) -> None:
        """Have the answer of the next write lost."""
        raise NotImplementedError("lose: have the next answer lost, or declare that Capability.LOSE is lacking")

    def open_ports(self, folder: Path) -> Ports:
        """As `Sync.open_ports`."""
        return Ports(self.open_repository(folder), Script(), MemoryArtifactStore(), clock())

    def close_ports(self, ports: Ports) -> None:
        """As `Sync.close_ports`."""
        self.close_repository(ports.repository)

    def _spoil(self, ports: Ports, job_id: str) -> None:
        self.spoil(ports.repository, job_id)

    def _lose(self, ports: Ports) -> None:
        self.lose(ports.repository)

    def _script(self, ports: Ports) -> Script:
        script: Script = ports.dispatcher
        return script


class AsyncRepositoryPorts(Async):
    """What the author of an async repository gives to its contracts."""

    async def open_repository(self, folder: Path) -> AsyncRepository:
        """A new, empty repository."""
        raise NotImplementedError("open_repository: the contract needs a repository to hold to it")

    async def close_repository(self, repository: Any) -> None:
        """Let go of it, after each case."""

    async def spoil(self, repository: Any, job_id: str) -> None:
        """Make a stored row unreadable: for example a status that nobody knows."""
        raise NotImplementedError("spoil: make a row unreadable, or declare that Capability.SPOIL is lacking")

    async def lose(self, repository: Any) -> None:
        """Have the answer of the next write lost."""
        raise NotImplementedError("lose: have the next answer lost, or declare that Capability.LOSE is lacking")

    async def open_ports(self, folder: Path) -> Ports:
        """As `Async.open_ports`."""
        return Ports(await self.open_repository(folder), AsyncScript(), AsyncMemoryArtifactStore(), clock())

    async def close_ports(self, ports: Ports) -> None:
        """As `Async.close_ports`."""
        await self.close_repository(ports.repository)

    async def _spoil(self, ports: Ports, job_id: str) -> None:
        await self.spoil(ports.repository, job_id)

    async def _lose(self, ports: Ports) -> None:
        await self.lose(ports.repository)

    async def _script(self, ports: Ports) -> Script:
        script: Script = ports.dispatcher
        return script


class RepositoryContract(RepositoryPorts, RepositoryCases):
    """The contract of a `Repository`, in three lines.

    ::

        class TestMine(RepositoryContract):
            def open_repository(self, folder: Path) -> Repository:
                return MyRepository(folder / "jobs.db")

    Each case opens a new, empty one; the folder is its own.
    """


class AsyncRepositoryContract(AsyncRepositoryPorts, RepositoryCases):
    """The contract of an `AsyncRepository`: the same, awaited."""
