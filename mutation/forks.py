"""A forked process for each mutant: no fault of one reaches the next."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterable, Iterator
from enum import Enum

from mutation.mutants import Mutant

MEMORY = 2 << 30
"""Bytes that a mutant's process may have."""


_SEEN = os.dup(2)
"""Where progress is told, also while pytest captures what is written."""


class Status(Enum):
    """What became of a mutant."""

    KILLED = 1
    SURVIVED = 2
    TIMEOUT = 3
    UNTESTED = 4
    """No test runs its lines."""
    IMPORT = 5
    """It is evaluated on import: to be run cold."""


def watched(work: Iterable[tuple[Mutant, Callable[[Mutant], Status]]], workers: int) -> Iterator[tuple[str, Status]]:
    """Each mutant in a process of its own, `workers` at a time; (key, status) as they end."""
    running: dict[int, str] = {}
    for mutant, run in work:
        while len(running) >= workers:
            yield _ended(running)
        running[_forked(mutant, run)] = mutant.key
    while running:
        yield _ended(running)


def give_time(seconds: float) -> None:
    """End this process by a signal when it has used so much of the processor, or has waited for very long."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 30 + 10 * seconds)


def _ended(running: dict[int, str]) -> tuple[str, Status]:
    """An end by a timer is a timeout, any other by a signal or an error that no test caught a kill."""
    process, ending = os.wait()
    if os.WIFSIGNALED(ending):
        status = Status.TIMEOUT if os.WTERMSIG(ending) in (signal.SIGALRM, signal.SIGPROF) else Status.KILLED
    else:
        status = Status(os.WEXITSTATUS(ending) or Status.KILLED)
    key = running.pop(process)
    if status is not Status.KILLED:
        os.write(_SEEN, f"{status.name.lower()}: {key}\n".encode())
    return key, status


def _forked(mutant: Mutant, run: Callable[[Mutant], Status]) -> int:
    process = os.fork()
    if process:
        return process
    status = Status.KILLED
    try:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        status = run(mutant)
    finally:
        os._exit(status.value)
