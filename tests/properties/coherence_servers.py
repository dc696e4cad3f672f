"""Redis and memcached as pure functions of a state, and the real stores speaking to them step by step."""

from __future__ import annotations

from typing import Any, NamedTuple

from smw.cache.coherence.wire import Wire
from smw.cache.ports import StoreFailedError
from smw.cache.stores import redis_scripts
from smw.cache.stores.memcached import MemcachedStore
from smw.cache.stores.redis import RedisStore

NUMBER = "smw:m:b:n"
"""Key of the number of the newest message."""
GUARD = "smw:m:b:g"
"""Key under which the reign of the server is kept."""
BEGAN = {NUMBER: b"100", GUARD: b"1"}
"""What both are when a search begins."""
EPOCH = 10_000.0
"""What the clock of Redis shows when a search begins."""
FAILED = "failed"
"""The reply to a request that was not answered, whether or not the server has done what it was asked."""


class Request:
    """What a coroutine of the cache waits for; the search decides when it is carried out and how it ends."""

    def __init__(self, *what: Any) -> None:
        self.what = what

    def __await__(self):
        reply = yield self.what
        if reply == FAILED:
            raise StoreFailedError("timeout")
        return reply


class SteppedRedis(RedisStore):
    """The real store; every command is one step of the search."""

    def __init__(self, wire: Wire | None = None, where: str = "l2", part: str = "") -> None:
        self.name = "redis"
        self.where = where
        self.part = part
        self._wire = wire
        self._channel = "drops"
        self._leases = set()

    async def _mget(self, mode, timeout_s, keys):
        return await Request(self.where, "MGET", *keys), None

    async def _script(self, mode, timeout_s, source, keys, *args):
        scripts = {
            redis_scripts.OPEN: "open",
            redis_scripts.WRITE: "write",
            redis_scripts.DROP: "drop",
            redis_scripts.REPLACE: "replace",
            redis_scripts.PULSE: "pulse",
            redis_scripts.TIME: "time",
            redis_scripts.LEASE: "lease",
            redis_scripts.RELEASE: "release",
            redis_scripts.RENEW: "renew",
        }
        return await Request(self.where, scripts[source], tuple(keys), *args)

    def probe(self) -> None:
        """Do nothing: the search never opens a breaker."""


class SteppedMemcached(MemcachedStore):
    """The real store; every command is one step of the search."""

    def __init__(self, clock, numbers) -> None:
        self.name = "memcached"
        self._clock = clock
        self._entropy = numbers

    async def _ask(self, mode, timeout_s, command, *args):
        reply = await Request("l3", command, *(tuple(arg) if isinstance(arg, list) else arg for arg in args))
        return dict(reply) if command == "gets_many" else reply

    def probe(self) -> None:
        """Do nothing: the search never opens a breaker."""


class Server(NamedTuple):
    """One server: what it keeps as sorted (key, (value, token or None, when it ends)), the next number, its reign.

    And what its last command has sent to single processes: (name of the process, message).
    """

    data: tuple[tuple[str, tuple[Any, Any, float]], ...] = ()
    number: int = 1000
    reign: int = 1
    mail: tuple[tuple[str, bytes], ...] = ()

    def live(self, now: float) -> dict[str, tuple[Any, Any, float]]:
        return {key: entry for key, entry in self.data if entry[2] > now}

    def kept(self, data: dict[str, tuple[Any, Any, float]], number: int | None = None) -> Server:
        return Server(tuple(sorted(data.items())), self.number if number is None else number, self.reign)

    def without(self, key: str) -> Server:
        return Server(tuple(pair for pair in self.data if pair[0] != key), self.number, self.reign)

    def emptied(self) -> Server:
        return Server((), self.number, self.reign + 1)

    def succeeded(self, later: Server) -> Server:
        """Return a server that takes the place of `later` with what this one has."""
        return Server(self.data, max(self.number, later.number), later.reign + 1)

    def told(self, before: Server) -> int | None:
        """Return the number of the message that was sent since `before`, if there was one."""
        mine, old = (dict(server.data).get(NUMBER) for server in (self, before))
        return None if mine is None or mine == old or self.reign != before.reign else int(mine[0])


def redis_does(server: Server, now: float, what: tuple[Any, ...]) -> tuple[Server, Any]:
    """Return Redis after one command or script, and its reply.

    Args:
        server: Before it.
        now: Seconds.
        what: As `SteppedRedis` asks.
    """
    data, (command, *args) = server.live(now), what
    if command == "MGET":
        return server, tuple(data[key][0] if key in data else None for key in args)
    keys, *args = args
    scripts = {"open": _open, "write": _write, "drop": _drop, "replace": _replace, "pulse": _pulse, "time": _time}
    scripts |= {"lease": _lease, "release": _release, "renew": _renew}
    return scripts[command](server, data, now, keys, args)


def _open(server, data, now, keys, args):
    number, shown = _opened(data, server.number, now, keys, args[0])
    return server.kept(data, number), shown


def _opened(data, number, now, keys, life):
    for key in keys:
        if key not in data:
            number += 1
            data[key] = b"%d" % number, None, now + life / 1000
        elif data[key][2] - now < life / 1000:
            data[key] = data[key][0], None, now + life / 1000
    return number, tuple(data[key][0] for key in keys)


def _lease(server, data, now, keys, args):
    life, me, lease_life, *asks = args
    number, at, out = server.number, 0, []
    for each in range(0, len(asks), 4):
        count, is_absent, waits, loads = asks[each : each + 4]
        lease, key, *counters = keys[at : at + 2 + count]
        number, shown = _opened(data, number, now, counters, life)
        held, ends = dict(data[lease][0]) if lease in data else {}, data.get(lease, (None, None, now))[2]
        stands, left = b" ".join(shown), 0
        if is_absent and key in data:
            left = -1
        elif held and held["by"] != me and held["at"] == stands:
            held |= {f"w{me}": loads} if waits else {}
            left = max(1, round((ends - now) * 1000))
        else:
            held, ends = held | {"by": me, "at": stands}, now + lease_life / 1000
        if held:
            data[lease] = tuple(sorted(held.items())), None, ends
        out += [*shown, left]
        at += 2 + count
    return server.kept(data, number), tuple(out)


def _land(data, lease, holder, how, more=b""):
    held = dict(data[lease][0]) if lease in data else {}
    if (held.get("by"), held.get("at")) != holder:
        return ()
    del data[lease]
    return tuple((field[1:], f"{how} {lease}".encode() + more) for field in sorted(held) if field.startswith("w"))


def _release(server, data, now, keys, args):
    me, _where, how, *shown = args
    holders = [(lease, (me, at.encode())) for lease, at in zip(keys, shown, strict=True)]
    mail = tuple(each for lease, holder in holders for each in _land(data, lease, holder, how))
    return server.kept(data)._replace(mail=mail), 1


def _renew(server, data, now, keys, args):
    me, life = args
    for lease in keys:
        if lease in data and dict(data[lease][0])["by"] == me:
            data[lease] = data[lease][0], None, now + life / 1000
    return server.kept(data), 1


def _write(server, data, now, keys, args):
    lease = me = most = None
    if len(args) - len(keys) > 2:
        (*keys, lease), (*args, me, _where, most) = keys, args
    key, *counters = keys
    blob, life, counter_life, *expected = args
    holder = me, b" ".join(b"%d" % number for number in expected)
    for counter, number in zip(counters, expected, strict=True):
        if counter not in data or data[counter][0] != b"%d" % number:
            mail = _land(data, lease, holder, "f") if lease else ()
            return server.kept(data)._replace(mail=mail), 0
    for counter in counters:
        data[counter] = data[counter][0], None, max(data[counter][2], now + counter_life / 1000)
    data[key] = blob, None, now + life / 1000
    mail = _land(data, lease, holder, "f", b"\n" + blob if len(blob) <= most else b"") if lease else ()
    return server.kept(data)._replace(mail=mail), 1


def _drop(server, data, now, keys, args):
    count, counter_life, *told = args
    number, shown = server.number, []
    for counter in keys[:count]:
        if counter in data:
            number += 1
            data[counter] = b"%d" % number, None, max(data[counter][2], now + counter_life / 1000)
        shown.append(number + (counter not in data))
    for key in keys[count : len(keys) - bool(told)]:
        data.pop(key, None)
    if told:
        number = _tell(data, keys[-1], number, now)
    return server.kept(data, number), tuple(shown)


def _replace(server, data, now, keys, args):
    blob, life, counter_life, count, channel, _text, *expected = args
    counters, number = keys[1 : 1 + count], server.number
    shown = [data[counter][0] if counter in data else None for counter in counters]
    stands = shown == [b"%d" % wanted if wanted is not None else b"-" for wanted in expected]
    if counters[0] in data:
        number += 1
        data[counters[0]] = b"%d" % number, None, max(data[counters[0]][2], now + counter_life / 1000)
    reply = int(data[counters[0]][0]) if counters[0] in data else 0
    if stands:
        data[keys[0]] = blob, None, now + life / 1000
    else:
        data.pop(keys[0], None)
    if channel:
        number = _tell(data, keys[-1], number, now)
    return server.kept(data, number), reply if stands else -reply


def _time(server, data, now, keys, args):
    return server, divmod(int((EPOCH + now) * 1e6), 10**6)


def _tell(data, key, number, now):
    following = int(data[key][0]) + 1 if key in data else number + 1
    data[key] = b"%d" % following, None, now + 1e9
    return max(number, following)


def _pulse(server, data, now, keys, args):
    counted, guard, everything = keys
    number, reign = server.number, b"%d" % server.reign
    before = data.get(guard)
    if before is None or before[0] != reign:
        data[guard] = reign, None, now + 1e9
        if before is not None and everything in data:
            number += 1
            data[everything] = b"%d" % number, None, max(data[everything][2], now + args[0] / 1000)
            number = _tell(data, counted, number, now)
    if counted not in data:
        number += 1
        data[counted] = b"%d" % number, None, now + 1e9
    return server.kept(data, number), (data[counted][0], reign, 1)


def memcached_does(server: Server, now: float, what: tuple[Any, ...]) -> tuple[Server, Any]:
    """Return memcached after one command, and its reply.

    Args:
        server: Before it.
        now: Seconds.
        what: As `SteppedMemcached` asks.
    """
    data, (command, *args) = server.live(now), what
    if command == "gets_many":
        return server, tuple((key, data[key][:2]) for key in args[0] if key in data)
    key, blob, life, *token = args
    stands = {"add": key not in data, "cas": key in data and [data[key][1]] == token, "set": True}[command]
    if not stands:
        return server, False
    data[key] = blob, server.number + 1, now + life
    return server.kept(data, server.number + 1), True
