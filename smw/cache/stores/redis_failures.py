"""What a failure of Redis means to the cache: whose fault it is, and which setting mends it; asks nobody."""

from __future__ import annotations

import re

from smw import _redis
from smw.cache.ports import StoreFailedError

__all__ = ["failure", "probe_failure"]

_HOLDER = "CACHE_L2_URL (cache setting l2_url)"
_CODED = re.compile(r"[A-Z]+ ")
"""How a refusal begins that is of the moment, such as BUSY; from others redis-py takes the ERR away."""


def failure(error: Exception, *, is_alone: bool = False) -> StoreFailedError:
    """Return what a failed request tells of the server.

    Args:
        error: What redis-py has raised.
        is_alone: Whether the server should be no node of a cluster.
    """
    import redis.exceptions as known

    if isinstance(error, known.NoScriptError):
        return StoreFailedError("noscript", counts=False)
    kind, permanent = _redis.kind_of_failure(error, is_alone=is_alone)
    # A server that answers that it is full or read-only is alive and still good for reading.
    counts = kind not in ("full", "readonly", "answer", "moving", "permission")
    remedy = _redis.remedy_for(kind, error, _HOLDER) if permanent else ""
    return StoreFailedError(kind, permanent=permanent, counts=counts, remedy=remedy)


def probe_failure(error: Exception) -> StoreFailedError | None:
    """Return what the failure of a plain question tells, or None where the server is well and merely forbids it."""
    failed = failure(error, is_alone=True)
    if failed.kind == "permission":
        return None
    if failed.kind == "answer" and not _CODED.match(str(error)):
        remedy = _redis.remedy_for("other-server", error, _HOLDER)
        return StoreFailedError("other-server", permanent=True, remedy=remedy)
    failed.counts = True  # who refuses this refuses everything
    return failed
