"""Builds names, envelope and levels from settings; decides nothing about values."""

from __future__ import annotations

import hashlib
import logging
import zlib
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from smw._redis.whereabouts import whereabouts
from smw.cache.coherence.wire import Wire
from smw.cache.levels.level import Level
from smw.cache.levels.remote import Remote, Tier
from smw.cache.naming.names import Names
from smw.cache.stores.plugged import store_at
from smw.cache.values.envelope import Envelope
from smw.settings import encrypts

if TYPE_CHECKING:
    from collections.abc import Callable

    from smw._kernel.host import Host
    from smw.cache.coherence.fence import Fence
    from smw.cache.ports import Store
    from smw.cache.stores.redis_cluster import Shard
    from smw.settings import CacheSettings

__all__ = ["envelope_of", "names_of", "names_within", "remote_of"]

_log = logging.getLogger("smw.cache")
_COMPRESS_FROM = 1024


def names_of(settings: CacheSettings, host: Host) -> Names:
    """Return how keys are called: in the namespace, and guessable by nobody where there is a secret."""
    namespace = settings.namespace or host.service
    if not namespace and (settings.l2_host or settings.l3_servers):
        _log.warning(
            "no cache namespace and no service name: services on one server share tags, and keys of functions of the "
            "same name; set CACHE_NAMESPACE, SMW_SERVICE or OTEL_SERVICE_NAME"
        )
    secret = b""
    if settings.encryption_keys:
        # The last key is the one that all processes know while a new first one is rolled out.
        last = list(settings.encryption_keys.values())[-1]
        secret = hashlib.blake2b(b"names", digest_size=32, key=last, person=b"smw-cache").digest()
    return Names(namespace or "default", secret)


def names_within(names: Names, settings: CacheSettings, host: Host, function: str) -> Names:
    """Return how the keys of one function are called: where nothing names the service, apart from other programs'.

    Tags stay common to all without a name, so that the processes of one service drop from each other however each of
    them was started; one drop too many costs a reload.

    Args:
        names: The cache's.
        settings: The cache's.
        host: The cache's.
        function: ``module:qualname``.
    """
    if settings.namespace or host.service:
        return names
    return names.owned(function.partition(":")[0].partition(".")[0])


def envelope_of(settings: CacheSettings, host: Host) -> Envelope:
    """Return how stored bytes are packed.

    Raises:
        ConfigError: Encryption without a key in production, or pickles without encryption.
        MissingExtra: The package cryptography is not installed.
    """
    seal, keys = None, dict(settings.encryption_keys)
    if encrypts(settings, host.profile):
        if not keys:
            _log.warning("cache encryption without a key: using one that only this process knows")
            keys = {"process": host.entropy.token_bytes(32)}
        from smw.cache.values.seal import Seal

        seal = Seal(keys, host.entropy)
    return Envelope(compress_from=_COMPRESS_FROM if settings.compression else None, seal=seal)


def remote_of(settings: CacheSettings, host: Host, *, fence: Fence, envelope: Envelope, everything: str) -> Remote:
    """Return the levels behind memory.

    Raises:
        ConfigError: A server's address is refused.
        MissingExtra: The client of a server is not installed.
    """
    count = bool(settings.l2_host) + bool(settings.l3_servers)
    timeout_s = settings.budget_ms / 1000 / max(1, count)
    tiers: list[Tier] = []
    url = settings.l2_host
    if url and urlsplit(url).scheme in ("redis+cluster", "rediss+cluster"):
        tiers.append(_cluster(url, host, timeout_s, everything))
    elif url:
        store = store_at(url, host, timeout_s=timeout_s) or _redis(url, timeout_s)
        level = Level("l2", store, host, timeout_s=timeout_s, everything=everything)
        level.first = getattr(store, "caution", None)
        if urlsplit(url).scheme in ("redis+sentinel", "rediss+sentinel"):
            whereabouts(url).listen(level.distrust)  # this process's own drops may have gone to the old master
        tiers.append(Tier("l2", (level,), lambda _key: level))
    if settings.l3_servers:
        tiers.append(_memcached(settings, host, timeout_s, everything))
    caps_s = {"l2": settings.l2_ttl, "l3": settings.l3_ttl}
    given = {name: cap for name, cap in caps_s.items() if cap is not None}
    return Remote(tiers, envelope=envelope, fence=fence, clock=host.clock, caps_s=given)


def _redis(url: str, timeout_s: float) -> Store:
    from smw.cache.stores.redis import RedisStore

    return RedisStore(url, timeout_s=timeout_s)


def _cluster(url: str, host: Host, timeout_s: float, everything: str) -> Tier:
    from smw.cache.stores.redis_cluster import Cluster

    cluster = Cluster(url, Wire(everything, host.entropy), timeout_s=timeout_s)
    levels = tuple(Level("l2", shard, host, timeout_s=timeout_s, everything=everything) for shard in cluster.shards)

    def together(shard: Shard) -> list[Level]:
        return [levels[number] for number in cluster.neighbours(shard)]

    for level, shard in zip(levels, cluster.shards, strict=True):
        level.together = partial(together, shard)
        shard.on_moved = level.distrust
    levels[0].first = cluster.shards[0].caution  # the nodes of a cluster are set alike
    return Tier("l2", levels, lambda key: levels[zlib.crc32(key.encode()) % len(levels)])


def _memcached(settings: CacheSettings, host: Host, timeout_s: float, everything: str) -> Tier:
    levels = {}
    for server in settings.l3_servers:
        store = store_at(server, host, timeout_s=timeout_s)
        if store is None:
            from smw.cache.stores.memcached import MemcachedStore

            store = MemcachedStore(server, timeout_s=timeout_s, clock=host.clock, entropy=host.entropy)
        levels[server] = Level("l3", store, host, timeout_s=timeout_s, everything=everything)
    of: Callable[[str], Level]
    if len(levels) == 1:
        only = next(iter(levels.values()))
        of = lambda _key: only  # noqa: E731
    else:
        from smw.cache.stores.memcached import spread

        pick = spread(tuple(levels))
        of = lambda key: levels[pick(key)]  # noqa: E731
    return Tier("l3", tuple(levels.values()), of)
