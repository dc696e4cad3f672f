"""Runs the service as one process on a free loopback port: `python -m examples.music_agent.server FOLDER [--flask]`.

Prints one line of JSON when it listens and one when it has stopped, so that whoever started it knows both.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import smw
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


def what_is_on(web: str) -> dict[str, str]:
    """Return which backends the settings chose, without passwords.

    Args:
        web: What serves.
    """
    settings = current().settings
    redis, streams = settings.cache.l2_host, settings.pipeline.redis_url
    return {
        "web": web,
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


def serve_fastapi(home: Path, spans: dict[str, int] | None) -> None:
    """Serve the FastAPI application by uvicorn until SIGTERM or Ctrl-C."""
    import uvicorn

    from examples.music_agent.app import create_app

    app = create_app(home)
    backends = what_is_on("FastAPI under uvicorn")

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            say(port=self.servers[0].sockets[0].getsockname()[1])

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await super().shutdown(sockets)
            say(spans=spans, backends=backends)

    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", access_log=False, proxy_headers=False)
    Server(config).run()


def serve_flask(home: Path, spans: dict[str, int] | None) -> None:
    """Serve the Flask application by waitress until SIGTERM or Ctrl-C."""
    from waitress.server import create_server

    from examples.music_agent.flask_app import create_app

    app = create_app(home)
    backends = what_is_on("Flask under waitress")
    server: Any = create_server(app, host="127.0.0.1", port=0, threads=16)  # a client keeps one busy
    smw.install_signal_handlers()  # waitress itself leaves SIGTERM to the system, which runs no exit hooks
    say(port=server.effective_port)
    server.run()
    smw.shutdown()
    say(spans=spans, backends=backends)


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="server")
    parser.add_argument("home", type=Path, help="folder for the database and the audit log")
    parser.add_argument("--flask", action="store_true", help="the Flask application instead of the FastAPI one")
    options = parser.parse_args()
    spans = count_spans()
    serve = serve_flask if options.flask else serve_fastapi
    serve(options.home, spans)


if __name__ == "__main__":
    main()
