"""The one call that installs everything."""

from __future__ import annotations

import json

import flask
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette

from smw.errors import ConfigError
from smw.web import CacheMiddleware, create_cache_middleware
from smw.web.adapter import Adapter
from smw.web.fastapi import install
from tests.unit.web.driving import call


def adapters(app):
    layer, found = app.build_middleware_stack(), []
    while layer is not None:
        found += [layer] if isinstance(layer, Adapter) else []
        layer = getattr(layer, "app", None)
    return found


@pytest.mark.parametrize("make", [FastAPI, Starlette])
def test_install_puts_one_adapter_with_everything(make):
    """One call, four policies, one layer."""
    app = make()
    assert install(app) is app
    assert [repr(adapter) for adapter in adapters(app)] == ["<smw monitoring > security > pipeline > cache>"]


def test_install_gives_every_policy_the_profile():
    """The profile of the call holds for all four."""
    app = FastAPI()
    install(app, "production")
    assert {source.profile for source in adapters(app)[0].sources} == {"production"}


async def test_before_or_after_the_routes_and_the_schema_stays(runtime):
    """Routes declared later work, and OpenAPI looks as it did."""
    plain, ours = FastAPI(), FastAPI()
    install(ours)
    for app in (plain, ours):

        @app.get("/items/{item}", tags=["items"])
        def read_item(item: int) -> int:
            return item

    assert (await call(ours, "/items/3")).body == b"3"
    assert ours.openapi() == plain.openapi()
    assert json.loads((await call(ours, "/openapi.json")).body) == plain.openapi()


def test_a_flask_application_is_told_that_this_is_asgi():
    """The mistake is named, not an AttributeError."""
    with pytest.raises(ConfigError, match="a Flask application is WSGI"):
        install(flask.Flask("shop"))


@pytest.mark.parametrize("wrong", [FastAPI, object(), None, "app:app"])
def test_anything_else_is_refused_with_what_was_seen(wrong):
    """The message names the type that came."""
    with pytest.raises(ConfigError, match="needs a FastAPI or Starlette application"):
        install(wrong)


def test_twice_is_refused():
    """Two stacks would count and limit twice."""
    app = FastAPI()
    install(app)
    with pytest.raises(ConfigError, match="already has a middleware of smw"):
        install(app)
    other = FastAPI()
    other.add_middleware(create_cache_middleware("production"))
    with pytest.raises(ConfigError, match="already has a middleware of smw"):
        install(other)


async def test_too_late_is_refused(runtime):
    """After the first request a stack cannot be changed."""
    app = FastAPI()
    await call(app, "/docs")
    with pytest.raises(ConfigError, match="already started"):
        install(app)


def test_an_unknown_profile_is_refused():
    """The nearest one is named."""
    with pytest.raises(ConfigError, match="Did you mean 'production'"):
        install(FastAPI(), "prod")


def test_public_names_load_lazily():
    """`smw.web` names exactly what it offers."""
    from smw import web

    assert set(web.__all__) <= set(dir(web))
    assert web.CacheMiddleware is CacheMiddleware
    assert web.fastapi.install is install
    with pytest.raises(AttributeError, match="nothing_here"):
        web.nothing_here  # noqa: B018 - the access is the test
