"""Says of one function what is not cached as asked: each call is counted, each reason logged once; decides nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from smw._kernel.signals import CacheStale, CacheUncached

if TYPE_CHECKING:
    from smw._kernel.host import Host
    from smw.cache.sight.stats import Stats

__all__ = ["Remarks", "remedy"]

_log = logging.getLogger("smw.cache")
_SAY_EVERY_S = 60.0
_REMEDIES = {
    "unknown-dependency": "it stays in memory, for servers cannot judge all that it was made from; give that a key",
    "many-dependencies": "it stays in memory: it was made from more than servers are told of; give it tags= instead",
    "foreign-dependency": "it was made from results of another cache, which cannot drop it; use one cache for both",
    "unheard-tags": "it stays in memory: tags= takes a tag from the result, and nobody knows whether that was dropped "
    "during the load; it takes a Redis that answers",
    "many-result-tags": "servers are told of some 200 tags of a result, and one with more stays in memory; return "
    "a tag that its parts have in common",
    "failing-result-tag": "have the functions of tags= return a text, several, or None, for every result",
    "method-without-identity": "give the class a __cache_key__(self) method or pass key= to share its results",
    "function-without-identity": "define it at module level, or pass key= with all that tells it from others",
    "unstorable-result": "results of this type stay in memory; return plain values, or a dataclass, named tuple or "
    "pydantic model of such that the return annotation names",
    "undeclared-result": "results of this class stay in memory; have the return annotation name it",
    "unresolved-annotation": "results of this class stay in memory, as the return annotation cannot be resolved at run "
    "time; import what it names outside of TYPE_CHECKING, at module level",
    "extended-result": "it stays in memory, for it holds more than the fields of its class: private attributes, extra "
    "fields, a cached property; return one of a class without, or plain values",
    "deep-result": "it stays in memory, for it holds itself, or is nested more than 200 levels deep; return it flat",
    "no-json-result": "JSON makes no equal value of it, so it stays in memory; return dictionaries with keys of text, "
    'lists, texts, numbers, bools and None, or leave out codec="json"',
    "unpicklable-result": "results of this type stay in memory; return what pickle takes, or plain values",
    "huge-result": "results of this size stay in memory; return less, or in parts",
    "large-result": "memory keeps no result of more than half of l1_bytes (CACHE_L1_BYTES); raise it, or return less",
    "uncopyable-result": 'return what can be copied, or pass copy="share" to hand the one object to all callers',
    "one-shot-result": "return a list: whoever reads the result first uses it up",
    "failing-key": "mend the function given as key=, which raised or has to be awaited",
    "failing-tag": "give the fields of tags= values that have a text",
    "failing-condition": "mend the function given as condition=, which raised or has to be awaited",
    "failing-ttl": "have the function given as ttl= return seconds for every result, 0 for those not to keep",
    "failing-unless": "mend the function given as unless=, which raised or has to be awaited",
    "uncopyable-exception": "give the exception's class a __copy__(self) method",
    "instance-without-weakref": "add __weakref__ to the class's __slots__ or pass key=",
}
_REMEDY = "pass key= or give the type a __cache_key__(self) method"


def remedy(reason: str) -> str:
    """Return what to do about `reason`."""
    return _REMEDIES.get(reason, _REMEDY)


class Remarks:
    """What is said of one function.

    Args:
        name: ``module:qualname``.
        stats: Where uncached calls are counted.
        host: Whose bus carries what is said, and whose clock tells when to say it again.
    """

    def __init__(self, name: str, stats: Stats, host: Host) -> None:
        self._name = name
        self._stats = stats
        self._bus = host.bus
        self._now = host.clock.now
        self._said_at: dict[str, float] = {}
        self._said: set[str] = set()

    def knows(self, reason: str) -> bool:
        """Tell whether `reason` was said before."""
        return reason in self._said

    def uncached(self, reason: str, what: str) -> None:
        """Count a call or a result that could not be cached."""
        self._stats.others["none", "uncached"] += 1
        self._bus.send(CacheUncached(self._name, reason))
        self.warn(reason, what)

    def stale(self, reason: str) -> None:
        """Tell that an expired result stands in for a load that failed; logged once a minute."""
        self._bus.send(CacheStale(self._name, reason))
        self._say("its expired results are handed out", f"failed ({reason})")

    def slow(self) -> None:
        """Tell that an expired result stands in for a load that takes longer than its caller waits; as `stale`."""
        self._bus.send(CacheStale(self._name, "timeout"))
        self._say("its expired results are handed out meanwhile", "takes longer than its callers wait")

    def overdue(self) -> None:
        """Tell that callers wait so long for a load that one of them loads too; logged once a minute."""
        what = "one of them calls it too; hard_timeout= ends such waits with an error"
        self._say(what, "has kept callers with the same arguments waiting for over a minute")

    def not_refreshed(self, error: Exception) -> None:
        """Tell that a result could not be loaded anew before it expires; logged once a minute."""
        self._say("its results were not refreshed ahead of their end", f"failed ({type(error).__name__})")

    def _say(self, what: str, why: str) -> None:
        now = self._now()
        if now - self._said_at.get(what, -_SAY_EVERY_S) >= _SAY_EVERY_S:
            self._said_at[what] = now
            _log.warning("%s %s: %s; said once a minute", self._name, why, what)

    def warn(self, reason: str, what: str) -> None:
        """Log `reason` if it is the first time."""
        if reason not in self._said:
            self._said.add(reason)
            _log.warning("%s is not cached as asked: %s (%s); %s", self._name, reason, what, remedy(reason))
