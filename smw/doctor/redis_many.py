"""Whether Sentinels, or the nodes of a cluster, can be reached, and whether a cluster is whole."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from smw import _redis
from smw.doctor.network import STEP_S, Place, hang_up, reach
from smw.doctor.report import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["cluster_state", "reachable"]

_SLOTS = 16_384


async def _one(place: Place) -> Finding | None:
    """Return why nobody answers at a place, or None."""
    last: Finding | None = None
    async for finding, opened in reach(place):
        last = finding
        if opened is not None:
            hang_up(opened)
            return None
    return last


async def reachable(name: str, hosts: Sequence[tuple[str, int]], holder: str, what: str) -> Finding:
    """Return how many of several places accept connections; one is enough to work, all are needed to be safe.

    Args:
        name: Of the finding.
        hosts: The places.
        holder: The setting or variable that names them.
        what: What should answer there.
    """
    failures = await asyncio.gather(*[_one(Place(name, host, port, holder, what)) for host, port in hosts])
    lost = [failure for failure in failures if failure is not None]
    seen = f"{len(hosts) - len(lost)} of {len(hosts)} accept"
    if not lost:
        return Finding(name, "ok", seen)
    return Finding(name, "fail" if len(lost) == len(hosts) else "warn", f"{seen}; {lost[0].seen}", lost[0].fix)


def cluster_state(url: str, name: str, holder: str) -> Finding:
    """Return whether a cluster has all its slots.

    Args:
        url: The cluster's.
        name: Of the finding.
        holder: The setting or variable that holds the URL.
    """
    with _redis.blocking(url, timeout_s=STEP_S, max_connections=1) as client:
        try:
            answer: Any = client.execute_command("CLUSTER", "INFO")
        except Exception as error:
            kind, _ = _redis.kind_of_failure(error)
            if kind == "permission":
                return Finding(name, "not checked", "this user may not ask CLUSTER INFO", "ACL SETUSER ... +cluster")
            if kind != "other-server" and "cluster support disabled" not in str(error):
                raise
            fix = f"name nodes of a cluster in {holder}, or write {_redis.form('redis://')} for a single server"
            return Finding(name, "fail", "a Redis answers there that is no cluster", fix)
    pairs = answer.items() if isinstance(answer, dict) else [line.split(":") for line in _text(answer).split()]
    said = {_text(key): _text(value) for key, value in pairs}
    have, masters = int(said.get("cluster_slots_ok", 0)), said.get("cluster_size", "?")
    if said.get("cluster_state") == "ok" and have == _SLOTS:
        return Finding(name, "ok", f"{masters} masters have all slots")
    seen = f"{have} of {_SLOTS} slots are served, state {said.get('cluster_state', '?')}"
    if said.get("cluster_state") == "ok":
        return Finding(name, "warn", seen, f"start the missing nodes of {holder}")
    fix = "start the missing nodes, or set cluster-require-full-coverage no, so that the others serve on"
    return Finding(name, "fail", seen, fix)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
