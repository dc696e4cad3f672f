"""Decides what a shared cache may store, use and answer (RFC 9111); whatever it does not understand it declines."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smw.web.http_cache.entry import Stored
from smw.web.http_cache.fields import Directives, delta_seconds, directives, entity_tags, http_date, names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smw.web.exchange import Fields

__all__ = ["Wish", "is_not_modified", "may_use", "read_wish", "storable", "variant"]

# Final statuses whose meaning does not depend on anything but the target, and which clients expect to be cached.
_STATUSES = frozenset({200, 203, 301, 308, 404, 410})
# Requests with these ask for something a stored whole response is no sure answer to.
_BEYOND = ("authorization", "range", "if-range", "if-match", "if-unmodified-since", "transfer-encoding")
_NOT_STORED = frozenset({
    "age", "connection", "keep-alive", "proxy-authenticate", "proxy-authentication-info", "proxy-authorization",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
_LONGEST_S = 365 * 86_400


@dataclass(frozen=True, slots=True)
class Wish:
    """What the request allows.

    Args:
        lookup: A stored response may answer.
        store: The response may be stored.
        has_cookie: The client sent cookies, so only responses meant for everybody count.
        max_age_s: Oldest acceptable response; None is any.
        min_fresh_s: It must stay fresh for this long.
    """

    lookup: bool = True
    store: bool = True
    has_cookie: bool = False
    max_age_s: int | None = None
    min_fresh_s: int = 0


_PASS = Wish(lookup=False, store=False)


def read_wish(fields: Mapping[str, str]) -> Wish:
    """Return what the header fields of a GET or HEAD request allow."""
    if any(name in fields for name in _BEYOND) or fields.get("content-length", "0") != "0":
        return _PASS
    wanted = directives(fields.get("cache-control"))
    if wanted is None or "no-store" in wanted:
        return _PASS
    ages = [delta_seconds(text) for text in wanted.get("max-age", ())]
    fresh = [delta_seconds(text) for text in wanted.get("min-fresh", ())]
    legacy = "cache-control" not in fields and "no-cache" in fields.get("pragma", "").lower()
    return Wish(
        lookup="no-cache" not in wanted and not legacy and None not in ages and None not in fresh,
        has_cookie="cookie" in fields,
        max_age_s=min((age for age in ages if age is not None), default=None),
        min_fresh_s=max((seconds for seconds in fresh if seconds is not None), default=0),
    )


def storable(wish: Wish, status: int, fields: Fields, *, now: float) -> Stored | None:
    """Return the response as it may be stored, body still missing, or None.

    Args:
        wish: What the request allows.
        status: Status of the response.
        fields: Its header fields.
        now: Seconds since the epoch.
    """
    if not wish.store or status not in _STATUSES or "set-cookie" in fields or "content-range" in fields:
        return None
    said = directives(fields.get("cache-control"))
    if said is None or not said.keys().isdisjoint({"no-store", "private", "no-cache"}):
        return None
    shared = "public" in said or "s-maxage" in said
    vary = names(fields.get("vary", ""))
    if "*" in vary or (wish.has_cookie and not shared):
        return None
    age_s = delta_seconds(fields.get("age", "0").partition(",")[0].strip()) or 0
    lifetime_s = min(_lifetime_s(said, fields, now), _LONGEST_S)
    if lifetime_s - age_s <= 0:
        return None
    dropped = _NOT_STORED | set(names(fields.get("connection", "")))
    kept = tuple((name, value) for name, value in fields.lines if name.lower() not in dropped)
    return Stored(status, kept, b"", vary, stored_at=now, age_s=age_s, lifetime_s=lifetime_s, shared=shared)


def _lifetime_s(said: Directives, fields: Fields, now: float) -> float:
    """Return the explicit freshness lifetime, the strictest where several are given; 0 for none or a broken one."""
    for name in ("s-maxage", "max-age"):
        if name in said:
            values = [delta_seconds(text) for text in said[name]]
            return 0 if None in values else min(value for value in values if value is not None)
    expires = http_date(fields.get("expires"))
    if expires is None:
        return 0
    date = http_date(fields.get("date"))
    return max(0.0, expires - (now if date is None else date))


def may_use(stored: Stored, wish: Wish, *, now: float) -> bool:
    """Tell whether a stored response may answer a request that allows `wish`."""
    if wish.has_cookie and not stored.shared:
        return False
    age_s = stored.current_age_s(now)
    if age_s + wish.min_fresh_s >= stored.lifetime_s:
        return False
    return wish.max_age_s is None or age_s <= wish.max_age_s


def is_not_modified(stored: Stored, fields: Mapping[str, str]) -> bool:
    """Tell whether a conditional request already has what is stored; entity tags win over dates."""
    if stored.status != 200:
        return False
    listed = fields.get("if-none-match")
    if listed is not None:
        if listed.strip() == "*":
            return True
        own = next(entity_tags(stored.field("etag") or ""), None)
        return own is not None and own in entity_tags(listed)
    since = http_date(fields.get("if-modified-since"))
    modified = http_date(stored.field("last-modified"))
    return since is not None and modified is not None and modified <= since


def variant(vary: tuple[str, ...], fields: Mapping[str, str]) -> str:
    """Return a digest of the request fields that `vary` nominates; absent is different from empty."""
    digest = hashlib.sha256()
    for name in vary:
        value = fields.get(name)
        shown = "-" if value is None else "+" + ",".join(" ".join(part.split()) for part in value.split(","))
        digest.update(f"{len(shown)}:{shown}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
