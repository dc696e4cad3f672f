"""Runs the service as one process on a free loopback port: `python -m examples.music_agent.server FOLDER`.

Prints one line of JSON when it listens and one when it has stopped, so that whoever started it knows both.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from examples.music_agent.app import create_app
from smw.runtime import current


def count_spans() -> dict[str, int] | None:
    """Count ended spans by name, from now on; None without the SDK of OpenTelemetry (extra `otel`)."""
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
    except ImportError:
        return None
    spans: dict[str, int] = {}

    class Counter(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            spans[span.name] = spans.get(span.name, 0) + 1

    provider = TracerProvider()
    provider.add_span_processor(Counter())
    trace.set_tracer_provider(provider)
    return spans


def what_is_on() -> dict[str, str]:
    """Return which backends the settings chose, without passwords."""
    settings = current().settings
    redis, streams = settings.cache.l2_host, settings.pipeline.redis_url
    return {
        "profile": settings.profile,
        "l1": f"{settings.cache.l1_size:,} entries",
        "l2": urlsplit(redis).netloc.rpartition("@")[2] if redis else "off",
        "l3": ", ".join(settings.cache.l3_servers) or "off",
        "streams": urlsplit(streams).netloc.rpartition("@")[2] if streams else "in memory",
        "audit log": f"{settings.security.audit_level}, " + ("on disk" if settings.security.trail_dir else "in memory"),
    }


def say(**facts: Any) -> None:
    """Print one line of JSON."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main(home: Path) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        home: Folder for the database and the audit log.
    """
    spans = count_spans()
    app = create_app(home)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            say(port=self.servers[0].sockets[0].getsockname()[1])

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await super().shutdown(sockets)
            say(spans=spans, backends=backends)

    backends = what_is_on()
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", access_log=False, proxy_headers=False)
    Server(config).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
