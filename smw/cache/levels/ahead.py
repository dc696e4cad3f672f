"""Asks servers for many places at once: one read for all values, one start of all counters; calls no function."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from smw.cache.levels.remote import Ahead
from smw.cache.naming.names import fence_of
from smw.cache.ports import Batcher, Versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from smw._kernel.call import Mode
    from smw.cache.levels.engine import Engine, Look, Place
    from smw.cache.levels.level import Level
    from smw.cache.values.forms import Policy

__all__ = ["AT_ONCE", "look_many", "read_ahead"]

AT_ONCE = 32
"""How many results an event loop works on before it sees to others."""

_MOST_NAMES = 256
"""Names in one question: a reply must not grow without end, nor keep a server from others for long."""


async def look_many(engine: Engine, places: Sequence[Place], policy: Policy, mode: Mode) -> list[Look]:
    """Look for the values of places that servers know, and have what is missing ready to be loaded.

    Args:
        engine: The levels.
        places: Where the values belong.
        policy: How they are kept.
        mode: The caller's mode.
    """
    ahead = await read_ahead(engine, places, mode)
    if mode == "sync":
        looks = [
            await engine.look(place, policy, mode, ahead=shown) for place, shown in zip(places, ahead, strict=True)
        ]
    else:
        looks = []
        for start in range(0, len(places), AT_ONCE):
            some = zip(places[start : start + AT_ONCE], ahead[start : start + AT_ONCE], strict=True)
            looks += await asyncio.gather(*[engine.look(place, policy, mode, ahead=shown) for place, shown in some])
    await _prepare(engine, places, looks, policy, mode)
    return looks


async def read_ahead(engine: Engine, places: Sequence[Place], mode: Mode) -> list[Ahead | None]:
    """Return what the servers that keep the counters show of each place; None where it has to be asked by itself."""
    remote, shown = engine.remote, [None] * len(places)
    found: list[Ahead | None] = list(shown)
    # What is owed to some server is not read: it might be paid before anybody looks at the answer.
    numbers = [number for number, place in enumerate(places) if not remote.owes((place.text or "", *place.tags))]
    epoch = engine.fence.epoch
    for level, some in _in_questions(engine, places, numbers):
        if not isinstance(level.store, Batcher):
            continue
        budget = engine.budget()
        asked, reads = engine.host.clock.now(), [_names(places[number]) for number in some]
        answers = await level.ask(level.store.read_many, reads, budget=budget, mode=mode)
        for number, answer in zip(some, answers or [None] * len(some), strict=True):
            found[number] = Ahead(answer, asked, epoch, budget)
    return found


def _names(place: Place) -> tuple[str, tuple[str, ...]]:
    text = place.text or ""
    return text, (fence_of(text), *place.tags)


def _in_questions(engine: Engine, places: Sequence[Place], numbers: Sequence[int]) -> Iterator[tuple[Level, list[int]]]:
    """Yield the places of each server, as many at a time as one question may name."""
    by_server: dict[Level, list[list[int]]] = {}
    sizes: dict[Level, int] = {}
    for number in numbers:
        level, size = engine.remote.tiers[0].of(places[number].text or ""), 2 + len(places[number].tags)
        questions = by_server.setdefault(level, [[]])
        if questions[-1] and sizes[level] + size > _MOST_NAMES:
            questions.append([])
            sizes[level] = 0
        questions[-1].append(number)
        sizes[level] = sizes.get(level, 0) + size
    for level, questions in by_server.items():
        for question in questions:
            yield level, question


async def _prepare(engine: Engine, places: Sequence[Place], looks: Sequence[Look], policy: Policy, mode: Mode) -> None:
    """Start the counters of all that is going to be loaded."""
    fleet = engine.fleet if policy.is_of_fleet else None
    missing = [
        number
        for number, look in enumerate(looks)
        if look.found is None
        and _lacks(look.sight.versions)
        and not (fleet is not None and fleet.is_fit(places[number], look.sight))  # a lease opens them as well
    ]
    for _, some in _in_questions(engine, places, missing):
        names = tuple(dict.fromkeys(name for number in some for name in _names(places[number])[1]))
        asked, longest_s = engine.host.clock.now(), policy.ttl_s + policy.stale_s
        text, budget = places[some[0]].text or "", engine.budget()
        opened = await engine.remote.open(text, names, longest_s, budget=budget, mode=mode)
        numbers = dict(zip(names, opened, strict=True)) if opened is not None else None
        for number in some:
            sight, counters = looks[number].sight, _names(places[number])[1]
            shown = None if numbers is None else [numbers[name] for name in counters]
            sight.versions = None if shown is None else Versions(shown[0], tuple(shown[1:]))
            sight.asked = asked


def _lacks(versions: Versions | None) -> bool:
    return versions is not None and not versions.is_whole
