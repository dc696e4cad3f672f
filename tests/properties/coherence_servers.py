"""Redis and memcached as pure functions of a state, and the real stores speaking to them step by step."""

from __future__ import annotations

from typing import Any, NamedTuple

from smw.cache.coherence.wire import Wire
from smw.cache.ports import StoreFailedError
from smw.cache.stores import redis_scripts
from smw.cache.stores.memcached import MemcachedStore
from smw.cache.stores.memcached_gets import found_in
from smw.cache.stores.redis import RedisStore

NUMBER = "smw:m:b:n"
"""Key of the number of the newest message."""
GUARD = "smw:m:b:g"
"""Key under which the reign of the server is kept."""
BEGAN = {NUMBER: b"100", GUARD: b"1"}
"""What both are when a search begins."""
EPOCH = 10_000.0
"""What the clock of Redis shows when a search begins."""
MOST, MOST_DIGITS = 2**53, 16
"""What a counter is below, and how many digits it has at most."""
UNHEARD = 2
"""How far the number of messages jumps when it was lost: what follows the last one heard is never the next."""
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
            redis_scripts.WAITERS: "waiters",
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

    async def read(self, key, counters, *, mode, timeout_s):
        keys = (*counters, key)
        return found_in(await self._ask(mode, timeout_s, "gets_many", keys), keys)

    async def _ask(self, mode, timeout_s, command, *args):
        reply = await Request("l3", command, *(tuple(arg) if isinstance(arg, list) else arg for arg in args))
        return dict(reply) if command == "gets_many" else reply

    def probe(self) -> None:
        """Do nothing: the search never opens a breaker."""


class Server(NamedTuple):
    """One server: what it keeps as sorted (key, (value, token or None, when it ends)), the next number, its reign.

    And what its last command has sent: (name of the process, message) to single ones, ("", number) to all.
    """

    data: tuple[tuple[str, tuple[Any, Any, float]], ...] = ()
    number: int = 1000
    reign: int = 1
    mail: tuple[tuple[str, bytes], ...] = ()

    def live(self, now: float) -> dict[str, tuple[Any, Any, float]]:
        return {key: entry for key, entry in self.data if entry[2] > now}

    def kept(self, data: dict[str, tuple[Any, Any, float]], number: int | None = None, mail: Any = ()) -> Server:
        return Server(tuple(sorted(data.items())), self.number if number is None else number, self.reign, mail)

    def without(self, key: str) -> Server:
        return Server(tuple(pair for pair in self.data if pair[0] != key), self.number, self.reign)

    def emptied(self) -> Server:
        return Server((), self.number, self.reign + 1)

    def succeeded(self, later: Server) -> Server:
        """Return a server that takes the place of `later` with what this one has."""
        return Server(self.data, max(self.number, later.number), later.reign + 1)

    @property
    def told(self) -> int | None:
        """The number of the message that its last command has sent to all, if there was one."""
        return next((int(message) for name, message in self.mail if not name), None)


def text_of(what: tuple[Any, ...]) -> str:
    """Return what Redis tells everybody when it does that."""
    return what[7] if what[0] == "replace" else what[-1]


def redis_does(server: Server, now: float, what: tuple[Any, ...]) -> tuple[Server, Any]:
    """Return Redis after one command or script, and its reply.

    Args:
        server: Before it.
        now: Seconds.
        what: As `SteppedRedis` asks.
    """
    data, (command, *args) = server.live(now), what
    if command == "MGET":
        return server, tuple(_string(data, key) for key in args)
    keys, *args = args
    scripts = {"open": _open, "write": _write, "drop": _drop, "replace": _replace, "pulse": _pulse, "time": _time}
    scripts |= {"lease": _lease, "release": _release, "renew": _renew, "waiters": _waiters}
    return scripts[command](server, data, now, keys, args)


def _string(data, key):
    """Return the bytes under a key: a lease is a tuple of its fields, and what is of any other type a word for it."""
    value = data[key][0] if key in data else None
    return value if isinstance(value, bytes) else None


def _held(data, lease):
    value = data[lease][0] if lease in data else ()
    return dict(value) if isinstance(value, tuple) else {}


def _number(data, key):
    """Return what a counter shows, having taken away what is none."""
    raw = _string(data, key)
    if raw is not None and len(raw) <= MOST_DIGITS and raw.isdigit() and int(raw) < MOST and not raw.startswith(b"0"):
        return raw
    data.pop(key, None)
    return None


def _raised(data, key, life, number, now):
    number += 1
    data[key] = b"%d" % max(number, int(data[key][0]) + 1), None, max(data[key][2], now + life / 1000)
    return number


def _open(server, data, now, keys, args):
    number, shown = _opened(data, server.number, now, keys, args[0])
    _renewed(data, now, keys, args[0])
    return server.kept(data, number), shown


def _opened(data, number, now, keys, life):
    for key in keys:
        if _number(data, key) is None:
            number += 1
            data[key] = b"%d" % number, None, now + life / 1000
    return number, tuple(data[key][0] for key in keys)


def _renewed(data, now, keys, life):
    for key in keys:
        if (data[key][2] - now) * 2 < life / 1000:
            data[key] = data[key][0], None, now + life / 1000


def _lease(server, data, now, keys, args):
    life, me, lease_life, *asks = args
    number, at, out = server.number, 0, []
    for each in range(0, len(asks), 4):
        count, is_absent, waits, loads = asks[each : each + 4]
        lease, key, *counters = keys[at : at + 2 + count]
        number, shown = _opened(data, number, now, counters, life)
        held, (*_, ends) = _held(data, lease), data.pop(lease, (now,))
        stands, left = b" ".join(shown), 0
        if is_absent and _string(data, key) is not None:
            left = -1
        elif held.get("by", me) != me and held["at"] == stands:
            told = held.get(f"w{me}", "")
            held |= {f"w{me}": told if loads in told else f"{told} {loads}"} if waits else {}
            left = max(1, round((ends - now) * 1000))
        else:
            _renewed(data, now, counters, life)
            held, ends = held | {"by": me, "at": stands}, now + lease_life / 1000
        if held:
            data[lease] = tuple(sorted(held.items())), None, ends
        out += [*shown, left]
        at += 2 + count
    return server.kept(data, number), tuple(out)


def _waiters(server, data, now, keys, args):
    fields = [field for lease in keys for field in _held(data, lease).items()]
    return server, tuple(loads.encode() for name, loads in fields if name.startswith("w") and loads)


def _land(data, lease, holder, how, more=b""):
    held = _held(data, lease)
    if (held.get("by"), held.get("at")) != holder:
        return ()
    del data[lease]
    return tuple((field[1:], f"{how} {lease}".encode() + more) for field in sorted(held) if field.startswith("w"))


def _release(server, data, now, keys, args):
    me, _where, how, *shown = args
    holders = [(lease, (me, at.encode())) for lease, at in zip(keys, shown, strict=True)]
    mail = tuple(each for lease, holder in holders for each in _land(data, lease, holder, how))
    return server.kept(data, mail=mail), 1


def _renew(server, data, now, keys, args):
    me, life = args
    for lease in keys:
        if _held(data, lease).get("by") == me:
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
            return server.kept(data, mail=mail), 0
    for counter in counters:
        data[counter] = data[counter][0], None, max(data[counter][2], now + counter_life / 1000)
    data[key] = blob, None, now + life / 1000
    mail = _land(data, lease, holder, "f", b"\n" + blob if len(blob) <= most else b"") if lease else ()
    return server.kept(data, mail=mail), 1


def _drop(server, data, now, keys, args):
    count, counter_life, *told = args
    number, shown, mail = server.number, [], ()
    for counter in keys[:count]:
        if _number(data, counter) is None:
            shown.append(number + 1)
            continue
        number = _raised(data, counter, counter_life, number, now)
        shown.append(int(data[counter][0]))
    for key in keys[count : len(keys) - bool(told)]:
        data.pop(key, None)
    if told:
        number, mail = _tell(data, keys[-1], counter_life, number, now)
    return server.kept(data, number, mail), tuple(shown)


def _replace(server, data, now, keys, args):
    blob, life, counter_life, count, channel, _text, *expected = args
    counters, number, mail, reply = keys[1 : 1 + count], server.number, (), 0
    stands = all(_string(data, name) == b"%d" % wanted for name, wanted in zip(counters, expected, strict=True))
    if _number(data, counters[0]) is not None:
        number = _raised(data, counters[0], counter_life, number, now)
        reply = int(data[counters[0]][0])
    if stands:
        for counter in counters[1:]:
            data[counter] = data[counter][0], None, max(data[counter][2], now + counter_life / 1000)
        data[keys[0]] = blob, None, now + life / 1000
    else:
        data.pop(keys[0], None)
    if channel:
        number, mail = _tell(data, keys[-1], counter_life, number, now)
    return server.kept(data, number, mail), reply if stands else -reply


def _time(server, data, now, keys, args):
    return server, divmod(int((EPOCH + now) * 1e6), 10**6)


def _tell(data, key, life, number, now):
    old = _number(data, key)
    following = number + UNHEARD if old is None else int(old) + 1
    data[key] = b"%d" % following, None, now + life / 1000
    return max(number, following), (("", b"%d" % following),)


def _pulse(server, data, now, keys, args):
    counted, guard, everything = keys
    number, reign, life, mail = server.number, b"%d" % server.reign, args[0], ()
    newest, before = _number(data, counted), _string(data, guard)
    if before != reign:
        data[guard] = reign, None, now + life / 1000
        if _number(data, everything) is not None and before is not None:
            number = _raised(data, everything, life, number, now)
            number, mail = _tell(data, counted, life, number, now)
    if newest is None and not mail:
        number += UNHEARD
        data[counted] = b"%d" % number, None, now + life / 1000
    _renewed(data, now, (counted, guard), life)
    return server.kept(data, number, mail), (data[counted][0], reign, 1)


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
