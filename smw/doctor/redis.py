"""Whether a Redis can do what smw wants of it: log in, answer, take writes, keep what it was given."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

from smw import _redis
from smw.doctor.network import STEP_S, Place, hang_up, reach, why_not
from smw.doctor.probe import in_daemon
from smw.doctor.redis_many import cluster_state, reachable
from smw.doctor.report import Finding
from smw.doctor.rights import rights
from smw.errors import SmwError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from smw._kernel.clock import Clock

__all__ = ["Redis", "findings"]

_PORT = 6379
_STREAMS_FROM = (6, 2)
_POOL = 64
_AFTER_LOGIN = ("role", "memory", "clients")


@dataclass(frozen=True, slots=True)
class Redis:
    """A Redis that the settings name.

    Args:
        name: Prefix of the findings, ``cache.l2`` or ``pipeline.redis``.
        url: Its URL.
        holder: The setting or variable that holds the URL.
        purpose: What is kept there.
        production: Whether the profile is production.
        workers: Processes that connect to it from this service.
        prefix: What keys of the cache begin with there.
    """

    name: str
    url: str
    holder: str
    purpose: Literal["cache", "streams"]
    production: bool
    workers: int = 1
    prefix: str = ""

    @property
    def kind(self) -> str:
        """``server``, ``sentinel`` or ``cluster``."""
        return _redis.parse(self.url).kind

    @property
    def place(self) -> Place:
        """Where it listens.

        Of several, the first.

        Raises:
            ValueError: The URL has a port that is no port.
        """
        several = _redis.parse(self.url).hosts
        if several:
            return Place(self.name, *several[0], self.holder, "a Redis")
        parts = urlsplit(self.url)
        path = unquote(parts.path) if parts.scheme == "unix" else ""
        return Place(
            self.name, parts.hostname or "localhost", parts.port or _PORT, self.holder, "a Redis", socket_path=path
        )


def _logged_in(url: str, clock: Clock) -> tuple[float, Mapping[str, Any] | Exception]:
    """Return how long a PING took and what INFO says, or why it says nothing; a failing login is raised."""
    client = _redis.blocking(url, timeout_s=STEP_S, max_connections=1)
    try:
        client.ping()
        started = clock.now()
        client.ping()
        took = clock.now() - started
        try:
            answer: Any = client.info()
        except Exception as error:  # noqa: BLE001 - not every server lets everybody ask
            answer = error
        return took, answer
    finally:
        client.close()


async def findings(redis: Redis, clock: Clock) -> AsyncIterator[Finding]:
    """Check resolve, connect, login, role, memory and clients, each on top of the one before."""
    try:
        place = redis.place
    except ValueError as error:
        fix = f"correct {redis.holder}: {_redis.form(redis.url)}"
        yield Finding(f"{redis.name}.resolve", "fail", f"{_redis.shown(redis.url)}: {error}", fix)
        return
    reached = False
    async for finding, is_open in _arrive(redis, place):
        yield finding
        reached = reached or is_open
    if not reached:
        for finding in _unchecked(redis, ("auth", "ping", *_AFTER_LOGIN), "no connection"):
            yield finding
        return
    try:
        took, info = await in_daemon(lambda: _logged_in(redis.url, clock))
    except Exception as error:  # noqa: BLE001 - whatever the client raises is sorted below
        failed = _login_failed(redis, place, error)
        yield failed
        step = "login" if failed.name.endswith(".auth") else "PING"
        for finding in _unchecked(redis, _AFTER_LOGIN, f"asked only after a {step} that works"):
            yield finding
        return
    yield Finding(f"{redis.name}.auth", "ok", _login(redis))
    yield Finding(f"{redis.name}.ping", "ok", f"answers in {took * 1000:.1f} ms")
    if redis.prefix:
        yield await _rights(redis)
    if redis.kind == "cluster":
        yield await in_daemon(lambda: cluster_state(redis.url, f"{redis.name}.cluster", redis.holder))
    if isinstance(info, Exception):
        for finding in _unchecked(redis, _AFTER_LOGIN, "this user may not ask INFO", "allow it: ACL SETUSER ... +info"):
            yield finding
        return
    for finding in _from_info(redis, info):
        yield finding


async def _rights(redis: Redis) -> Finding:
    name = f"{redis.name}.rights"
    try:
        return await in_daemon(lambda: rights(redis.url, name, redis.holder, redis.prefix))
    except Exception as error:  # noqa: BLE001 - whatever the client raises; the steps beside it tell of it
        return Finding(name, "not checked", f"the trials ended early ({_redis.kind_of_failure(error)[0]})")


async def _arrive(redis: Redis, place: Place) -> AsyncIterator[tuple[Finding, bool]]:
    """Yield what came of connecting, and whether it is enough to go on."""
    if redis.kind == "server":
        async for finding, opened in reach(place):
            yield finding, opened is not None
            if opened is not None:
                hang_up(opened)
        return
    what = "sentinels" if redis.kind == "sentinel" else "nodes"
    finding = await reachable(f"{redis.name}.{what}", _redis.parse(redis.url).hosts, redis.holder, "a Redis")
    yield finding, finding.verdict != "fail"


def _unchecked(redis: Redis, steps: tuple[str, ...], why: str, fix: str = "") -> Iterator[Finding]:
    for step in steps:
        yield Finding(f"{redis.name}.{step}", "not checked", why, fix)


def _login(redis: Redis) -> str:
    parts = urlsplit(redis.url)
    if not (parts.username or parts.password):
        return f"answers PING without a login; {redis.holder} names none"
    who = f"user {parts.username}" if parts.username else "the default user"
    return f"answers PING to {who}, {'with a password' if parts.password else 'without a password'}"


def _login_failed(redis: Redis, place: Place, error: Exception) -> Finding:
    """Name the cause of a failed login or PING, and the setting that holds it."""
    if isinstance(error, SmwError):
        return Finding(f"{redis.name}.ping", "fail", error.what, error.fix or "")
    kind, _ = _redis.kind_of_failure(error)
    if kind in ("auth", "permission"):
        return _auth_failed(redis, str(error))
    if kind == "master-name":
        return Finding(f"{redis.name}.auth", "fail", str(error), f"correct the name of the master in {redis.holder}")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            fix = f"correct the certificate of {place.address}, or scheme and options in {redis.holder}"
            if "CERTIFICATE_REQUIRED" in (cause.reason or ""):
                fix = f"add ssl_certfile= and ssl_keyfile= to {redis.holder}"
            if isinstance(cause, ssl.SSLCertVerificationError):
                fix += _redis.strictness(cause)
            return Finding(f"{redis.name}.auth", "fail", f"{place.address}: {why_not(cause)}", fix)
        cause = cause.__cause__ or cause.__context__
    if kind == "connection" and "not ready" in str(error):
        kind = "protocol"  # redis-py found words on the line before it had said anything
    where = f"correct host and port in {redis.holder}"
    state = "without TLS (redis://)" if redis.url.startswith("rediss:") else "overloaded"
    stopped, other = f"is it stopped, or {state}? or {where}", f"a Redis that wants TLS (rediss://)? or {where}"
    wrong = f"correct the database number or the options in {redis.holder}"
    if redis.kind == "sentinel" and kind == "other-server":
        fix = f"name the Sentinels in {redis.holder}, which listen on 26379, or write {_redis.form('redis://')}"
        return Finding(f"{redis.name}.ping", "fail", f"{place.address}: a Redis answers there that is no Sentinel", fix)
    seen, fix = {
        "timeout": (f"accepts connections, but gave no answer within {STEP_S:g} s", stopped),
        "protocol": ("something answers there, but it is no Redis", where),
        "connection": ("accepts connections and closes them", other),
        "refused": ("connection refused, nothing listens there", f"start a Redis there, or {where}"),
        "loading": ("is loading its data and does not answer yet", "wait until it has loaded"),
        "busy": ("takes no more connections", "raise maxclients of the server"),
        "other-server": (f"refuses: {str(error)[:60]}", where),
        "answer": (f"refuses: {str(error)[:60]}", wrong),
        "database": (f"refuses: {str(error)[:60]}", f"correct the number of the database in {redis.holder}"),
    }.get(kind, (f"failed ({kind})", where))
    return Finding(f"{redis.name}.ping", "fail", f"{place.address}: {seen}", fix)


def _auth_failed(redis: Redis, text: str) -> Finding:
    parts = urlsplit(redis.url)
    form = f"{parts.scheme}://USER:PASSWORD@HOST"
    if "without any password configured" in text:
        seen, fix = "a password is given, but the server has none", f"take the password out of {redis.holder}"
    elif parts.password is None:
        seen, fix = "the server wants a password, none is given", f"put it into {redis.holder}: {form}"
    elif "no permissions" in text.lower() or "NOPERM" in text:
        who = parts.username or "default"
        seen, fix = f"the user {who} may not use PING", f"ACL SETUSER {who} +ping"
    else:
        seen, fix = "the server refuses user or password", f"correct them in {redis.holder}: {form}"
    return Finding(f"{redis.name}.auth", "fail", seen, fix)


def _from_info(redis: Redis, info: Mapping[str, Any]) -> Iterator[Finding]:
    version = str(info.get("redis_version", "unknown"))
    role = info.get("role")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    mode = info.get("redis_mode", "standalone")
    if other := _other_mode(redis, str(mode)):
        yield Finding(f"{redis.name}.role", "fail", f"{other[0]}, Redis {version}", other[1])
    elif role == "slave" and redis.kind != "cluster":
        fix = f"name its primary in {redis.holder}"
        yield Finding(f"{redis.name}.role", "fail", f"a replica, which refuses writes (READONLY), Redis {version}", fix)
    elif redis.purpose == "streams" and numbers and numbers < _STREAMS_FROM:
        yield Finding(f"{redis.name}.role", "fail", f"Redis {version}", "streams with groups need Redis 6.2")
    else:
        shown = "a node" if redis.kind == "cluster" else "primary"
        yield Finding(f"{redis.name}.role", "ok", f"{shown}, Redis {version}")
    yield _memory(redis, info)
    yield _clients(redis, info)


def _other_mode(redis: Redis, mode: str) -> tuple[str, str] | None:
    """Return what answers there and what to do about it, where it is another kind of server than the URL's."""
    if mode == "cluster" and redis.kind != "cluster":
        form = f"write {_redis.form('redis+cluster://')}" if redis.purpose == "cache" else "name a Redis that is none"
        return "a node of a cluster, which refuses the keys of others", f"{form} in {redis.holder}"
    if mode == "sentinel":
        return "a Sentinel, which keeps nothing", f"write {_redis.form('redis+sentinel://')} in {redis.holder}"
    return None


def _memory(redis: Redis, info: Mapping[str, Any]) -> Finding:
    name = f"{redis.name}.memory"
    policy = info.get("maxmemory_policy")
    if policy is None:
        return Finding(name, "not checked", "the server does not tell its maxmemory-policy")
    limit = int(info.get("maxmemory", 0))
    seen = f"maxmemory {limit // 2**20} MB, {policy}" if limit else "no maxmemory"
    if redis.purpose == "streams":
        if limit and str(policy).startswith("allkeys"):
            fix = "maxmemory-policy noeviction or volatile-lru, or a Redis of its own for streams"
            return Finding(name, "fail", f"{seen}: records that were accepted may be evicted", fix)
        return Finding(name, "ok", seen)
    fix = "maxmemory-policy allkeys-lru or allkeys-lfu; beside what must stay, which has no time to live, volatile-lru"
    if limit and policy == "noeviction":
        seen = f"{seen}: a full server refuses to store"
    elif limit and str(policy).endswith("-random"):
        seen = f"{seen}: counters go as readily as values, and with each of them all that rests on it"
    elif not limit and redis.production:
        seen, fix = f"{seen}: it may fill the machine", f"set maxmemory, {fix}"
    else:
        return Finding(name, "ok", seen)
    return Finding(name, "warn", seen, fix)


def _clients(redis: Redis, info: Mapping[str, Any]) -> Finding:
    name = f"{redis.name}.clients"
    most, now = int(info.get("maxclients", 0)), int(info.get("connected_clients", 0))
    if not most:
        return Finding(name, "ok", f"{now} connected")
    wanted = _POOL * redis.workers
    seen = f"{now} of {most} connected"
    if now + wanted > most:
        return Finding(name, "warn", f"{seen}; this service may want {wanted}", "raise maxclients of the server")
    return Finding(name, "ok", seen)
