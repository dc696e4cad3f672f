"""What a part needs from the world around it, in one value; knows neither runtime nor settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from smw._kernel.clock import Clock, Entropy, SystemClock, SystemEntropy
from smw._kernel.facts import Facts
from smw._kernel.signals import Bus
from smw._kernel.spanning import Spanning
from smw._kernel.standing import Standings

__all__ = ["Host"]


@dataclass(frozen=True, slots=True)
class Host:
    """Service name, profile, clock, randomness, bus, facts, spans and standings, shared by the parts of one runtime.

    A part that is used on its own (``cache.Cache(...)``) makes one with the defaults.
    """

    service: str = ""
    profile: str = "development"
    clock: Clock = field(default_factory=SystemClock)
    entropy: Entropy = field(default_factory=SystemEntropy)
    bus: Bus = field(default_factory=Bus)
    facts: Facts = field(default_factory=Facts)
    spans: Spanning = field(default_factory=Spanning)
    standings: Standings = field(default_factory=Standings)
