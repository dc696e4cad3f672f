"""What users and smw itself test with: clock, isolated runtime, recorded signals, faults; needs no test framework."""

from __future__ import annotations

from smw.testing import faults
from smw.testing.cached import assert_cached
from smw.testing.clock import FakeClock, SeededEntropy
from smw.testing.isolation import Recorded, isolated

__all__ = ["FakeClock", "Recorded", "SeededEntropy", "assert_cached", "faults", "isolated"]
