"""Applications under servers of the other protocol: the log names the server that fits."""

from __future__ import annotations

import contextlib
import io
import threading
from wsgiref.simple_server import WSGIRequestHandler, make_server

import flask
import httpx
import pytest
from fastapi import FastAPI

from smw.web import MonitoringMiddleware
from tests.integration.web.serving import served


@pytest.mark.parametrize("interface", ["auto", "asgi3"])
def test_flask_under_uvicorn(caplog, interface):
    """uvicorn starts, answers 500, and its log says that this is WSGI and how to serve it."""
    with served(MonitoringMiddleware(flask.Flask("shop")), lifespan="auto", interface=interface) as url:
        assert httpx.get(url).status_code == 500
    errors = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert any("stands on WSGI, and was called as ASGI" in error and "gunicorn module:app" in error for error in errors)


def test_fastapi_under_a_wsgi_server():
    """A WSGI server answers 500, and what it prints says that this is ASGI and how to serve it."""
    said = io.StringIO()

    class Handler(WSGIRequestHandler):
        def get_stderr(self):
            return said

        def log_message(self, *_args):
            pass

    with make_server("127.0.0.1", 0, MonitoringMiddleware(FastAPI()), handler_class=Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with contextlib.suppress(httpx.RemoteProtocolError):
            assert httpx.get(f"http://127.0.0.1:{server.server_port}").status_code == 500
        thread.join(10)
    assert "stands on ASGI, and was called as WSGI" in said.getvalue()
    assert "uvicorn module:app" in said.getvalue()
