"""Flask under the stack: one call installs it, routes have their templates, refusals reach the client."""

from __future__ import annotations

import io
import json

import flask
import pytest
from fastapi import FastAPI
from flask import Blueprint, Flask
from opentelemetry import trace as api
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from smw import cached
from smw._kernel.signals import RequestBlocked
from smw.errors import AuditUnavailable, ConfigError, Denied
from smw.testing import Recorded
from smw.web import (
    MonitoringMiddleware,
    create_cache_middleware,
    create_monitoring_middleware,
    create_security_middleware,
)
from smw.web.adapter import Adapter
from smw.web.flask import install
from tests.contract.worlds import metric


def denied():
    return Denied(control="gdpr.purpose", clause="GDPR 5(1)(b)", missing="a purpose for alice@example.org")


@pytest.fixture
def app(runtime):
    return install(Flask("shop"))


def counted(runtime):
    return set(metric(runtime, "http_requests_total"))


# --- install ------------------------------------------------------------------------------------------------------


def test_install_puts_one_adapter_with_everything():
    """One call, four policies, one layer; the profile holds for all four."""
    app = Flask("shop")
    assert install(app, "production") is app
    assert repr(app.wsgi_app) == "<smw monitoring > security > pipeline > cache>"
    assert {source.profile for source in app.wsgi_app.sources} == {"production"}


def test_before_or_after_the_routes(runtime):
    """Views declared later work, and so does everything else of an application."""
    app = Flask("shop")

    @app.get("/a")
    def _a():
        return "a"

    install(app)

    @app.get("/b")
    @cached(ttl=60)
    def _b():
        return {"b": 1}

    client = app.test_client()
    assert (client.get("/a").text, client.get("/b").json, client.get("/b").json) == ("a", {"b": 1}, {"b": 1})
    assert client.get("/health").json["status"] == "pass"
    assert 'http_requests_total{method="GET",route="/b",status="200"} 2.0' in client.get("/metrics").text


@pytest.mark.parametrize("wrong", [Flask, object(), None, "app:app"])
def test_anything_else_is_refused_with_what_was_seen(wrong):
    """The message names the type that came."""
    with pytest.raises(ConfigError, match="needs a Flask application"):
        install(wrong)


def test_an_asgi_application_is_told_its_own_adapter():
    """The mistake is named together with the line that mends it."""
    with pytest.raises(ConfigError) as caught:
        install(FastAPI())
    assert "from smw.web.fastapi import install" in str(caught.value)


def test_twice_is_refused():
    """Two stacks would count and limit twice, however they were put on."""
    app = install(Flask("shop"))
    with pytest.raises(ConfigError, match="already has a middleware of smw"):
        install(app)
    other = Flask("shop")
    other.wsgi_app = ProxyFix(create_cache_middleware("production")(other.wsgi_app))
    with pytest.raises(ConfigError, match="already has a middleware of smw"):
        install(other)


def test_an_unknown_profile_is_refused():
    """The nearest one is named, and the application is left as it was."""
    app = Flask("shop")
    with pytest.raises(ConfigError, match="Did you mean 'production'"):
        install(app, "prod")
    assert not isinstance(app.wsgi_app, Adapter)
    install(app)


# --- routes -------------------------------------------------------------------------------------------------------


def build():
    """An application with every way of saying where a route lies."""
    app = Flask("shop")
    inner = Blueprint("inner", "shop")
    outer = Blueprint("outer", "shop")

    @app.get("/plain/<x>")
    def _plain(x):
        return x

    @app.get("/number/<int:n>/")
    def _number(n):
        return str(n)

    @app.get("/<path:rest>/edit")
    def _edit(rest):
        return rest

    @app.get("/old", defaults={"page": 1})
    @app.get("/old/<int:page>")
    def _old(page):
        return str(page)

    @inner.get("/leaf/<leaf>")
    def _leaf(v, leaf):
        return v + leaf

    @inner.get("/abort")
    def _abort(v):
        flask.abort(410)

    outer.register_blueprint(inner, url_prefix="/in/<v>")
    app.register_blueprint(outer, url_prefix="/out")
    app.register_blueprint(outer, url_prefix="/again", name="again")
    return app


MATRIX = [
    ("plain", "/plain/1", 200, "/plain/<x>"),
    ("converter", "/number/7/", 200, "/number/<int:n>/"),
    ("path", "/a/b/edit", 200, "/<path:rest>/edit"),
    ("nested blueprint", "/out/in/3/leaf/4", 200, "/out/in/<v>/leaf/<leaf>"),
    ("the same blueprint a second time", "/again/in/3/leaf/4", 200, "/again/in/<v>/leaf/<leaf>"),
    ("aborted", "/out/in/3/abort", 410, "/out/in/<v>/abort"),
    ("no route", "/nope/1234", 404, "unmatched"),
    ("converter that does not fit", "/number/x/", 404, "unmatched"),
    ("slash redirect", "/number/7", 308, "unmatched"),
    ("redirect to the default", "/old/1", 308, "unmatched"),
    ("nothing there in static", "/static/nope.css", 404, "/static/<path:filename>"),
]


@pytest.mark.parametrize(("target", "status", "route"), [row[1:] for row in MATRIX], ids=[row[0] for row in MATRIX])
def test_template(runtime, target, status, route):
    """An exchange is counted under Flask's own rule, and under `unmatched` where none matched."""
    assert install(build()).test_client().get(target).status_code == status
    assert metric(runtime, "http_requests_total") == {("GET", route, str(status)): 1.0}


def test_static_files(runtime, tmp_path):
    """Files are sent by Flask's means, under one template."""
    (tmp_path / "a.css").write_text("body {}")
    app = install(Flask("shop", static_folder=str(tmp_path), static_url_path="/static"))
    with app.test_client().get("/static/a.css") as answer:
        assert answer.text == "body {}"
    assert metric(runtime, "http_requests_total") == {("GET", "/static/<path:filename>", "200"): 1.0}


def test_method_not_allowed_belongs_to_its_route(runtime):
    """405 is an answer of the route, and OPTIONS is Flask's to answer."""
    client = install(build()).test_client()
    assert client.post("/plain/1").status_code == 405
    assert client.options("/plain/1").status_code == 200
    assert client.head("/plain/1").status_code == 200
    assert counted(runtime) == {
        ("POST", "/plain/<x>", "405"), ("OPTIONS", "/plain/<x>", "200"), ("HEAD", "/plain/<x>", "200"),
    }  # fmt: skip


@pytest.mark.parametrize("testing", [True, False])
def test_a_view_that_fails_is_counted_under_its_route(app, runtime, testing):
    """Whether Flask answers 500 or lets the exception out."""
    app.testing = testing

    @app.get("/broken/<x>")
    def _broken(x):
        raise ZeroDivisionError(x)

    if testing:
        with pytest.raises(ZeroDivisionError):
            app.test_client().get("/broken/1")
    else:
        assert app.test_client().get("/broken/1").status_code == 500
    assert metric(runtime, "http_requests_total") == {("GET", "/broken/<x>", "500"): 1.0}


def test_an_application_mounted_below_has_its_prefix(runtime):
    """The dispatcher's prefixes are few and fixed; a path that is eaten piece by piece makes no series of its own."""
    app, sub = build(), build()
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/sub": sub.wsgi_app})
    client = install(app).test_client()
    assert client.get("/sub/plain/1").status_code == 200
    assert client.get("/sub/nope").status_code == 404
    assert client.get("/plain/1").status_code == 200
    assert counted(runtime) == {
        ("GET", "/sub/plain/<x>", "200"), ("GET", "unmatched", "404"), ("GET", "/plain/<x>", "200"),
    }  # fmt: skip


def test_prefixes_without_number_become_one(runtime):
    """A middleware that takes a tenant off the path must not fill the metrics."""
    app = build()
    inner = app.wsgi_app

    def shift(environ, start_response):
        first, _, rest = environ["PATH_INFO"][1:].partition("/")
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = f"/{first}", f"/{rest}"
        return inner(environ, start_response)

    app.wsgi_app = shift
    client = install(app).test_client()
    for tenant in range(150):
        assert client.get(f"/t{tenant}/plain/1").status_code == 200
    routes = {labels[1] for labels in counted(runtime)}
    assert "/t0/plain/<x>" in routes
    assert "/{mount}/plain/<x>" in routes
    assert len(routes) == 101


def test_a_prefix_of_the_server_is_not_part_of_the_template(runtime):
    """Behind a proxy that strips a prefix the template stays what the application declares."""
    app = install(build())
    assert app.test_client().get("/plain/1", base_url="http://shop.test/proxy").status_code == 200
    assert counted(runtime) == {("GET", "/plain/<x>", "200")}


def test_a_stored_answer_counts_under_the_route_that_made_it(app, runtime):
    """Flask does not match for it, yet it is an answer of that route."""

    @app.get("/charts/<week>")
    def _charts(week):
        return week, {"cache-control": "max-age=60"}

    client = app.test_client()
    assert [client.get("/charts/12").headers.get("age") for _ in range(3)] == [None, "0", "0"]
    assert metric(runtime, "http_requests_total") == {("GET", "/charts/<week>", "200"): 3.0}


def test_a_rule_that_cannot_be_told_never_fails_a_request(runtime, caplog):
    """The request is answered and counted all the same."""

    class Strange:
        endpoint = "_plain"
        provide_automatic_options = False

        @property
        def rule(self):
            raise RuntimeError("no")

    app = install(build())

    @app.before_request
    def _strange():
        flask.request.url_rule = Strange()

    assert app.test_client().get("/plain/1").text == "1"
    assert counted(runtime) == {("GET", "unmatched", "200")}
    assert "could not be told" in caplog.text


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [{}, {"TESTING": True}, {"DEBUG": True}, {"PROPAGATE_EXCEPTIONS": True}])
@pytest.mark.parametrize(
    ("error", "status"), [(denied(), 403), (AuditUnavailable("SMW-A102", "the disk is full"), 503)]
)
def test_a_refusal_in_a_view_reaches_the_client(app, runtime, config, error, status):
    """Flask would make 500 of it, or let it out in tests; it is problem details without personal data."""
    app.config.update(config)
    recorded = Recorded(runtime.host)

    @app.get("/x")
    def _x():
        raise error

    answer = app.test_client().get("/x")
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert json.loads(answer.data)["code"] == f"SMW-W{status}"
    assert b"alice" not in answer.data
    assert metric(runtime, "http_requests_total") == {("GET", "/x", str(status)): 1.0}
    assert len(recorded.of(RequestBlocked)) == 1


def test_a_refusal_before_the_view_and_in_a_blueprint(app, runtime):
    """Wherever Flask handles exceptions."""
    pages = Blueprint("pages", "shop")

    @pages.before_request
    def _before():
        raise denied()

    @pages.get("/x")
    def _x():
        return "never"

    app.register_blueprint(pages, url_prefix="/pages")
    assert app.test_client().get("/pages/x").status_code == 403


def test_after_request_functions_see_the_refusal(app):
    """Headers that the application puts on every answer are on this one too."""

    @app.after_request
    def _after(response):
        response.headers["x-mine"] = str(response.status_code)
        return response

    @app.get("/x")
    def _x():
        raise denied()

    assert app.test_client().get("/x").headers["x-mine"] == "403"


@pytest.mark.parametrize("kind", [Denied, PermissionError, Exception])
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_applications_own_handler_wins(runtime, kind, when):
    """For the exception or a base class of it, registered before or after smw."""
    app = Flask("shop")
    if when == "after":
        install(app)

    @app.errorhandler(kind)
    def _mine(_error):
        return "mine", 418

    @app.get("/x")
    def _x():
        raise denied()

    if when == "before":
        install(app)
    assert app.test_client().get("/x").status_code == 418


def test_other_errors_are_flasks(app):
    """HTTP exceptions, handlers for status codes, and what nobody handles."""

    @app.errorhandler(404)
    def _missing(_error):
        return "mine", 404

    @app.get("/teapot")
    def _teapot():
        flask.abort(418)

    @app.get("/broken")
    def _broken():
        raise LookupError("mine")

    client = app.test_client()
    assert (client.get("/nope").text, client.get("/teapot").status_code) == ("mine", 418)
    assert client.get("/broken").status_code == 500
    app.testing = True
    with pytest.raises(LookupError, match="mine"):
        client.get("/broken")


def test_a_body_that_is_too_large_is_413(runtime, caplog):
    """Declared or in chunks, read by the view or by Flask for it, and no traceback in the log."""
    app = Flask("shop")
    app.wsgi_app = MonitoringMiddleware(create_security_middleware(max_body_bytes=10)(app.wsgi_app))

    @app.post("/x")
    def _x():
        return str(len(flask.request.data))

    client = app.test_client()
    assert client.post("/x", data=b"x" * 10).text == "10"
    assert client.post("/x", data=b"x" * 11).status_code == 413
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    environ = {**chunked, "CONTENT_LENGTH": ""}
    answer = client.post("/x", input_stream=io.BytesIO(b"x" * 50), environ_overrides=environ)
    assert (answer.status_code, answer.content_type) == (413, "application/problem+json")
    assert metric(runtime, "http_requests_total")[("POST", "/x", "413")] == 1.0
    assert "Traceback" not in caplog.text


def test_factories_alone_refuse_as_well(runtime):
    """The documented line on `app.wsgi_app` is enough for the promise of the security middleware."""
    app = Flask("shop")
    app.wsgi_app = create_security_middleware("production", rate_limit="3/minute")(app.wsgi_app)
    app.wsgi_app = ProxyFix(app.wsgi_app)
    app.wsgi_app = create_monitoring_middleware(health_path="/api/health")(app.wsgi_app)

    @app.get("/x")
    def _x():
        raise denied()

    client = app.test_client()
    assert [client.get("/x").status_code for _ in range(4)] == [403, 403, 403, 429]
    assert client.get("/api/health").status_code == 200
    assert metric(runtime, "http_requests_total") == {("GET", "/x", "403"): 3.0, ("GET", "unmatched", "429"): 1.0}


# --- Flask's own ways ---------------------------------------------------------------------------------------------


def test_streaming_with_the_request_context(app, runtime):
    """The view's context lives as long as its stream, and the exchange does too."""
    active = []

    @app.get("/stream")
    def _stream():
        @flask.stream_with_context
        def pieces():
            for number in range(3):
                active.append(metric(runtime, "active_connections")[()])
                yield f"{flask.request.path} {number}\n"

        return pieces()

    assert app.test_client().get("/stream").text == "/stream 0\n/stream 1\n/stream 2\n"
    assert active == [1.0, 1.0, 1.0]
    assert metric(runtime, "http_requests_total") == {("GET", "/stream", "200"): 1.0}


def test_sessions_flashes_teardown_and_callbacks(app):
    """What Flask keeps around a request is kept."""
    app.secret_key = "secret"
    order = []

    @app.teardown_request
    def _teardown(_error):
        order.append("teardown")

    @app.get("/count")
    def _count():
        flask.session["count"] = flask.session.get("count", 0) + 1
        flask.after_this_request(lambda response: order.append("after") or response)
        response = flask.make_response(str(flask.session["count"]))
        response.call_on_close(lambda: order.append("closed"))
        return response

    client = app.test_client()
    with client.get("/count") as first:
        assert first.text == "1"
    assert order == ["after", "teardown", "closed"]
    assert client.get("/count").text == "2"
    with client:
        client.get("/count")
        assert flask.request.path == "/count"


def test_spans_of_views_are_children_of_the_server_span(app, runtime, monkeypatch):
    """The route names it, and the next request starts from nothing."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(api, "_TRACER_PROVIDER", provider)

    @app.get("/users/<user>")
    def _user(user):
        with api.get_tracer("mine").start_as_current_span("work"):
            return user

    for user in "ab":
        app.test_client().get(f"/users/{user}")
    work, server, again, other = kept.get_finished_spans()
    assert (server.name, other.name) == ("GET /users/<user>",) * 2
    assert (work.parent.span_id, again.parent.span_id) == (server.context.span_id, other.context.span_id)
    assert server.parent is other.parent is None
