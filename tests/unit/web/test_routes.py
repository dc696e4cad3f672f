"""Which route template an exchange is counted under."""

from __future__ import annotations

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from smw.web import CacheMiddleware, MonitoringMiddleware
from smw.web.fastapi import install
from smw.web.route import Routes
from tests.unit.web.driving import call, metric


async def plain(_request):
    return PlainTextResponse("x")


def starlette():
    return Starlette(
        routes=[Route("/s/{q:int}", plain), Mount("/in/{v}", routes=[Route("/leaf/{leaf}", plain)])],
    )


def build(folder):
    """An application with every way of saying where a route lies."""
    app = FastAPI()
    deep = APIRouter(prefix="/deep")
    users = APIRouter(prefix="/users")

    @app.get("/plain/{x}")
    def _plain(x):
        return x

    @app.get("/slash/")
    def _slash():
        return 1

    @users.get("/{user}")
    def _user(user):
        return user

    @deep.get("/q/{k}")
    def _deep(k):
        return k

    users.include_router(deep, prefix="/v{version}")
    users.add_route("/plain-starlette/{z}", plain)
    app.include_router(users, prefix="/a")
    app.include_router(users, prefix="/b")
    sub = FastAPI()

    @sub.get("/item/{i}")
    def _item(i):
        return i

    sub.include_router(users, prefix="/inc")
    app.mount("/sub", sub)
    app.mount("/tenants/{t}", sub)
    app.mount("/star", starlette())
    app.mount("/static", StaticFiles(directory=folder))
    return app


MATRIX = [
    ("plain", "/plain/1", 200, "/plain/{x}"),
    ("included", "/a/users/2", 200, "/a/users/{user}"),
    ("the same router a second time", "/b/users/2", 200, "/b/users/{user}"),
    ("nested", "/a/users/v3/deep/q/1", 200, "/a/users/v{version}/deep/q/{k}"),
    ("mounted", "/sub/item/2", 200, "/sub/item/{i}"),
    ("mounted and included", "/sub/inc/users/4", 200, "/sub/inc/users/{user}"),
    ("mounted under a parameter", "/tenants/77/item/2", 200, "/tenants/{t}/item/{i}"),
    ("mounted Starlette", "/star/s/1", 200, "/star/s/{q}"),
    ("mount in a mount", "/star/in/9/leaf/2", 200, "/star/in/{v}/leaf/{leaf}"),
    ("mounted without routes", "/static/here.txt", 200, "/static/{path}"),
    ("nothing there in the mounted", "/static/nope", 404, "unmatched"),
    ("no route", "/nope/1234", 404, "unmatched"),
    ("no route below a mount", "/sub/nope", 404, "unmatched"),
    ("slash redirect", "/slash", 307, "unmatched"),
    ("route of the framework", "/docs", 200, "/docs"),
    ("plain Starlette route in a router", "/a/plain-starlette/1", 200, "/a/plain-starlette/{z}"),
]


@pytest.mark.parametrize(("target", "status", "route"), [row[1:] for row in MATRIX], ids=[row[0] for row in MATRIX])
async def test_template(runtime, tmp_path, target, status, route):
    """An exchange is counted under the template with every prefix, and under `unmatched` where nothing matched."""
    (tmp_path / "here.txt").write_text("here")
    app = build(tmp_path)
    app.add_middleware(MonitoringMiddleware)
    answer = await call(app, target)
    assert answer.status == status
    assert metric(runtime, "http_requests_total") == {("GET", route, str(status)): 1.0}


async def test_method_not_allowed_belongs_to_its_route(runtime, tmp_path):
    """405 is an answer of the route, not a missing one."""
    app = build(tmp_path)
    app.add_middleware(MonitoringMiddleware)
    await call(app, "/plain/1", method="POST")
    assert metric(runtime, "http_requests_total") == {("POST", "/plain/{x}", "405"): 1.0}


async def test_a_starlette_application(runtime):
    """Starlette leaves the same facts in the scope."""
    app = starlette()
    app.add_middleware(MonitoringMiddleware)
    for target in ("/s/1", "/in/3/leaf/2", "/in/3/nope", "/nope"):
        await call(app, target)
    found = {labels[1] for labels in metric(runtime, "http_requests_total")}
    assert found == {"/s/{q}", "/in/{v}/leaf/{leaf}", "unmatched"}


async def test_a_root_path_of_the_server_is_not_part_of_the_template(runtime, tmp_path):
    """Behind a proxy that strips a prefix the template stays what the application declares."""
    app = build(tmp_path)
    app.add_middleware(MonitoringMiddleware)
    await call(app, "/proxy/a/users/2", root_path="/proxy")
    await call(app, "/proxy/sub/item/2", root_path="/proxy")
    found = {labels[1] for labels in metric(runtime, "http_requests_total")}
    assert found == {"/a/users/{user}", "/sub/item/{i}"}


async def test_invented_methods_and_paths_stay_few_series(runtime, tmp_path):
    """A scanner cannot make labels."""
    app = build(tmp_path)
    app.add_middleware(MonitoringMiddleware)
    for number in range(50):
        await call(app, f"/wp-admin/{number}", method=f"M{number}")
        await call(app, f"/tenants/{number}/nope/{number}")
    assert {labels[:2] for labels in metric(runtime, "http_requests_total")} == {
        ("other", "unmatched"), ("GET", "unmatched"),
    }  # fmt: skip


async def test_websocket_routes_have_templates_too():
    """The scope of a WebSocket is read the same way."""
    app = FastAPI()
    router = APIRouter(prefix="/live")
    seen = []

    @router.websocket("/ws/{room}")
    async def _socket(socket: WebSocket, room: str):
        await socket.accept()
        await socket.close()

    app.include_router(router, prefix="/v1")
    scope = {"type": "websocket", "path": "/v1/live/ws/7", "headers": [], "query_string": b"", "subprotocols": []}

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        seen.append(message["type"])

    await app(scope, receive, send)
    assert seen == ["websocket.accept", "websocket.close"]
    assert Routes(app).template(scope, "", 101) == "/v1/live/ws/{room}"


async def test_a_strange_route_object_never_fails_a_request(runtime):
    """When a template cannot be told, the request is still counted and answered."""

    class Strange:
        @property
        def path_format(self):
            raise RuntimeError("no")

    async def app(scope, _receive, send):
        scope["route"] = Strange()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    assert (await call(MonitoringMiddleware(app))).status == 204
    assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "204"): 1.0}


def cacheable():
    """An application with a page that may be stored."""
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})

    @app.get("/charts/{week}")
    def _charts(week):
        return PlainTextResponse(week, headers={"cache-control": "max-age=60"})

    return app


async def test_a_stored_answer_counts_under_the_route_that_made_it(runtime):
    """The router does not run for it, yet it is an answer of that route: GET, HEAD and 304 alike."""
    app = install(cacheable())
    assert [(await call(app, "/charts/12")).headers.get("age") for _ in range(3)] == [None, "0", "0"]
    await call(app, "/charts/12", method="HEAD")
    await call(app, "/gone")
    assert metric(runtime, "http_requests_total") == {
        ("GET", "/charts/{week}", "200"): 3.0, ("HEAD", "/charts/{week}", "200"): 1.0, ("GET", "unmatched", "404"): 1.0,
    }  # fmt: skip


async def test_a_stored_answer_of_a_mounted_application_has_the_mount_in_its_route(runtime):
    """The cache lies in the mounted application, the count is taken outside of it."""
    sub = cacheable()
    sub.add_middleware(CacheMiddleware)
    app = FastAPI()
    app.mount("/tenants/{t}", sub)
    app.add_middleware(MonitoringMiddleware)
    assert [(await call(app, "/tenants/7/charts/12")).headers.get("age") for _ in range(2)] == [None, "0"]
    assert metric(runtime, "http_requests_total") == {("GET", "/tenants/{t}/charts/{week}", "200"): 2.0}
