"""What monitoring, security and the response cache do to an exchange, the same over ASGI and over WSGI."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from opentelemetry import trace as api
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from smw._kernel.signals import RequestBlocked
from smw.errors import AuditUnavailable, ConfigError, Denied
from smw.runtime import Runtime
from smw.testing import FakeClock, Recorded, isolated
from smw.web import (
    ENTERPRISE_MIDDLEWARE_STACK,
    CacheMiddleware,
    MonitoringMiddleware,
    PipelineMiddleware,
    SecurityMiddleware,
    create_cache_middleware,
    create_monitoring_middleware,
    create_security_middleware,
)
from smw.web.exchange import RequestTooLarge
from tests.contract.worlds import Asgi, Piece, Read, Start, Wsgi, metric, saying

FRESH = ("cache-control", "max-age=60")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(params=[Asgi(), Wsgi()], ids=lambda world: world.name)
def world(request):
    return request.param


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def runtime(clock) -> Iterator[Runtime]:
    with isolated("testing", clock=clock) as runtime:
        yield runtime


def denied():
    return Denied(control="gdpr.purpose", clause="GDPR 5(1)(b)", missing="a purpose for alice@example.org")


def raising(error):
    def script():
        raise error
        yield

    return script


def never():
    raise AssertionError("the application was asked")
    yield


class Page:
    """An application that counts how often it was asked."""

    def __init__(self, *headers, status=200):
        self.headers = headers or (FRESH,)
        self.status = status
        self.asked = 0

    def __call__(self):
        self.asked += 1
        yield Start(self.status, self.headers)
        yield Piece(b"page ")
        yield Piece(b"%d" % self.asked)


def is_problem(answer, status):
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    told = json.loads(answer.body)
    assert told["status"] == status
    return told


# --- the stack ----------------------------------------------------------------------------------------------------


def test_a_middleware_speaks_what_its_application_speaks(world):
    """The same classes and factories stand on both, and neighbours become one adapter in the canonical order."""
    app = world.application(saying())
    adapter = create_security_middleware("production")(CacheMiddleware(PipelineMiddleware(MonitoringMiddleware(app))))
    assert repr(adapter) == "<smw monitoring > security > pipeline > cache>"
    assert (adapter.app, adapter.protocol) == (app, world.name)


async def test_the_documented_loop_works(world, runtime):
    """The stack is put around an application class by class."""
    app = world.application(saying())
    for middleware_class, config in ENTERPRISE_MIDDLEWARE_STACK:
        app = middleware_class(app, **config)
    assert (await world.ask(app)).body == b"ok"
    assert (await world.ask(app, "/health/live")).status == 200


def test_the_same_middleware_twice_is_an_error(world):
    """A policy that would run twice is refused by name."""
    with pytest.raises(ConfigError, match="cache middleware was added twice"):
        CacheMiddleware(SecurityMiddleware(CacheMiddleware(world.application(saying()))))


# --- monitoring ---------------------------------------------------------------------------------------------------


async def test_requests_durations_and_sizes(world, runtime, clock):
    """One exchange moves all four metrics."""

    def script():
        yield Read()
        clock.advance(0.2)
        yield Start(201)
        yield Piece(b"x")

    app = MonitoringMiddleware(world.application(script))
    await world.ask(app, method="POST", headers=[("content-length", "3")], body=[b"abc"])
    assert metric(runtime, "http_requests_total") == {("POST", "unmatched", "201"): 1.0}
    assert metric(runtime, "http_request_duration_seconds_sum") == {("POST", "unmatched", "201"): pytest.approx(0.2)}
    assert metric(runtime, "http_request_size_bytes_sum") == {("POST", "unmatched"): 3.0}
    assert metric(runtime, "active_connections") == {(): 0.0}


async def test_a_body_in_chunks_is_counted_as_it_came(world, runtime):
    """Without a declared length the bytes that the application read are its size."""
    app = MonitoringMiddleware(world.application(saying(reads=True)))
    await world.ask(app, method="POST", body=[b"ab", b"cd"])
    assert metric(runtime, "http_request_size_bytes_sum") == {("POST", "unmatched"): 4.0}


async def test_duration_ends_with_the_last_byte_and_the_exchange_is_in_flight_until_then(world, runtime, clock):
    """A streaming answer lasts until its last piece, and is an active connection meanwhile."""
    active = []

    def script():
        yield Start()
        for _ in range(3):
            clock.advance(1)
            active.append(metric(runtime, "active_connections")[()])
            yield Piece(b"x")

    await world.ask(MonitoringMiddleware(world.application(script)))
    assert metric(runtime, "http_request_duration_seconds_sum") == {("GET", "unmatched", "200"): pytest.approx(3.0)}
    assert active == [1.0, 1.0, 1.0]
    assert metric(runtime, "active_connections") == {(): 0.0}


async def test_an_exception_before_the_answer_counts_500_and_goes_on_unchanged(world, runtime):
    """The same exception object comes out."""
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        await world.ask(MonitoringMiddleware(world.application(raising(error))))
    assert caught.value is error
    assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "500"): 1.0}
    assert metric(runtime, "active_connections") == {(): 0.0}


async def test_an_exception_after_the_head_counts_the_sent_status(world, runtime):
    """What the client saw is what counts."""

    def script():
        yield Start(200)
        yield Piece(b"half")
        raise OSError

    with pytest.raises(OSError):
        await world.ask(MonitoringMiddleware(world.application(script)))
    assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "200"): 1.0}
    assert metric(runtime, "active_connections") == {(): 0.0}


async def test_a_client_that_leaves_counts_499(world, runtime):
    """A server that gives up on a client in the middle of an answer has not failed."""

    def script():
        yield Start()
        for _ in range(100):
            yield Piece(b"x")

    app = MonitoringMiddleware(world.application(script))
    assert len((await world.ask(app, leaves_after=2)).pieces) == 2
    assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "499"): 1.0}
    assert metric(runtime, "active_connections") == {(): 0.0}


async def test_scrapes_and_probes_are_answered_and_not_counted(world, runtime):
    """What smw serves itself never reaches the application."""
    app = MonitoringMiddleware(world.application(never))
    for target in ("/metrics", "/health", "/health/live", "/health/ready"):
        answer = await world.ask(app, target)
        assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
        head = await world.ask(app, target, method="HEAD")
        assert (head.status, head.body) == (200, b"")
        assert int(head.headers["content-length"]) > 0
    is_problem(await world.ask(app, "/metrics", method="POST"), 405)
    assert metric(runtime, "http_requests_total") == {}


async def test_checks_are_asked(world, runtime):
    """A failed dependency fails readiness and never liveness; probes may be functions of either kind."""

    async def mirror():
        return False

    runtime.monitor.check("mirror", mirror, critical=False)
    app = MonitoringMiddleware(world.application(never))
    assert json.loads((await world.ask(app, "/health")).body)["status"] == "warn"
    runtime.monitor.check("database", lambda: 1 / 0)
    assert (await world.ask(app, "/health/ready")).status == 503
    assert (await world.ask(app, "/health/live")).status == 200


async def test_endpoints_move_and_are_given_back(world, runtime):
    """None gives a path back to the application."""
    make = create_monitoring_middleware(metrics_path="/internal/metrics", health_path=None)
    app = make(world.application(saying(b"mine")))
    assert (await world.ask(app, "/metrics")).body == b"mine"
    assert (await world.ask(app, "/health")).body == b"mine"
    assert b"http_requests_total" in (await world.ask(app, "/internal/metrics")).body


async def test_it_follows_the_current_runtime(world):
    """A new runtime gets the figures from the next request on."""
    app = MonitoringMiddleware(world.application(saying()))
    for times in (1, 2):
        with isolated() as runtime:
            for _ in range(times):
                await world.ask(app)
            assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "200"): float(times)}


@pytest.fixture
def exporter(monkeypatch):
    """A configured SDK whose spans can be read."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(api, "_TRACER_PROVIDER", provider)
    return kept


async def test_one_server_span_around_everything_the_application_does(world, runtime, exporter):
    """W3C context comes in, spans of call and body are its children, and afterwards nothing is current."""

    def script():
        with api.get_tracer("mine").start_as_current_span("call"):
            yield Start()
        for number in range(2):
            api.get_tracer("mine").start_span(f"piece {number}").end()
            yield Piece(b"x")

    app = MonitoringMiddleware(SecurityMiddleware(world.application(script)))
    await world.ask(app, "/a", headers=[("traceparent", PARENT)])
    spans = exporter.get_finished_spans()
    (server,) = [span for span in spans if span.kind is SpanKind.SERVER]
    assert f"{server.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert (server.name, server.attributes["url.path"]) == ("GET", "/a")
    assert server.attributes["http.response.status_code"] == 200
    inner = {span.name: span.parent.span_id for span in spans if span is not server}
    assert inner == dict.fromkeys(("call", "piece 0", "piece 1"), server.context.span_id)
    assert api.get_current_span() is api.INVALID_SPAN


async def test_a_failed_request_marks_its_span(world, runtime, exporter):
    """The exception is recorded, and the context is what it was."""
    with pytest.raises(ValueError):
        await world.ask(MonitoringMiddleware(world.application(raising(ValueError()))))
    (server,) = exporter.get_finished_spans()
    assert (server.status.is_ok, server.attributes["http.response.status_code"]) == (False, 500)
    assert server.events[0].name == "exception"
    assert api.get_current_span() is api.INVALID_SPAN


# --- security -----------------------------------------------------------------------------------------------------


async def test_a_declared_body_above_the_cap_is_refused_unread(world, runtime):
    """Content-Length alone is enough: nothing is received, the application is not asked."""
    app = create_security_middleware(max_body_bytes=10)(world.application(never))
    answer = await world.ask(app, method="POST", headers=[("content-length", "11")], body=[b"x" * 11])
    assert is_problem(answer, 413)["code"] == "SMW-W413"
    assert answer.read_bytes == 0


async def test_a_body_at_the_cap_passes(world, runtime):
    """The limit itself is allowed."""
    app = create_security_middleware(max_body_bytes=10)(world.application(saying(reads=True)))
    answer = await world.ask(app, method="POST", headers=[("content-length", "10")], body=[b"x" * 10])
    assert (answer.body, answer.read_bytes) == (b"ok", 10)


async def test_a_chunked_body_is_stopped_where_it_crosses_the_cap(world, runtime):
    """Nothing is buffered, and the application is interrupted while it reads."""
    app = MonitoringMiddleware(create_security_middleware(max_body_bytes=10)(world.application(saying(reads=True))))
    answer = await world.ask(app, method="POST", body=[b"x" * 6] * 5)
    is_problem(answer, 413)
    assert answer.read_bytes < 13
    assert metric(runtime, "http_requests_total") == {("POST", "unmatched", "413"): 1.0}


async def test_an_application_that_swallows_the_stop_cannot_hide_it(world, runtime):
    """What it answers to a body that it was not given is not sent; the client learns the reason."""
    app = MonitoringMiddleware(create_security_middleware(max_body_bytes=10)(_swallowing(world)))
    answer = await world.ask(app, method="POST", body=[b"x" * 20])
    is_problem(answer, 413)
    assert answer.starts == 1
    assert metric(runtime, "http_requests_total") == {("POST", "unmatched", "413"): 1.0}


def _swallowing(world):
    """Return an application that answers 400 when it cannot read."""
    inner = world.application(saying(b"cannot be read", 400))
    if world.name == "wsgi":

        def app(environ, start_response):
            try:
                environ["wsgi.input"].read(100)
            except RequestTooLarge:
                return inner(environ, start_response)
            raise AssertionError("nothing was raised")

        return app

    async def asgi(scope, receive, send):
        try:
            await receive()
        except RequestTooLarge:
            await inner(scope, receive, send)
            return
        raise AssertionError("nothing was raised")

    return asgi


async def test_too_many_requests(world, runtime, clock):
    """Above the rate a client gets 429 with the time to wait, and is let in when it has waited."""
    app = create_security_middleware(rate_limit="2/minute")(world.application(saying()))
    recorded = Recorded(runtime.host)
    assert [(await world.ask(app)).status for _ in range(3)] == [200, 200, 429]
    refused = await world.ask(app)
    is_problem(refused, 429)
    clock.advance(int(refused.headers["retry-after"]))
    assert (await world.ask(app)).status == 200
    assert recorded.of(RequestBlocked) == [RequestBlocked("security", "rate_limited")] * 2


async def test_forwarded_addresses_count_behind_trusted_proxies_only(world, runtime):
    """A header that anybody can write is believed from a proxy that the operator named, several lines as one."""
    app = create_security_middleware(rate_limit="1/minute", trusted_proxies="203.0.113.0/24")(
        world.application(saying())
    )
    assert (await world.ask(app, headers=[("x-forwarded-for", "192.0.2.1")])).status == 200
    forged = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.1")]
    assert (await world.ask(app, headers=forged)).status == 429
    assert (await world.ask(app, headers=[("x-forwarded-for", "192.0.2.9")])).status == 200
    assert (await world.ask(app, headers=[("x-forwarded-for", "192.0.2.1")], peer="198.51.100.7")).status == 200


@pytest.mark.parametrize("peer", [None, "", "unix"])
async def test_a_peer_without_address_is_local(world, runtime, peer):
    """Unix sockets and test clients have no address; they are one client."""
    app = create_security_middleware(rate_limit="1/minute")(world.application(saying()))
    assert (await world.ask(app, peer=peer)).status == 200
    assert (await world.ask(app, peer=None)).status == 429


async def test_a_denial_becomes_403_without_personal_data(world, runtime):
    """The client learns that a control said no, and nothing about whom."""
    app = MonitoringMiddleware(SecurityMiddleware(world.application(raising(denied()))))
    answer = await world.ask(app)
    assert is_problem(answer, 403)["code"] == "SMW-W403"
    assert b"alice" not in answer.body
    assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "403"): 1.0}


async def test_no_audit_log_no_service(world, runtime):
    """A call that must not run unrecorded is 503, not 500."""
    error = AuditUnavailable("SMW-A102", "the disk is full")
    is_problem(await world.ask(SecurityMiddleware(world.application(raising(error)))), 503)


async def test_a_denial_after_the_head_goes_on(world, runtime):
    """An answer under way cannot become another one."""

    def script():
        yield Start()
        yield Piece(b"half")
        raise denied()

    with pytest.raises(Denied):
        await world.ask(SecurityMiddleware(world.application(script)))


async def test_other_exceptions_pass(world, runtime):
    """What is no denial is none of this policy's business."""
    with pytest.raises(LookupError, match="mine"):
        await world.ask(SecurityMiddleware(world.application(raising(LookupError("mine")))))


async def test_probes_are_never_refused(world, runtime):
    """Monitoring stands outside security: a flooded service still tells how it is."""
    app = MonitoringMiddleware(create_security_middleware(rate_limit="1/day")(world.application(saying())))
    assert [(await world.ask(app)).status for _ in range(2)] == [200, 429]
    assert (await world.ask(app, "/health/live")).status == 200
    assert metric(runtime, "http_requests_total") == {
        ("GET", "unmatched", "200"): 1.0, ("GET", "unmatched", "429"): 1.0,
    }  # fmt: skip


async def test_head_gets_the_refusal_without_its_body(world, runtime):
    """A refusal of HEAD is a HEAD answer."""
    app = create_security_middleware(rate_limit="1/day")(world.application(saying()))
    await world.ask(app)
    answer = await world.ask(app, method="HEAD")
    assert (answer.status, answer.body) == (429, b"")


# --- response cache -----------------------------------------------------------------------------------------------


async def test_a_fresh_answer_is_used_again_with_its_age(world, runtime, clock):
    """Same status, headers and body, plus Age; after its lifetime the application is asked."""
    page = Page(FRESH, ("x-mine", "1"))
    app = CacheMiddleware(world.application(page))
    first = await world.ask(app, "/a?b=1")
    clock.advance(59)
    again = await world.ask(app, "/a?b=1")
    assert (again.status, again.body) == (200, b"page 1") == (first.status, first.body)
    assert again.headers == {**first.headers, "age": "59", "content-length": "6"}
    clock.advance(1)
    assert (await world.ask(app, "/a?b=1")).body == b"page 2"


async def test_without_explicit_freshness_nothing_is_kept(world, runtime):
    """An application that says nothing is asked every time."""
    app = CacheMiddleware(world.application(Page(("x-mine", "1"))))
    assert [(await world.ask(app)).body for _ in range(2)] == [b"page 1", b"page 2"]


@pytest.mark.parametrize(
    "different",
    [{"target": "/a?b=2"}, {"target": "/b?b=1"}, {"scheme": "https"}, {"headers": [("host", "other.test")]}],
)
async def test_another_uri_is_another_entry(world, runtime, different):
    """Scheme, host, path and query all belong to the key."""
    app = CacheMiddleware(world.application(Page()))
    await world.ask(app, "/a?b=1")
    assert (await world.ask(app, **{"target": "/a?b=1", **different})).body == b"page 2"


@pytest.mark.parametrize(
    "header", [("authorization", "Bearer x"), ("range", "bytes=0-1"), ("cache-control", "no-store")]
)
async def test_requests_that_pass_by(world, runtime, header):
    """They neither get a stored answer nor leave one."""
    app = CacheMiddleware(world.application(Page()))
    bodies = [(await world.ask(app, headers=headers)).body for headers in ([header], [], [header], [])]
    assert bodies == [b"page 1", b"page 2", b"page 3", b"page 2"]


async def test_answers_that_set_cookies_are_never_kept(world, runtime):
    """A session must not reach a second client."""
    app = CacheMiddleware(world.application(Page(FRESH, ("set-cookie", "session=1"))))
    assert [(await world.ask(app)).body for _ in range(2)] == [b"page 1", b"page 2"]


async def test_a_request_with_cookies_gets_only_what_is_public(world, runtime):
    """max-age alone does not say that a page is for everybody; public does."""
    cookie = [("cookie", "session=1")]
    app = CacheMiddleware(world.application(Page()))
    await world.ask(app)
    assert (await world.ask(app, headers=cookie)).body == b"page 2"
    shared = CacheMiddleware(world.application(Page(("cache-control", "public, max-age=60"))))
    await world.ask(shared, "/shared", headers=cookie)
    assert (await world.ask(shared, "/shared", headers=cookie)).body == b"page 1"


async def test_vary_keeps_variants_apart(world, runtime):
    """Each value of what Vary names has its own entry."""
    app = CacheMiddleware(world.application(Page(FRESH, ("vary", "Accept-Language"))))
    asked = [[("accept-language", "de")], [("accept-language", "en")], []]
    for _ in range(2):
        bodies = [(await world.ask(app, headers=headers)).body for headers in asked]
        assert bodies == [b"page 1", b"page 2", b"page 3"]


async def test_a_client_that_has_it_gets_304(world, runtime, clock):
    """Validators of the client are answered from the stored entry, without the fields of a body."""
    app = CacheMiddleware(world.application(Page(FRESH, ("etag", '"v1"'), ("x-mine", "1"))))
    await world.ask(app)
    clock.advance(5)
    answer = await world.ask(app, headers=[("if-none-match", '"v0", W/"v1"')])
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers == {"cache-control": "max-age=60", "etag": '"v1"', "age": "5"}


async def test_head_is_answered_from_a_stored_get(world, runtime):
    """HEAD has the headers of the GET and no body; it stores nothing itself."""
    page = Page()
    app = CacheMiddleware(world.application(page))
    first = await world.ask(app)
    head = await world.ask(app, method="HEAD")
    assert (page.asked, head.status, head.body) == (1, 200, b"")
    assert head.headers["content-length"] == str(len(first.body))


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "BREW"])
async def test_a_successful_unsafe_request_forgets_the_uri(world, runtime, method):
    """Every method that is not known to be safe may have changed the page."""
    app = CacheMiddleware(world.application(Page()))
    await world.ask(app)
    await world.ask(app, method=method)
    assert (await world.ask(app)).body == b"page 3"


async def test_location_names_what_was_changed_on_the_same_host(world, runtime):
    """The new place of a thing is forgotten too."""
    page = Page()
    app = CacheMiddleware(world.application(page))
    await world.ask(app, "/things/7")
    await world.ask(app, "/things/8")
    page.headers = (("location", "/things/7"), ("content-location", "http://evil.test/things/8"))
    page.status = 201
    await world.ask(app, "/things", method="POST")
    page.headers, page.status = (FRESH,), 200
    assert (await world.ask(app, "/things/7")).body == b"page 4"
    assert (await world.ask(app, "/things/8")).body == b"page 2"


async def test_incomplete_answers_are_not_kept(world, runtime):
    """Fewer bytes than declared, an exception on the way, or a client that has left."""
    short = CacheMiddleware(world.application(Page(FRESH, ("content-length", "99"))))
    await world.ask(short, "/short")
    assert (await world.ask(short, "/short")).body == b"page 2"
    asked = 0

    def breaking():
        nonlocal asked
        asked += 1
        yield Start(200, (FRESH,))
        yield Piece(b"half")
        raise OSError

    app = CacheMiddleware(world.application(breaking))
    for _ in range(2):
        with pytest.raises(OSError):
            await world.ask(app, "/broken")
    assert asked == 2
    left = CacheMiddleware(world.application(Page()))
    await world.ask(left, "/left", leaves_after=1)
    assert (await world.ask(left, "/left")).body == b"page 2"


async def test_large_answers_pass_through_and_are_not_kept(world, runtime):
    """Above the limit nothing is held back or copied."""
    app = create_cache_middleware("production", response_cache_max_bytes=5)(world.application(Page()))
    assert [(await world.ask(app)).body for _ in range(2)] == [b"page 1", b"page 2"]


async def test_every_piece_is_passed_on_as_it_comes(world, runtime):
    """Copying for the store holds nothing back: a piece is out before the next one is made."""
    made = []

    def script():
        yield Start(200, (FRESH,))
        for number in range(3):
            made.append(number)
            yield Piece(b"%d" % number)

    app = CacheMiddleware(world.application(script))
    await world.ask(app, leaves_after=2)
    assert made in ([0, 1], [0, 1, 2][:2])
    assert (await world.ask(app)).body == b"012"


async def test_a_store_that_fails_never_reaches_the_client(world, runtime, monkeypatch, caplog):
    """The answer goes out whole, and the failure is logged."""

    class Broken:
        def mark(self):
            return 0

        async def get_in(self, *_args, **_kwargs):
            raise ConnectionError("gone")

        put_in = drop_in = get_in

    monkeypatch.setattr(type(runtime.cache), "region", lambda *_args: Broken())
    app = CacheMiddleware(world.application(Page()))
    assert (await world.ask(app)).body == b"page 1"
    assert (await world.ask(app, method="POST")).body == b"page 2"
    assert caplog.text.count("could not be looked up") == 1
    assert caplog.text.count("watching a response failed") == 2


async def test_what_one_world_has_stored_the_other_one_answers(runtime):
    """Entries are of responses, not of protocols; a service that moves keeps its cache."""
    page = Page(FRESH, ("content-type", "text/plain"))
    first = CacheMiddleware(Asgi().application(page))
    second = CacheMiddleware(Wsgi().application(page))
    assert (await Asgi().ask(first)).body == (await Wsgi().ask(second)).body == b"page 1"
