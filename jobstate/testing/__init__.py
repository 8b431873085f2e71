"""What other people's tests import. Nothing of the library imports it."""

from jobstate.testing.clock import ManualClock

__all__ = ["ManualClock"]
