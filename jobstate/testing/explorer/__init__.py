"""The explorer: runs the production flows of several actors through every interleaving of their effects.

world       what actors share, as a value
space       worlds and actors, each once; what an effect may do, faults included
search      the search, its invariants, and a violation with its shortest schedule
replay      a schedule once more, under a debugger
modular     the proof for any number of actors
recovery    from every world that was seen, the sweeps and a worker alone reach the goal
actors      the actors of a job service, and worlds to begin with
invariants  what must hold
"""

from jobstate.testing.explorer.invariants import invariants
from jobstate.testing.explorer.modular import ModularError, Proof, prove
from jobstate.testing.explorer.recovery import NotRecoveredError, Recovery, recover
from jobstate.testing.explorer.search import (
    Ending,
    Exploration,
    Invariant,
    SearchLimitError,
    ViolationError,
    explore,
)
from jobstate.testing.explorer.space import Actor, Faults, Step
from jobstate.testing.explorer.world import Answer, Choose, Take, World

__all__ = [
    "Actor",
    "Answer",
    "Choose",
    "Ending",
    "Exploration",
    "Faults",
    "Invariant",
    "ModularError",
    "NotRecoveredError",
    "Proof",
    "Recovery",
    "SearchLimitError",
    "Step",
    "Take",
    "ViolationError",
    "World",
    "explore",
    "invariants",
    "prove",
    "recover",
]
