"""What Redis remembers of the keys that processes ask for most: one sorted set, bounded, fading; knows no value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smw._kernel.call import Mode

__all__ = ["RedisHot"]

HALF_LIFE_S = 300
"""After so long, what was asked for counts half."""
LIFE_S = 7 * 86_400
"""How long the set outlives the last process that has told anything."""

# KEYS: the set. ARGV: half-life, most members, life of the set, then how often, and a member, by turns. A score is the
# logarithm of a sum in which each count has doubled once a half-life until now: so nothing ever has to be halved.
# What somebody else has put in the place of the set gives way to it.
_TELL = """
local t, two = redis.call('TIME'), math.log(2)
local now, known = t[1] / ARGV[1], redis.pcall('ZSCORE', KEYS[1], ARGV[5])
if type(known) == 'table' and string.find(known.err, 'WRONGTYPE') then redis.call('DEL', KEYS[1]) end
for i = 4, #ARGV, 2 do
  local score = now + math.log(ARGV[i]) / two
  local old = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i + 1]) or '')
  if old then
    local high, low = math.max(old, score), math.min(old, score)
    score = high + math.log(1 + 2 ^ (low - high)) / two
  end
  redis.call('ZADD', KEYS[1], string.format('%.6f', score), ARGV[i + 1])
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -ARGV[2] - 1)
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""
# KEYS: the set. ARGV: most members, the longest that one may be.
_HOTTEST = """
local found, out = redis.call('ZREVRANGE', KEYS[1], 0, ARGV[1] - 1, 'WITHSCORES'), {}
for i = 1, #found, 2 do
  if #found[i] <= tonumber(ARGV[2]) then
    out[#out + 1] = found[i]
    out[#out + 1] = found[i + 1]
  end
end
return out
"""
# KEYS: values, which may be anything that somebody else has put there.
_SIZES = """
local out = {}
for i = 1, #KEYS do
  local size = redis.pcall('STRLEN', KEYS[i])
  out[i] = type(size) == 'number' and size or 0
end
return out
"""


class RedisHot(ABC):
    """The part of a Redis store that is a `Hearth`."""

    @abstractmethod
    async def _script(self, mode: Mode, timeout_s: float, source: str, keys: Sequence[str], *args: Any) -> Any:
        """Run a script."""

    async def tell_hot(
        self, name: str, counts: Sequence[tuple[str, float]], most: int, *, mode: Mode, timeout_s: float
    ) -> None:
        """Add to how often members are asked for, and keep the hottest `most`."""
        words = [word for member, count in counts for word in (count, member)]
        await self._script(mode, timeout_s, _TELL, [name], HALF_LIFE_S, most, LIFE_S, *words)

    async def hottest(
        self, name: str, most: int, longest: int, *, mode: Mode, timeout_s: float
    ) -> list[tuple[str, float]]:
        """Return the members that are asked for most, with their scores."""
        reply = await self._script(mode, timeout_s, _HOTTEST, [name], most, longest)
        return [(reply[at].decode("ascii", "replace"), float(reply[at + 1])) for at in range(0, len(reply), 2)]

    async def sizes(self, keys: Sequence[str], *, mode: Mode, timeout_s: float) -> list[int]:
        """Return how many bytes are stored under each key, 0 where there are none."""
        return [int(size) for size in await self._script(mode, timeout_s, _SIZES, keys)]
