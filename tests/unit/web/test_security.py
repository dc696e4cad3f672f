"""What the security policy refuses, how, and what it lets through untouched."""

from __future__ import annotations

import json
from typing import Annotated

import pytest
from fastapi import Body, FastAPI

from smw._kernel.signals import RequestBlocked
from smw.errors import AuditUnavailable, Denied
from smw.testing import Recorded
from smw.web import MonitoringMiddleware, SecurityMiddleware, create_security_middleware
from smw.web.exchange import RequestTooLarge
from tests.unit.web.driving import call, metric


async def ok(_scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def denied():
    return Denied(control="gdpr.purpose", clause="GDPR 5(1)(b)", missing="a purpose for alice@example.org")


def is_problem(answer, status):
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    told = json.loads(answer.body)
    assert told["status"] == status
    return told


async def test_a_declared_body_above_the_cap_is_refused_unread(runtime):
    """Content-Length alone is enough: nothing is received, the application is not asked."""

    async def never(_scope, _receive, _send):
        raise AssertionError("asked")

    app = create_security_middleware(max_body_bytes=10)(never)
    answer = await call(app, method="POST", headers=[("content-length", "11")], body=[b"x" * 11])
    assert is_problem(answer, 413)["code"] == "SMW-W413"
    assert answer.received == 0


async def test_a_body_at_the_cap_passes(runtime):
    """The limit itself is allowed."""
    app = create_security_middleware(max_body_bytes=10)(ok)
    answer = await call(app, method="POST", headers=[("content-length", "10")], body=[b"x" * 10])
    assert answer.body == b"ok"


async def test_a_chunked_body_is_stopped_where_it_crosses_the_cap(runtime):
    """Nothing is buffered: the chunk that is too much is the last one read."""
    app = create_security_middleware(max_body_bytes=10)(ok)
    answer = await call(app, method="POST", body=[b"x" * 6] * 5)
    is_problem(answer, 413)
    assert answer.received == 2


@pytest.mark.parametrize("length", ["9" * 5000, "99999999999999999999"])
async def test_an_absurd_content_length_is_refused(runtime, length):
    """A number too long to parse cheaply is too large in any case."""
    answer = await call(SecurityMiddleware(ok), method="POST", headers=[("content-length", length)])
    is_problem(answer, 413)


async def test_an_application_that_swallows_the_stop_cannot_hide_it(runtime):
    """FastAPI turns errors while reading into 400; the client still learns the reason."""
    app = FastAPI()

    @app.post("/")
    async def _post(data: Annotated[dict, Body()]):
        return data

    app.add_middleware(create_security_middleware(max_body_bytes=10))
    headers = [("content-type", "application/json")]
    answer = await call(app, "/", method="POST", headers=headers, body=[b'{"a": "', b"x" * 20, b'"}'])
    is_problem(answer, 413)
    assert answer.starts == 1


async def test_an_answer_under_way_is_not_replaced(runtime):
    """Once the head is out, a body that grows too large ends the request as the application decides."""

    async def app(_scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive()).get("more_body"):
            pass

    guarded = create_security_middleware(max_body_bytes=1)(app)
    with pytest.raises(RequestTooLarge):
        await call(guarded, method="POST", body=[b"xx", b"xx"])


async def test_too_many_requests(runtime, clock):
    """Above the rate a client gets 429 with the time to wait, and is let in when it has waited."""
    app = create_security_middleware(rate_limit="2/minute")(ok)
    with_recorded = Recorded(runtime.host)
    assert [(await call(app)).status for _ in range(3)] == [200, 200, 429]
    refused = await call(app)
    is_problem(refused, 429)
    clock.advance(int(refused.headers["retry-after"]))
    assert (await call(app)).status == 200
    assert with_recorded.of(RequestBlocked) == [RequestBlocked("security", "rate_limited")] * 2


async def test_clients_are_limited_apart(runtime):
    """One client's flood does not shut out another."""
    app = create_security_middleware(rate_limit="1/minute")(ok)
    assert (await call(app, client=("198.51.100.1", 1))).status == 200
    assert (await call(app, client=("198.51.100.1", 2))).status == 429
    assert (await call(app, client=("198.51.100.2", 1))).status == 200


async def test_one_ipv6_site_is_one_client(runtime):
    """Whoever owns a /64 cannot change the address for every request."""
    app = create_security_middleware(rate_limit="1/minute")(ok)
    assert (await call(app, client=("2001:db8::1", 1))).status == 200
    assert (await call(app, client=("2001:db8::2", 1))).status == 429
    assert (await call(app, client=("2001:db8:0:1::2", 1))).status == 200


async def test_forwarded_addresses_count_behind_trusted_proxies_only(runtime):
    """A header that anybody can write is believed from a proxy that the operator named."""
    forged = [("x-forwarded-for", "192.0.2.1")]
    open_app = create_security_middleware(rate_limit="1/minute")(ok)
    assert (await call(open_app, headers=[("x-forwarded-for", "192.0.2.7")])).status == 200
    assert (await call(open_app, headers=forged)).status == 429

    app = create_security_middleware(rate_limit="1/minute", trusted_proxies="203.0.113.0/24")(ok)
    assert (await call(app, headers=forged)).status == 200
    assert (await call(app, headers=[("x-forwarded-for", "6.6.6.6, 192.0.2.1")])).status == 429
    assert (await call(app, headers=[("x-forwarded-for", "192.0.2.9")])).status == 200


async def test_a_peer_without_address_is_local(runtime):
    """Unix sockets and test clients have no address; they are one client."""
    app = create_security_middleware(rate_limit="1/minute")(ok)
    assert (await call(app, client=None)).status == 200
    assert (await call(app, client=("testclient", 1))).status == 429


async def test_a_denial_becomes_403_without_personal_data(runtime):
    """The client learns that a control said no, and nothing about whom."""

    async def app(_scope, _receive, _send):
        raise denied()

    answer = await call(SecurityMiddleware(app))
    assert is_problem(answer, 403)["code"] == "SMW-W403"
    assert b"alice" not in answer.body


async def test_a_denial_in_a_fastapi_route_is_counted_as_403(runtime):
    """Frameworks re-raise what they do not know; the adapter stands inside the one that would say 500."""
    app = FastAPI()

    @app.get("/x")
    async def _x():
        raise denied()

    app.add_middleware(MonitoringMiddleware)
    app.add_middleware(SecurityMiddleware)
    is_problem(await call(app, "/x"), 403)
    assert metric(runtime, "http_requests_total") == {("GET", "/x", "403"): 1.0}


async def test_the_applications_own_handler_for_denials_wins(runtime):
    """Who wants another answer says so in the framework's way."""
    from starlette.responses import PlainTextResponse

    app = FastAPI()

    @app.exception_handler(Denied)
    async def _mine(_request, _error):
        return PlainTextResponse("mine", status_code=418)

    @app.get("/x")
    async def _x():
        raise denied()

    app.add_middleware(SecurityMiddleware)
    assert (await call(app, "/x")).status == 418


async def test_no_audit_log_no_service(runtime):
    """A call that must not run unrecorded is 503, not 500."""

    async def app(_scope, _receive, _send):
        raise AuditUnavailable("SMW-A102", "the disk is full")

    is_problem(await call(SecurityMiddleware(app)), 503)


async def test_a_denial_after_the_head_goes_on(runtime):
    """An answer under way cannot become another one."""

    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise denied()

    with pytest.raises(Denied):
        await call(SecurityMiddleware(app))


async def test_other_exceptions_pass(runtime):
    """What is no denial is none of this policy's business."""

    async def app(_scope, _receive, _send):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await call(SecurityMiddleware(app))


async def test_probes_are_never_refused(runtime):
    """Monitoring stands outside security: a flooded service still tells how it is."""
    app = MonitoringMiddleware(create_security_middleware(rate_limit="1/day")(ok))
    await call(app)
    assert (await call(app)).status == 429
    assert (await call(app, "/health/live")).status == 200
    assert metric(runtime, "http_requests_total") == {
        ("GET", "unmatched", "200"): 1.0, ("GET", "unmatched", "429"): 1.0,
    }  # fmt: skip


async def test_head_gets_the_refusal_without_its_body(runtime):
    """A refusal of HEAD is a HEAD answer."""
    app = create_security_middleware(rate_limit="1/day")(ok)
    await call(app)
    answer = await call(app, method="HEAD")
    assert (answer.status, answer.body) == (429, b"")
