"""Which protocol a middleware speaks, and what it says when a server speaks the other one."""

from __future__ import annotations

import functools
import inspect

import flask
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette

import smw
from smw import web
from smw.errors import ConfigError
from smw.web import MonitoringMiddleware, SecurityMiddleware, create_cache_middleware
from smw.web.flask import install
from smw.web.protocol import framework_of, protocol_of
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


def test_frameworks_are_told_by_what_they_have():
    """Applications, their classes and Flask's `wsgi_app` belong to a framework; what is none belongs to neither."""
    shop = flask.Flask("x")
    assert [framework_of(one) for one in (shop, flask.Flask, shop.wsgi_app)] == ["flask"] * 3
    assert [framework_of(one) for one in (FastAPI(), FastAPI, Starlette())] == ["fastapi"] * 3
    assert [framework_of(one) for one in (asgi, Object(), Object().method, None, "x", flask.Blueprint("x", "x"))] == [
        None
    ] * 6


async def test_an_instance_in_add_middleware(runtime):
    """The mistake shows with the first request, and the message has the line as it should be."""
    app = FastAPI()
    app.add_middleware(SecurityMiddleware(asgi))
    with pytest.raises(ConfigError, match="stands where its class belongs") as caught:
        await app(scope_of("GET", "/"), None, None)
    assert caught.value.fix == "app.add_middleware(SecurityMiddleware)"


async def test_a_factory_that_was_not_called(runtime):
    """FastAPI calls the factory itself; the message says to call it."""
    app = FastAPI()
    app.add_middleware(create_cache_middleware)
    with pytest.raises(ConfigError, match="takes the name of a profile") as caught:
        await app(scope_of("GET", "/"), None, None)
    assert 'create_cache_middleware("production")' in caught.value.fix


def test_a_class_in_wsgi_app(runtime):
    """Flask calls the class with a request; the message says what to put there."""
    app = flask.Flask("x")
    app.wsgi_app = SecurityMiddleware
    with pytest.raises(ConfigError, match="stands where an application belongs") as caught:
        app(environ_of("GET", "/"), lambda *_args: None)
    assert caught.value.fix == "app.wsgi_app = SecurityMiddleware(app.wsgi_app)"


def test_an_asgi_middleware_in_wsgi_app(runtime):
    """An application of the other world in Flask's place is told which server it wants."""
    app = flask.Flask("x")
    app.wsgi_app = create_cache_middleware()(FastAPI())
    with pytest.raises(ConfigError, match="stands on ASGI, and was called as WSGI"):
        app(environ_of("GET", "/"), lambda *_args: None)


@pytest.mark.parametrize("name", ["monitoring", "security", "pipeline", "cache"])
def test_the_line_of_a_factory_is_right(name):
    """What the message of a factory shows is a factory that exists, for each of the four."""
    factory = f"create_{name}_middleware"
    with pytest.raises(ConfigError) as caught:
        getattr(web, factory)(lambda scope, receive, send: None)
    assert caught.value.fix == f'app = {factory}("production")(app)'


def test_a_profile_that_is_no_text():
    """Where a profile belongs, whatever else comes is named, and never an error of ours."""
    for make in (lambda: smw.Runtime(FastAPI()).open(), lambda: install(flask.Flask("x"), flask.Flask("y"))):
        with pytest.raises(ConfigError, match="profile"):
            make()
