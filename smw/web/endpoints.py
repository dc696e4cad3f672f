"""Answers scrapes and probes in place of the application; what they say is the monitor's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from smw._kernel.bridge import on_asyncio
from smw.web.exchange import Exchange, Reply
from smw.web.problem import problem

if TYPE_CHECKING:
    from smw.monitor.health import Group
    from smw.monitor.monitor import Monitor

__all__ = ["Endpoints"]

Serve = Callable[[Exchange], Awaitable[Reply]]
_NO_STORE = ("cache-control", "no-store")


class Endpoints:
    """The paths that the monitoring policy serves itself, with GET and HEAD.

    Args:
        monitor: Has metrics and health.
        metrics_path: Path of the exposition; None serves none.
        health_path: Path of the health report, with ``/live`` and ``/ready`` below it; None serves none.
        details: Whether a report says why something is not well.
    """

    def __init__(
        self, monitor: Monitor, *, metrics_path: str | None, health_path: str | None, details: bool = False
    ) -> None:
        self._monitor = monitor
        self._details = details
        self._served: dict[str, Serve] = {}
        if metrics_path is not None:
            self._served[metrics_path] = self._metrics
        if health_path is not None:
            base = health_path.rstrip("/")
            self._served[base or "/"] = self._health("all")
            self._served[f"{base}/live"] = self._health("live")
            self._served[f"{base}/ready"] = self._health("ready")
        self.get: Callable[[str], Serve | None] = self._served.get
        """Return what serves a path, or None where the application does."""

    async def _metrics(self, exchange: Exchange) -> Reply:
        if exchange.method not in ("GET", "HEAD"):
            return _not_allowed()
        # Rendering many series takes a while; the event loop has better things to do.
        kind, text = await exchange.offload(self._monitor.exposition, exchange.header("accept") or "")
        return Reply(200, text, (("content-type", kind), _NO_STORE))

    def _health(self, group: Group) -> Serve:
        async def serve(exchange: Exchange) -> Reply:
            if exchange.method not in ("GET", "HEAD"):
                return _not_allowed()
            asked = self._monitor.health.report(group, details=self._details)
            report: dict[str, Any] = await asked if exchange.mode == "async" else _blocking(asked)
            status = 503 if report["status"] == "fail" else 200
            return Reply(status, json.dumps(report).encode(), (("content-type", "application/health+json"), _NO_STORE))

        return serve


def _blocking(report: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Wait for a report: checks run on asyncio, and get a loop of their own for as long as they take."""
    if not on_asyncio():
        return asyncio.run(report)
    with ThreadPoolExecutor(1, "smw-health") as thread:
        return thread.submit(asyncio.run, report).result()


def _not_allowed() -> Reply:
    return problem(405, "this path is read with GET or HEAD", code="SMW-W405", headers=(("allow", "GET, HEAD"),))
