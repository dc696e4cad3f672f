"""Fills memory with what the fleet asks for most, within a deadline, by the reads of any call; calls no function."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smw._kernel.guard import Budget
from smw.cache.levels.ahead import read_ahead
from smw.cache.naming.place import Place
from smw.cache.warming.heat import COUNTED
from smw.cache.warming.hot import LONGEST, Hearth, Hot, hot_of
from smw.cache.warming.telling import kept_by

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from smw._kernel.call import Mode
    from smw.cache.functions.function import CachedFunction
    from smw.cache.levels.engine import Engine
    from smw.cache.levels.level import Level
    from smw.cache.levels.remote import Ahead

__all__ = ["FleetWarmed", "WarmUp"]

_log = logging.getLogger("smw.cache")
_AT_ONCE, _BYTES_AT_ONCE = 64, 2**20
_TRIES = 3
_JOIN_S = 0.25
_WANTED_S = 60.0


@dataclass(frozen=True, slots=True)
class FleetWarmed:
    """What a warm-up from the fleet has done.

    Attributes:
        kept: Results that memory holds now and did not hold before.
        skipped: Keys of the list of which it holds none: dropped, expired, too large, or held already.
        bytes: What they take, as memory estimates it.
        took_s: How long it took.
        ended: Why it ended early: ``deadline``, or ``away`` where the server did not answer; "" where it is complete.
    """

    kept: int = 0
    skipped: int = 0
    bytes: int = 0
    took_s: float = 0.0
    ended: str = ""


class _LateError(Exception):
    """There is no time left."""


class _AwayError(Exception):
    """A server does not answer."""


class WarmUp:
    """One warm-up.

    Args:
        engine: The levels.
        functions: By their marks; keys of others are left out.
        prefix: What the names of the namespace begin with.
        name: Of the list on the servers.
        most: How many keys are read.
        timeout_s: How long all of it may take.
    """

    def __init__(
        self,
        engine: Engine,
        functions: Mapping[str, CachedFunction],
        *,
        prefix: str,
        name: str,
        most: int,
        timeout_s: float,
    ) -> None:
        self._engine = engine
        self._functions = functions
        self._prefix = prefix
        self._name = name
        self._most = min(most, engine.memory.most_entries)
        self._room = engine.memory.most_bytes // 2
        self._now = engine.host.clock.now
        self._began = self._now()
        self._until = self._began + timeout_s
        self._kept = self._skipped = self._bytes = 0
        self._away: set[Level] = set()

    async def run(self, mode: Mode) -> FleetWarmed:
        """Read what the list names, the hottest first; never fails."""
        ended = ""
        try:
            found = await self._hottest(mode)
            await self._joined(mode)
            for level, some in self._in_turns(found):
                await self._unless_away(level, self._read, some, mode=mode)
        except _LateError:
            ended = "deadline"
        except Exception as error:  # noqa: BLE001 - a process starts whatever a server sends
            _log.warning("the warm-up from the fleet failed (%s)", type(error).__name__)
            ended = "away"
        ended = ended or ("away" if self._away else "")
        return FleetWarmed(self._kept, self._skipped, self._bytes, self._now() - self._began, ended)

    async def _unless_away(self, level: Level, do: Callable[..., Awaitable[Any]], *args: Any, mode: Mode) -> Any:
        """Return what `do` does with a server, or None where it does not answer, nor those that fail with it."""
        if level in self._away:
            return None
        try:
            return await do(level, *args, mode)
        except _AwayError:
            self._check_time()
            self._away.update(level.together())
            return None

    async def _joined(self, mode: Mode) -> None:
        """Listen first: what is read while nobody listens would have to be confirmed key by key soon."""
        now = self._now()
        self._engine.backplane.want(now + _WANTED_S)  # also if the first request takes its time
        await self._engine.backplane.joined(min(_JOIN_S, max(0.0, self._until - now)), mode)

    async def _ask(self, level: Level, ask: Callable[..., Awaitable[Any]], *args: Any, mode: Mode) -> Any:
        """Return what a server answers, asking it again where it is slow: the first connection may be.

        Raises:
            _AwayError: It does not answer.
            _LateError: There is no time left.
        """
        for _ in range(_TRIES):
            self._check_time()
            budget = Budget(self._engine.host.clock, self._until - self._now())
            answer = await level.ask(ask, *args, budget=budget, mode=mode)
            if answer is not None:
                return answer
            if level.breaker.is_open:
                break
        raise _AwayError

    async def _hottest(self, mode: Mode) -> list[Hot]:
        """Return the keys of known functions that are asked for most, the hottest first."""
        scores: dict[Hot, float] = {}
        for level in self._engine.remote.tiers[0].servers:
            for member, score in await self._unless_away(level, self._listed, mode=mode) or ():
                hot = hot_of(member, self._prefix)
                if hot is not None and hot.mark in self._functions:
                    scores[hot] = max(score, scores.get(hot, score))
        return sorted(scores, key=lambda hot: -scores[hot])[: self._most]

    async def _listed(self, level: Level, mode: Mode) -> Any:
        store, most = level.store, kept_by(self._engine, self._most)
        return (
            await self._ask(level, store.hottest, self._name, most, LONGEST, mode=mode)
            if isinstance(store, Hearth)
            else ()
        )

    def _in_turns(self, found: Sequence[Hot]) -> list[tuple[Level, list[Hot]]]:
        """Return the keys in questions, those of each server by turns."""
        of = self._engine.remote.tiers[0].of
        by_server: dict[Level, list[Hot]] = {}
        for hot in found:
            by_server.setdefault(of(hot.text), []).append(hot)
        numbered = [
            (at, number, level, keys[at : at + _AT_ONCE])
            for number, (level, keys) in enumerate(by_server.items())
            for at in range(0, len(keys), _AT_ONCE)
        ]
        return [(level, keys) for _, _, level, keys in sorted(numbered, key=lambda turn: turn[:2])]

    async def _read(self, level: Level, found: Sequence[Hot], mode: Mode) -> None:
        """Read the values of some keys of one server."""
        waiting, failures = deque(await self._fitting(level, found, mode)), 0
        while waiting:
            some = waiting.popleft()
            places = [self._place(hot) for hot in some]
            self._check_time()
            shown = await read_ahead(self._engine, places, mode)
            if all(ahead is not None and ahead.found is None for ahead in shown):
                failures += 1
                if failures == _TRIES or level.breaker.is_open:
                    raise _AwayError
                half = (len(some) + 1) // 2  # it may be that so much cannot be sent in time
                waiting.extendleft([part for part in (some[half:], some[:half]) if part])
                continue
            for hot, place, ahead in zip(some, places, shown, strict=True):
                self._check_time()
                await self._keep(hot, place, ahead, mode)

    async def _fitting(self, level: Level, found: Sequence[Hot], mode: Mode) -> list[list[Hot]]:
        """Return the keys whose values are there and not too large, as many at a time as one answer may hold."""
        wanted = [hot for hot in found if not self._is_held(hot.text)]
        store, texts = level.store, [hot.text for hot in wanted]
        sizes = await self._ask(level, store.sizes, texts, mode=mode) if texts and isinstance(store, Hearth) else ()
        questions: list[list[Hot]] = []
        held = fit = 0
        for hot, size in zip(wanted, sizes, strict=True):
            if not 0 < size <= self._room:
                continue
            self._room -= size
            held, fit = held + size, fit + 1
            if not questions or held > _BYTES_AT_ONCE:
                questions.append([])
                held = size
            questions[-1].append(hot)
        self._skipped += len(found) - fit
        return questions

    def _is_held(self, text: str) -> bool:
        now = self._now()
        return any(entry.expires > now for entry in self._engine.memory.held(text))

    def _check_time(self) -> None:
        if self._now() >= self._until:
            raise _LateError

    def _place(self, hot: Hot) -> Place:
        warmed = self._functions[hot.mark].placing.warmed
        return Place(warmed, hot.text, hot.text, hot.tags, (hot.text, *hot.tags))

    async def _keep(self, hot: Hot, place: Place, ahead: Ahead | None, mode: Mode) -> None:
        """Keep one value if it stands, as a call would that had asked for it."""
        function = self._functions[hot.mark]
        try:
            await self._engine.look(place, function.policy._replace(names=("l2",)), mode, ahead=ahead)
        except Exception as error:  # noqa: BLE001 - what a class of the user's makes of what was stored
            _log.debug("a value of %s was not warmed up: %s", function.target.name, type(error).__name__)
        entry = place.home.get(place.key)
        if entry is None:
            self._skipped += 1
            return
        entry.touched = COUNTED  # for eviction it is one that was asked for
        function.stats.warmed += 1
        self._kept += 1
        self._bytes += entry.bytes
