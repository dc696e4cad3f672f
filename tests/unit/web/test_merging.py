"""Which adapters a stack of middlewares becomes, and in which order their policies run."""

from __future__ import annotations

import itertools

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette

from smw.errors import ConfigError
from smw.web import (
    ENTERPRISE_MIDDLEWARE_STACK,
    CacheMiddleware,
    MonitoringMiddleware,
    PipelineMiddleware,
    SecurityMiddleware,
    create_cache_middleware,
    create_monitoring_middleware,
    create_pipeline_middleware,
    create_security_middleware,
)
from smw.web.adapter import Adapter

ORDER = ["monitoring", "security", "pipeline", "cache"]
CLASSES = (MonitoringMiddleware, SecurityMiddleware, PipelineMiddleware, CacheMiddleware)
FACTORIES = (
    create_monitoring_middleware, create_security_middleware, create_pipeline_middleware, create_cache_middleware,
)  # fmt: skip


class Foreign:
    """Somebody else's middleware."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)


def adapters(app):
    """Return the policies of every adapter of a built application, outermost first."""
    layer, found = app.build_middleware_stack(), []
    while layer is not None:
        if isinstance(layer, Adapter):
            found.append([source.name for source in layer.sources])
        layer = getattr(layer, "app", None)
    return found


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
@pytest.mark.parametrize("make", [FastAPI, Starlette])
def test_whatever_order_they_are_added_in_one_adapter_runs_them_canonically(make, order):
    """All 24 orders of adding give one adapter: monitoring, security, pipeline, cache."""
    app = make()
    for position in order:
        app.add_middleware(CLASSES[position])
    assert adapters(app) == [ORDER]


@pytest.mark.parametrize("profile", ["development", "testing", "production", None])
def test_factories_give_classes_that_add_middleware_takes(profile):
    """What a factory returns needs nothing but the application."""
    app = FastAPI()
    for factory in FACTORIES:
        app.add_middleware(factory(profile))
    assert adapters(app) == [ORDER]


def test_the_enterprise_stack_is_a_list_of_class_and_config():
    """The documented loop works as written."""
    app = FastAPI()
    for middleware_class, config in ENTERPRISE_MIDDLEWARE_STACK:
        app.add_middleware(middleware_class, **config)
    assert adapters(app) == [ORDER]


def test_a_foreign_middleware_between_two_keeps_them_apart():
    """What stands between two smw middlewares sees the exchange between them."""
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    app.add_middleware(PipelineMiddleware)
    app.add_middleware(Foreign)
    app.add_middleware(SecurityMiddleware)
    app.add_middleware(MonitoringMiddleware)
    assert adapters(app) == [["monitoring", "security"], ["pipeline", "cache"]]


def test_foreign_middlewares_around_do_not_split():
    """Only what stands between matters."""
    app = FastAPI()
    app.add_middleware(Foreign)
    app.add_middleware(SecurityMiddleware)
    app.add_middleware(MonitoringMiddleware)
    app.add_middleware(Foreign)
    assert adapters(app) == [["monitoring", "security"]]


def test_order_across_a_foreign_middleware_is_as_added():
    """Apart, the order of adding is law: the last added is outermost."""
    app = FastAPI()
    app.add_middleware(MonitoringMiddleware)
    app.add_middleware(Foreign)
    app.add_middleware(SecurityMiddleware)
    assert adapters(app) == [["security"], ["monitoring"]]


def test_the_same_middleware_twice_in_a_row_is_an_error():
    """A policy that would run twice is refused by name."""
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    app.add_middleware(SecurityMiddleware)
    app.add_middleware(create_cache_middleware("production"))
    with pytest.raises(ConfigError, match="cache middleware was added twice"):
        app.build_middleware_stack()


def test_plain_wrapping_merges_as_well():
    """Without a framework the classes are called by hand."""

    async def app(_scope, _receive, _send):
        pass

    adapter = SecurityMiddleware(MonitoringMiddleware(CacheMiddleware(app)))
    assert [source.name for source in adapter.sources] == ["monitoring", "security", "cache"]
    assert adapter.app is app
    assert repr(adapter) == "<smw monitoring > security > cache>"


def test_options_given_when_adding_win_over_those_of_the_factory(runtime):
    """A class preset by a factory can still be told more."""

    async def app(_scope, _receive, _send):
        pass

    preset = create_security_middleware("production", max_body_bytes=10, rate_limit="1/second")
    (source,) = preset(app, max_body_bytes=20).sources
    assert source.profile == "production"
    assert source.overrides == {"security": {"max_body_bytes": 20, "rate_limit": "1/second"}}
