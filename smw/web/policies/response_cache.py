"""Answers GET and HEAD from what the application explicitly allowed to be stored; declines all else."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urljoin, urlsplit

from smw.web.exchange import Exchange, Fields, Policy, Proceed, Reply, Tap
from smw.web.http_cache import rules
from smw.web.http_cache.declined import Declined
from smw.web.http_cache.entry import Stored
from smw.web.source import PolicySource

if TYPE_CHECKING:
    from smw._kernel.host import Host
    from smw.cache.region import Mark, Region
    from smw.runtime import Runtime

__all__ = ["ResponseCache", "ResponseCacheSource"]

_log = logging.getLogger("smw.web")
_SAFE = ("OPTIONS", "TRACE", "QUERY")
_INDEX_S = 86_400.0


class ResponseCacheSource(PolicySource):
    """Makes the response cache; its entries live in the levels of the runtime's cache."""

    name: ClassVar[str] = "cache"
    rank: ClassVar[int] = 40
    takes: ClassVar[Mapping[str, str]] = {"response_cache_max_bytes": "web"}

    def bind(self, runtime: Runtime) -> Policy | None:
        """Return the policy, or None where nothing may be stored."""
        from smw.settings import WebSettings

        most_bytes = self.effective(runtime.settings, WebSettings).response_cache_max_bytes
        if most_bytes == 0:
            return None
        return ResponseCache(runtime.cache.region("http"), runtime.host, most_bytes=most_bytes)


class ResponseCache(Policy):
    """A shared cache in the sense of RFC 9111 that only ever declines.

    It stores a complete answer to GET that says how long it is fresh, and uses it while it is. A request with
    Authorization, Range or a body passes by, and so does an answer with Set-Cookie, ``private``, ``no-cache``,
    ``no-store`` or ``Vary: *``. A request with cookies gets and gives only what is ``public`` or has ``s-maxage``.

    Args:
        region: Where entries live.
        host: Clock and randomness.
        most_bytes: Largest body that is stored.
    """

    def __init__(self, region: Region, host: Host, *, most_bytes: int) -> None:
        self.region = region
        self.host = host
        self.most_bytes = most_bytes
        self.declined = Declined()

    async def around(self, exchange: Exchange, proceed: Proceed) -> Reply | None:
        """Answer from the store, or let the application answer and keep that."""
        if exchange.method not in ("GET", "HEAD"):
            if exchange.method not in _SAFE:
                exchange.tap = _Invalidation(self, exchange)
            return await proceed()
        uri = uri_of(exchange, exchange.target)
        if not self.declined.covers(uri, exchange.began_s):
            wish = rules.read_wish(exchange.fields)
            if not wish.store:
                return await proceed()
            stored = await self._find(exchange, uri_key(uri)) if wish.lookup else None
            if stored is not None and rules.may_use(stored, wish, now=self.host.clock.wall()):
                exchange.recall(stored.route)
                return self._reply(stored, exchange.fields)
        if exchange.method == "GET":
            exchange.tap = _Recording(self, exchange, uri)
        return await proceed()

    async def _find(self, exchange: Exchange, key: str) -> Stored | None:
        try:
            found = await self.region.get_in(exchange.mode, key)
            if isinstance(found, Mapping) and "index" in found:
                vary = tuple(found["vary"])
                found = await self.region.get_in(exchange.mode, _variant_key(key, found["index"], vary, exchange))
        except Exception:  # noqa: BLE001 - the application can answer
            _log.exception("a stored response could not be looked up")
            return None
        return None if found is None else Stored.load(found)

    def _reply(self, stored: Stored, fields: Fields) -> Reply:
        age = ("age", str(int(stored.current_age_s(self.host.clock.wall()))))
        if rules.is_not_modified(stored, fields):
            kept = tuple((name, value) for name, value in stored.headers if name.lower() in _IN_304)
            return Reply(304, b"", (*kept, age))
        return Reply(stored.status, stored.body, (*stored.headers, age))

    async def keep(self, exchange: Exchange, key: str, stored: Stored, *, since: Mark) -> None:
        """Store a complete response, unless its URI was dropped after `since`."""
        if not self.region.keeps_any:
            return  # the processes that keep responses keep theirs
        left_s = stored.lifetime_s - stored.age_s
        place = key
        if stored.vary:
            index = await self._index(exchange, key, stored.vary, left_s, since=since)
            place = _variant_key(key, index, stored.vary, exchange)
        await self.region.put_in(exchange.mode, place, stored.dump(), left_s, since=since)

    async def _index(self, exchange: Exchange, key: str, vary: tuple[str, ...], left_s: float, *, since: Mark) -> str:
        """Return the name under which the variants of a URI lie; dropping it makes all of them unreachable."""
        found = await self.region.get_in(exchange.mode, key)
        if isinstance(found, Mapping) and tuple(found.get("vary", ())) == vary and "index" in found:
            index = str(found["index"])
        else:
            index = self.host.entropy.token_bytes(8).hex()
        plain = {"index": index, "vary": list(vary)}
        await self.region.put_in(exchange.mode, key, plain, max(_INDEX_S, left_s), since=since)
        return index

    async def drop(self, exchange: Exchange, key: str) -> None:
        """Forget every variant of a URI."""
        await self.region.drop_in(exchange.mode, keys=(key,))


_IN_304 = frozenset({"cache-control", "content-location", "date", "etag", "expires", "vary", "last-modified"})


class _Recording(Tap):
    """Keeps a copy of an answer on its way out and stores it once the last byte has gone."""

    only_with = frozenset({b"cache-control", b"expires"})

    def __init__(self, cache: ResponseCache, exchange: Exchange, uri: str) -> None:
        self._cache = cache
        self._exchange = exchange
        self._uri = uri
        self._since = cache.region.mark()
        self._stored: Stored | None = None
        self._length: str | None = None
        self._chunks: list[bytes] = []
        self._bytes = 0

    async def starting(self, status: int, fields: Fields) -> None:
        """Decide whether to keep it."""
        wish = rules.read_wish(self._exchange.fields)
        self._stored = rules.storable(wish, status, fields, now=self._cache.host.clock.wall())
        self._length = fields.get("content-length")
        if self._stored is not None and (self._length is None or self._length_fits()):
            self._cache.declined.remove(self._uri)
            return
        self._exchange.tap = None
        if wish.store and not wish.has_cookie:  # else it may still be kept for others
            self.passed()

    def passed(self) -> None:
        """Remember that looking it up again is of no use."""
        self._cache.declined.add(self._uri, self._exchange.began_s)

    def _length_fits(self) -> bool:
        text = self._length or ""
        return text.isascii() and text.isdecimal() and len(text) < 19 and int(text) <= self._cache.most_bytes

    def chunk(self, data: bytes) -> None:
        """Copy a piece; give up above the limit."""
        self._bytes += len(data)
        if self._bytes > self._cache.most_bytes:
            self._chunks.clear()
            self._exchange.tap = None
            return
        self._chunks.append(bytes(data))

    async def completed(self) -> None:
        """Store it, unless it is incomplete or was invalidated meanwhile."""
        stored, cache = self._stored, self._cache
        if stored is None or (self._length is not None and int(self._length) != self._bytes):
            return
        whole = stored.completed(b"".join(self._chunks), self._exchange.route)
        await cache.keep(self._exchange, uri_key(self._uri), whole, since=self._since)


class _Invalidation(Tap):
    """Forgets what an unsafe request has changed, before its answer reaches the client."""

    def __init__(self, cache: ResponseCache, exchange: Exchange) -> None:
        self._cache = cache
        self._exchange = exchange

    async def starting(self, status: int, fields: Fields) -> None:
        """Drop the URI, and those that the answer names as changed, when the request succeeded."""
        exchange = self._exchange
        exchange.tap = None
        if not 200 <= status < 400:
            return
        targets = {exchange.target}
        base = f"{exchange.scheme}://{exchange.header('host') or ''}"
        for name in ("location", "content-location"):
            named = urlsplit(urljoin(base + exchange.target, fields.get(name, "")))
            if f"{named.scheme}://{named.netloc}" == base and named.path:
                targets.add(f"{named.path}?{named.query}" if named.query else named.path)
        for target in targets:
            await self._cache.drop(exchange, uri_key(uri_of(exchange, target)))


def uri_of(exchange: Exchange, target: str) -> str:
    """Return the URI of a target on the host that was asked."""
    host = (exchange.header("host") or "").lower()
    if ":" in host:
        host = host.removesuffix(":80" if exchange.scheme == "http" else ":443")
    return f"{exchange.scheme}://{host}{target}"


def uri_key(uri: str) -> str:
    """Return the key of a URI: a digest, because paths and queries may carry secrets."""
    return hashlib.sha256(uri.encode("utf-8", "surrogateescape")).hexdigest()


def _variant_key(key: str, index: str, vary: tuple[str, ...], exchange: Exchange) -> str:
    return f"{key}:{index}:{rules.variant(vary, exchange.fields)}"
