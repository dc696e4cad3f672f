"""With the whole stack in between, a WSGI application and its server see exactly what they saw before."""

from __future__ import annotations

import contextvars
import gc
import io
import sys
import weakref
from wsgiref.util import FileWrapper

import pytest

from smw.errors import SmwError
from smw.web import CacheMiddleware, MonitoringMiddleware, PipelineMiddleware, SecurityMiddleware
from smw.web.exchange import Policy, RequestTooLarge
from smw.web.source import PolicySource
from smw.web.wsgi_app import WsgiApp
from tests.contract.worlds import environ_of, metric

FRESH = ("Cache-Control", "max-age=60")
tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


def stack(app):
    """Put all four around an application."""
    return MonitoringMiddleware(SecurityMiddleware(PipelineMiddleware(CacheMiddleware(app))))


class Server:
    """As much of a server as a test looks at: one request, everything in the order in which it happened."""

    def __init__(self, app, target="/", method="GET", headers=(), **more):
        self.seen = seen = []

        def start_response(status, headers, exc_info=None):
            if exc_info is not None and any(isinstance(event, bytes) for event in seen):
                raise exc_info[1]
            seen.append((status, headers))
            return seen.append

        self.environ = environ_of(method, target, headers, **more)
        self.result = app(self.environ, start_response)

    def run(self):
        try:
            for piece in self.result:
                self.seen.append(piece)
        finally:
            if hasattr(self.result, "close"):
                self.result.close()
        return self

    @property
    def body(self):
        return b"".join(event for event in self.seen if isinstance(event, bytes))


class Result:
    """What an application returns, and whether it was closed."""

    def __init__(self, *pieces):
        self.pieces = iter(pieces)
        self.closed = 0

    def __iter__(self):
        return self

    def __next__(self):
        piece = next(self.pieces)
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def close(self):
        self.closed += 1


def answering(result, status="200 OK", headers=()):
    def app(_environ, start_response):
        start_response(status, list(headers))
        return result

    return app


def test_head_and_pieces_are_handed_on_as_the_same_objects(runtime):
    """Header list and byte strings are not copied, and the head is there when the call returns."""
    headers, pieces = [("X-A", "1"), ("X-A", "2")], [b"one", b"", b"two"]

    def app(_environ, start_response):
        start_response("299 Fine", headers)
        return pieces

    server = Server(stack(app))
    assert server.seen == [("299 Fine", headers)]
    assert server.seen[0][1] is headers
    server.run()
    assert [id(piece) for piece in server.seen[1:]] == [id(piece) for piece in pieces]


@pytest.mark.parametrize("result", [[b"only"], (b"a", b"b"), []])
def test_the_number_of_pieces_stays_known(runtime, result):
    """Servers tell the length of an answer by it."""
    assert len(Server(stack(answering(result))).run().result) == len(result)
    assert not hasattr(Server(stack(answering(iter(result)))).run().result, "__len__")


def test_a_generator_makes_a_piece_when_it_is_asked_for(runtime):
    """Nothing is read ahead."""
    made = []

    def pieces():
        for number in range(3):
            made.append(number)
            yield b"x"

    result = iter(Server(stack(answering(pieces()))).result)
    assert made == []
    next(result)
    assert made == [0]


def test_an_application_that_is_a_generator_sends_its_head_with_the_first_piece(runtime):
    """Its code runs when the server asks, head included."""

    def app(_environ, start_response):
        start_response("200 OK", [FRESH])
        yield b"late"

    wrapped = stack(app)
    server = Server(wrapped)
    assert server.seen == []
    assert server.run().seen == [("200 OK", [FRESH]), b"late"]
    assert Server(wrapped).run().body == b"late"
    assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "200"): 2.0}


def test_the_write_callable_sends_at_once(runtime):
    """Old applications write; their bytes are out before they return, counted and stored like others."""
    asked = []

    def app(_environ, start_response):
        asked.append(1)
        write = start_response("200 OK", [FRESH, ("Content-Length", "6")])
        write(b"one")
        write(b"two")
        return []

    wrapped = stack(app)
    assert Server(wrapped).seen[1:] == [b"one", b"two"]
    assert Server(wrapped).run().body == b"onetwo"
    assert Server(wrapped).run().body == b"onetwo"
    assert len(asked) == 2  # the first server never came to the end, so only the second answer was kept


def test_an_error_page_takes_the_place_of_a_head_that_was_not_sent(runtime):
    """exc_info reaches the server, the last head counts, and nothing of the first is stored."""

    def app(_environ, start_response):
        start_response("200 OK", [FRESH])
        try:
            int("mine")
        except ValueError:
            start_response("500 Oops", [], sys.exc_info())
        return [b"sorry"]

    wrapped = stack(app)
    for _ in range(2):
        assert Server(wrapped).run().seen[1:] == [("500 Oops", []), b"sorry"]
    assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "500"): 2.0}


def test_an_error_after_the_first_bytes_is_raised_by_the_server_through_the_application(runtime):
    """That is how WSGI aborts an answer."""

    def app(_environ, start_response):
        start_response("200 OK", [])(b"half")
        try:
            int("mine")
        except ValueError:
            start_response("500 Oops", [], sys.exc_info())
        return []

    with pytest.raises(ValueError, match="mine"):
        Server(stack(app))
    assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "200"): 1.0}


def test_a_head_that_the_server_refuses_counts_500(runtime):
    """Nothing was sent of it."""

    def app(_environ, start_response):
        start_response("", [])
        return []

    def refusing(_status, _headers, _exc_info=None):
        raise AssertionError("no status")

    with pytest.raises(AssertionError, match="no status"):
        stack(app)(environ_of("GET", "/"), refusing)
    assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "500"): 1.0}


@pytest.mark.parametrize("asked", [0, 1, 2, 3])
def test_what_the_application_returned_is_closed_once_however_far_the_server_came(runtime, asked):
    """To the end, in the middle, before the first piece."""
    result = Result(b"a", b"b")
    server = Server(stack(answering(result)))
    pieces = iter(server.result)
    for _ in range(asked):
        next(pieces, None)
    server.result.close()
    server.result.close()
    assert result.closed == 1
    status = "200" if asked == 3 else "499"
    assert metric(runtime, "http_requests_total") == {("GET", "unmatched", status): 1.0}
    assert metric(runtime, "active_connections") == {(): 0.0}


def test_it_is_closed_after_an_exception_too(runtime):
    """The exception comes out unchanged, and the server's close reaches the application."""
    error = OSError("disk")
    result = Result(b"a", error)
    with pytest.raises(OSError, match="disk") as caught:
        Server(stack(answering(result))).run()
    assert (caught.value, result.closed) == (error, 1)


def test_an_exception_while_closing_goes_on(runtime):
    """The answer is complete and counted as that."""

    class Sticky(Result):
        def close(self):
            raise OSError("sticky")

    with pytest.raises(OSError, match="sticky"):
        Server(stack(answering(Sticky(b"a")))).run()
    assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "200"): 1.0}


def test_work_in_close_is_no_latency(runtime, clock):
    """What is done after the last byte keeps nobody waiting."""

    class Slow(Result):
        def close(self):
            clock.advance(5)

    Server(stack(answering(Slow(b"a")))).run()
    assert metric(runtime, "http_request_duration_seconds_sum") == {("GET", "unmatched", "200"): 0.0}


def test_a_whole_answer_counts_before_it_is_closed(runtime):
    """A test client reads one piece and never closes; the length tells that it was all."""
    server = Server(stack(answering(Result(b"abc"), headers=[("Content-Length", "3")])))
    next(iter(server.result))
    assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "200"): 1.0}
    assert metric(runtime, "active_connections") == {(): 0.0}


@pytest.mark.parametrize(("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Same")])
def test_an_answer_without_a_body_needs_no_asking(runtime, method, status):
    """Some servers do not even iterate."""
    server = Server(stack(answering(Result(), status)), method=method)
    server.result.close()
    assert metric(runtime, "http_requests_total") == {(method, "unmatched", status[:3]): 1.0}


def test_a_body_that_nobody_closes_ends_with_its_last_reference(runtime):
    """A client that forgets it leaves no connection open."""
    server = Server(stack(answering(Result(b"a", b"b"))))
    pieces = iter(server.result)
    next(pieces)
    del pieces, server
    assert metric(runtime, "active_connections") == {(): 0.0}


def test_an_application_that_returns_nothing_fails_as_before(runtime):
    """The error is Python's, and is counted."""
    with pytest.raises(TypeError, match="not iterable"):
        Server(stack(answering(None, headers=[])))
    assert metric(runtime, "active_connections") == {(): 0.0}


def test_an_application_that_says_nothing_counts_500(runtime):
    """The server answers for it."""
    Server(stack(lambda _environ, _start_response: [])).run()
    assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "500"): 1.0}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_exits_pass_and_leave_nothing_behind(runtime, error):
    """A worker that is told to stop in the middle of a request stops."""

    def app(_environ, _start_response):
        raise error

    with pytest.raises(type(error)):
        Server(stack(app))
    assert metric(runtime, "active_connections") == {(): 0.0}


# --- files --------------------------------------------------------------------------------------------------------


def test_a_file_stays_the_servers_own_object(runtime, tmp_path):
    """Then the server can send it by the means of the system; the exchange ends when it closes it."""
    (tmp_path / "a").write_bytes(b"file")
    file = (tmp_path / "a").open("rb")

    def app(environ, start_response):
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](file)

    server = Server(stack(app), **{"wsgi.file_wrapper": FileWrapper})
    assert type(server.result) is FileWrapper
    assert metric(runtime, "active_connections") == {(): 1.0}
    assert server.run().body == b"file"
    assert file.closed
    assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "200"): 1.0}


def test_a_file_that_is_to_be_stored_is_read(runtime):
    """The response cache wants the bytes."""

    def app(environ, start_response):
        start_response("200 OK", [FRESH])
        return environ["wsgi.file_wrapper"](io.BytesIO(b"file"))

    wrapped = stack(app)
    for _ in range(2):
        assert Server(wrapped, **{"wsgi.file_wrapper": FileWrapper}).run().body == b"file"
    assert Server(wrapped, **{"wsgi.file_wrapper": FileWrapper}).seen[0][1][-2:] == [
        ("age", "0"), ("content-length", "4"),
    ]  # fmt: skip


def test_a_file_object_that_takes_no_other_close_is_read(runtime):
    """Such as one written in C; the file is closed all the same."""

    class Sealed:
        __slots__ = ("closed",)

        def __init__(self, _file):
            self.closed = False

        def __iter__(self):
            yield b"file"

        def close(self):
            self.closed = True

    made = []

    def app(environ, start_response):
        start_response("200 OK", [])
        made.append(environ["wsgi.file_wrapper"](None))
        return made[0]

    assert Server(stack(app), **{"wsgi.file_wrapper": Sealed}).run().body == b"file"
    assert made[0].closed
    assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "200"): 1.0}


# --- the request --------------------------------------------------------------------------------------------------


def test_the_application_gets_the_servers_environ(runtime):
    """The same dict, so that what outer middlewares and servers have put there is there; Expect is not ours."""
    got = []

    def app(environ, start_response):
        got.append(environ)
        return answering([])(environ, start_response)

    stream = io.BytesIO(b"body")
    headers = [("expect", "100-continue"), ("content-length", "4")]
    server = Server(stack(app), method="POST", headers=headers, stream=stream, **{"my.key": 7})
    assert got[0] is server.environ
    assert (got[0]["HTTP_EXPECT"], got[0]["my.key"]) == ("100-continue", 7)
    assert stream.tell() == 0


def test_a_request_without_body_keeps_the_servers_stream(runtime):
    """There is nothing to count."""
    got = []

    def app(environ, start_response):
        got.append(environ["wsgi.input"])
        return answering([])(environ, start_response)

    stream = io.BytesIO()
    Server(stack(app), stream=stream)
    Server(stack(app), stream=stream, SERVER_PROTOCOL="HTTP/2")
    assert got[0] is stream
    assert got[1] is not stream  # in HTTP/2 a body needs neither length nor chunks


def test_a_body_that_grows_too_large_after_the_head_is_the_applications(runtime):
    """An answer under way is not replaced."""

    def app(environ, start_response):
        start_response("200 OK", [])
        environ["wsgi.input"].read()
        return []

    guarded = MonitoringMiddleware(SecurityMiddleware(app, max_body_bytes=1))
    with pytest.raises(RequestTooLarge):
        Server(guarded, method="POST", headers=[("transfer-encoding", "chunked")], stream=io.BytesIO(b"xx"))
    assert metric(runtime, "http_requests_total") == {("POST", "unmatched", "200"): 1.0}


def test_endpoints_lie_below_the_prefix_of_the_server(runtime):
    """SCRIPT_NAME is where the application lies, not a part of its paths."""
    wrapped = stack(answering([]))
    assert Server(wrapped, "/health/live", SCRIPT_NAME="/api").seen[0][0] == "200 OK"
    assert b'"pass"' in Server(wrapped, "/health/live").run().body


@pytest.mark.parametrize(
    ("more", "target"),
    [
        ({"PATH_INFO": "/caf\u00c3\u00a9 %", "QUERY_STRING": "a=%20"}, "/caf%C3%A9%20%?a=%20"),
        ({"SCRIPT_NAME": "/api", "PATH_INFO": "/x"}, "/api/x"),
        ({"PATH_INFO": ""}, "/"),
        ({"RAW_URI": "/caf%c3%a9?b=2", "PATH_INFO": "/other"}, "/caf%c3%a9?b=2"),
        ({"REQUEST_URI": "http://shop.test?b=2"}, "/?b=2"),
        ({"REQUEST_URI": "http://shop.test/p/a?b=2"}, "/p/a?b=2"),
    ],
)
def test_the_target_is_what_the_client_sent(more, target):
    """It is the key of stored answers, so two targets must never look the same."""
    from smw.web.wsgi import WsgiExchange
    from smw.web.wsgi_route import Routes

    exchange = WsgiExchange({**environ_of("GET", "/"), **more}, None, lambda: 0.0, Routes(None))
    assert exchange.target == target


def test_paths_are_decoded(runtime):
    """WSGI carries the bytes of a path as if they were Latin-1."""
    from smw.web.wsgi import WsgiExchange
    from smw.web.wsgi_route import Routes

    exchange = WsgiExchange(environ_of("GET", "/caf\u00c3\u00a9"), None, lambda: 0.0, Routes(None))
    assert exchange.path == "/caf\u00e9"
    exchange = WsgiExchange(environ_of("GET", "/\u00ff"), None, lambda: 0.0, Routes(None))
    assert exchange.path == "/\ufffd"


def test_two_adapters_count_once(runtime):
    """A stack around a stack, with somebody else's middleware between, is one exchange."""

    def foreign(app):
        return lambda environ, start_response: iter(app(environ, start_response))

    wrapped = stack(foreign(stack(answering([b"x"]))))
    assert Server(wrapped).run().body == b"x"
    assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "200"): 1.0}


def test_context_variables_set_outside_are_seen_inside_and_back(runtime):
    """One thread, one context."""

    def app(environ, start_response):
        seen.append(tenant.get())
        tenant.set("inner")
        return answering([])(environ, start_response)

    def run():
        tenant.set("outer")
        Server(stack(app)).run()
        seen.append(tenant.get())

    seen = []
    contextvars.copy_context().run(run)
    assert seen == ["outer", "inner"]


def test_a_request_leaves_no_garbage_for_the_collector(runtime):
    """What a request holds is gone when it ends, without waiting for a collection."""

    class Held:
        pass

    held = Held()
    gone = weakref.ref(held)
    wrapped = stack(answering(Result(b"x")))
    gc.collect()
    gc.disable()
    try:
        headers = [("content-length", "3")]
        server = Server(wrapped, method="POST", headers=headers, stream=io.BytesIO(b"abc"), **{"my.held": held})
        server.run()
        del held, server
        assert gone() is None
    finally:
        gc.enable()


def test_a_policy_that_needs_an_event_loop_is_named(runtime):
    """A blocking thread has none to offer."""
    import asyncio

    class Waiting(Policy):
        async def around(self, exchange, proceed):
            await asyncio.sleep(0)
            return await proceed()

    class Source(PolicySource):
        name, rank, takes = "waiting", 5, {}

        def bind(self, runtime):
            return Waiting()

    with pytest.raises(SmwError, match="SMW-W110"):
        Server(WsgiApp(answering([]), (Source(),)).serve)
