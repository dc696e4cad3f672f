"""Which protocol a middleware speaks, and what it says when a server speaks the other one."""

from __future__ import annotations

import functools
import inspect

import flask
import pytest
from fastapi import FastAPI

from smw.errors import ConfigError
from smw.web import MonitoringMiddleware, SecurityMiddleware, create_cache_middleware
from smw.web.protocol import protocol_of
from tests.contract.worlds import environ_of
from tests.unit.web.driving import scope_of


async def asgi(scope, receive, send):
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def wsgi(_environ, start_response):
    start_response("204 No Content", [])
    return []


class AsyncObject:
    async def __call__(self, scope, receive, send):
        await asgi(scope, receive, send)


class Object:
    def __call__(self, environ, start_response):
        return wsgi(environ, start_response)

    def method(self, environ, start_response):
        return wsgi(environ, start_response)


class AsyncClass:
    def __init__(self, scope, receive, send):
        self.call = scope, receive, send

    def __await__(self):
        return asgi(*self.call).__await__()


class Class:
    def __init__(self, environ, start_response):
        self.call = environ, start_response

    def __iter__(self):
        return iter(wsgi(*self.call))


def delegating(scope, receive, send):
    return asgi(scope, receive, send)


@functools.wraps(wsgi)
def decorated(*args, **kwargs):
    return wsgi(*args, **kwargs)


ASGI = [
    asgi, AsyncObject(), AsyncClass, delegating, functools.partial(asgi), FastAPI(), FastAPI().router,
    lambda s, r, t: None,
]  # fmt: skip
WSGI = [
    wsgi, Object(), Object().method, Class, decorated, functools.partial(wsgi), flask.Flask("x"),
    flask.Flask("x").wsgi_app, lambda *args: [wsgi(*args)], lambda e, s, more=None: wsgi(e, s),
]  # fmt: skip


@pytest.mark.parametrize(("app", "protocol"), [*((app, "asgi") for app in ASGI), *((app, "wsgi") for app in WSGI)])
def test_an_application_tells_by_how_it_is_called(app, protocol):
    """A coroutine function or three parameters is ASGI, two are WSGI; decorated, partial and classes included."""
    assert protocol_of(app) == protocol
    assert MonitoringMiddleware(SecurityMiddleware(app)).protocol == protocol


@pytest.mark.parametrize("wrong", [None, "app:app", 7, FastAPI, flask.Flask, AsyncObject, Object, dict])
def test_what_is_no_application_is_refused(wrong):
    """The line that has the mistake names it, not the first request."""
    with pytest.raises(ConfigError, match="no application"):
        create_cache_middleware("production")(wrong)


def test_servers_see_a_coroutine_function_on_asgi_and_none_on_wsgi():
    """That is how uvicorn, hypercorn and Starlette tell the two apart."""
    assert inspect.iscoroutinefunction(MonitoringMiddleware(asgi).__call__)
    assert not inspect.iscoroutinefunction(MonitoringMiddleware(wsgi).__call__)


def test_asgi_called_by_a_wsgi_server(runtime):
    """At the call, not as a coroutine that nobody awaits; the servers that fit are named."""
    with pytest.raises(ConfigError, match="stands on ASGI, and was called as WSGI") as caught:
        MonitoringMiddleware(asgi)(environ_of("GET", "/"), lambda *_args: None)
    assert "uvicorn" in str(caught.value)
    assert caught.value.code == "SMW-W105"


@pytest.mark.parametrize("arguments", [(scope_of("GET", "/"), None, None), (scope_of("GET", "/"),)])
def test_wsgi_called_by_an_asgi_server(runtime, arguments):
    """In either form of ASGI."""
    with pytest.raises(ConfigError, match="stands on WSGI, and was called as ASGI") as caught:
        MonitoringMiddleware(wsgi)(*arguments)
    assert "gunicorn" in str(caught.value)
