"""Replays a few thousand requests and a stream of events through the music service and shows what smw did.

`python -m examples.music_agent.demo` needs no server. With `CACHE_L2_URL` and `CACHE_L3_SERVERS` set it uses that
Redis and memcached. It exits 1 when anything is not as promised: a wrong answer, a lost event, an audit log that
does not verify, a tampering that is not found.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import httpx

from examples.music_agent import evidence, servers, traffic
from examples.music_agent.figures import Figures
from examples.music_agent.findings import Findings
from examples.music_agent.offline import analyse, enforce
from examples.music_agent.progress import bar
from examples.music_agent.replay import Replay, replay
from examples.music_agent.report import show
from examples.music_agent.service import ROOT, Service

_LOG = ROOT.parent / "shared" / "data" / "access_log" / "apache_access.log"
_EVENTS_AT_ONCE = 20
_SETTLE_S = 20.0


def main(arguments: list[str] | None = None) -> int:
    """Run the demo and return its exit code."""
    parser = argparse.ArgumentParser(prog="demo", description="smw's main job, end to end.")
    parser.add_argument("--requests", type=int, default=3_000, help="requests to replay")
    parser.add_argument("--events", type=int, default=600, help="user events to send")
    parser.add_argument("--flask", action="store_true", help="the service's Flask twin, under waitress")
    parser.add_argument("--plain", action="store_true", help="no colours, no bar")
    options = parser.parse_args(arguments)
    if options.requests < 50 or options.events < 10:
        parser.error("take at least 50 requests and 10 events")
    if silent := servers.silent():
        print("\n".join(f"{name} names {address}, where nothing answers" for name, address in silent), file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="smw-demo-") as home:
        findings = _run(Path(home), options)
        show(findings, plain=options.plain)
    return 1 if findings.broken() else 0


def _visits() -> tuple[str, Iterable[traffic.Visit]]:
    """Return where the visits come from, and the visits."""
    path = Path(os.environ.get("SMW_ACCESS_LOG", _LOG))
    if path.is_file():
        return f"{path.name} (real)", chain(traffic.from_log(path), traffic.generated())
    return "generated (Zipf)", traffic.generated()


def _settings(signing_key: Path | None) -> dict[str, str]:
    """Return what the service is told besides what the environment says: names of its own, keys, a Redis for events."""
    own = f"music-agent-{secrets.token_hex(4)}"
    settings = {"CACHE_NAMESPACE": own, "SECURITY_DIGEST_KEY": secrets.token_hex(32), "MONITOR_LOGS": "json"}
    if signing_key is not None:
        settings["SECURITY_SIGNING_KEY"] = str(signing_key)
    if redis := servers.redis_url():
        settings |= {"PIPELINE_REDIS_URL": redis, "USER_EVENTS_STREAM": f"{own}:user_events"}
    return settings


def _run(home: Path, options: argparse.Namespace) -> Findings:
    started = time.monotonic()
    source, visits = _visits()
    requests = traffic.requests(visits, options.requests)
    poison = max(1, options.events // 100)
    events = traffic.events(_visits()[1], options.events, poison)
    cut = len(requests) * 3 // 5
    trail = home / "service" / "audit"
    (home / "service").mkdir()
    private, public = evidence.make_keys(home)
    settings = _settings(private)
    found = Findings(source, sent=len(events), poison=poison)
    for phase, (part, stream) in enumerate(((requests[:cut], events), (requests[cut:], []))):
        with Service(home / "service", settings, flask=options.flask) as service:
            title = "requests, caches cold" if phase == 0 else "requests, service restarted"
            with bar(title, len(part) + len(stream), plain=options.plain) as step:
                result = asyncio.run(_load(service.url, part, stream, step))
            figures = Figures.scrape(service.url)
        found.add(result, figures, service)
        if phase == 0:
            shutil.copytree(trail, home / "earlier")
    servers.forget(settings.get("USER_EVENTS_STREAM"))
    found.audit(trail, home / "earlier", home, public)
    found.denied, found.allowed = asyncio.run(enforce(home / "production"))
    found.plays, found.rows = analyse(home)
    found.took_s = time.monotonic() - started
    return found


async def _load(
    url: str, requests: list[traffic.Request], events: list[dict[str, Any]], step: Callable[[], None]
) -> Replay:
    """Send requests and events at the same time, and wait until the events are settled."""
    async with asyncio.TaskGroup() as group:
        replayed = group.create_task(replay(url, requests, step))
        group.create_task(_stream(url, events, step))
    return replayed.result()


async def _stream(url: str, events: list[dict[str, Any]], step: Callable[[], None]) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        for first in range(0, len(events), _EVENTS_AT_ONCE):
            batch = events[first : first + _EVENTS_AT_ONCE]
            (await client.post("/events", json=batch)).raise_for_status()
            for _ in batch:
                step()
    deadline = time.monotonic() + _SETTLE_S
    while events and time.monotonic() < deadline:
        settled = await asyncio.to_thread(lambda: _settled(Figures.scrape(url)))
        if settled >= len(events):
            return
        await asyncio.sleep(0.1)


def _settled(figures: Figures) -> int:
    outcomes = figures.by("smw_stream_records_total", "outcome")
    return outcomes.get("done", 0) + outcomes.get("dead", 0)


if __name__ == "__main__":
    sys.exit(main())
