"""The response cache around an application: what it answers itself, what it forgets, what it leaves alone."""

from __future__ import annotations

import asyncio

import pytest

from smw.testing import isolated
from smw.web import CacheMiddleware, create_cache_middleware
from tests.unit.web.driving import call, scope_of

FRESH = ("cache-control", "max-age=60")


class Page:
    """An application that counts how often it was asked."""

    def __init__(self, *headers, status=200, chunks=(b"page",)):
        self.headers = list(headers) or [FRESH]
        self.status = status
        self.chunks = chunks
        self.asked = 0
        self.during = None

    async def __call__(self, scope, receive, send):
        self.asked += 1
        if self.during is not None:
            during, self.during = self.during, None
            await during()
        headers = [(name.encode(), value.encode()) for name, value in self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        for chunk in self.chunks[:-1]:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": self.chunks[-1] + b" %d" % self.asked})


async def test_a_fresh_answer_is_used_again_with_its_age(runtime, clock):
    """Same status, headers and body, plus Age; after its lifetime the application is asked."""
    page = Page(FRESH, ("x-mine", "1"), chunks=(b"one ", b"two"))
    app = CacheMiddleware(page)
    first = await call(app, "/a?b=1")
    clock.advance(59)
    again = await call(app, "/a?b=1")
    assert (again.status, again.body) == (200, b"one two 1") == (first.status, first.body)
    assert "age" not in first.headers
    assert again.headers == {**first.headers, "age": "59", "content-length": "9"}
    clock.advance(1)
    assert (await call(app, "/a?b=1")).body == b"one two 2"


async def test_without_explicit_freshness_nothing_is_kept(runtime):
    """An application that says nothing is asked every time."""
    page = Page(("content-type", "text/plain"))
    app = CacheMiddleware(page)
    assert [(await call(app)).body for _ in range(2)] == [b"page 1", b"page 2"]


@pytest.mark.parametrize(
    "different",
    [{"target": "/a?b=2"}, {"target": "/b?b=1"}, {"scheme": "https"}, {"headers": [("host", "other.test")]}],
)
async def test_another_uri_is_another_entry(runtime, different):
    """Scheme, host, path and query all belong to the key."""
    page = Page()
    app = CacheMiddleware(page)
    await call(app, "/a?b=1")
    target = different.pop("target", "/a?b=1")
    assert (await call(app, target, **different)).body == b"page 2"


async def test_host_in_another_spelling_is_the_same(runtime):
    """Case and the scheme's own port do not matter."""
    page = Page()
    app = CacheMiddleware(page)
    await call(app, headers=[("host", "SHOP.test:80")])
    assert (await call(app, headers=[("host", "shop.test")])).body == b"page 1"


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "Bearer x")], [("range", "bytes=0-1")], [("cache-control", "no-store")],
        [("if-match", '"a"')], [("content-length", "3")],
    ],
)  # fmt: skip
async def test_requests_that_pass_by(runtime, headers):
    """They neither get a stored answer nor leave one."""
    page = Page()
    app = CacheMiddleware(page)
    await call(app, headers=headers)
    assert (await call(app)).body == b"page 2"
    assert (await call(app, headers=headers)).body == b"page 3"
    assert (await call(app)).body == b"page 2"


async def test_a_reload_asks_the_application_and_renews_the_entry(runtime):
    """no-cache skips the lookup, not the storing."""
    page = Page()
    app = CacheMiddleware(page)
    await call(app)
    assert (await call(app, headers=[("cache-control", "no-cache")])).body == b"page 2"
    assert (await call(app)).body == b"page 2"


async def test_answers_that_set_cookies_are_never_kept(runtime):
    """A session must not reach a second client."""
    page = Page(FRESH, ("set-cookie", "session=1"))
    app = CacheMiddleware(page)
    assert [(await call(app)).body for _ in range(2)] == [b"page 1", b"page 2"]


async def test_an_anonymous_page_is_not_given_to_a_client_with_cookies(runtime):
    """max-age alone does not say that a page is for everybody; public does."""
    app = CacheMiddleware(Page())
    await call(app)
    assert (await call(app, headers=[("cookie", "session=1")])).body == b"page 2"
    assert (await call(app)).body == b"page 1"
    shared = CacheMiddleware(Page(("cache-control", "public, max-age=60")))
    await call(shared, "/shared", headers=[("cookie", "session=1")])
    assert (await call(shared, "/shared")).body == b"page 1"
    assert (await call(shared, "/shared", headers=[("cookie", "session=2")])).body == b"page 1"


async def test_vary_keeps_variants_apart(runtime):
    """Each value of what Vary names has its own entry."""
    app = CacheMiddleware(Page(FRESH, ("vary", "Accept-Language")))
    german, english = [("accept-language", "de")], [("accept-language", "en")]
    assert (await call(app, headers=german)).body == b"page 1"
    assert (await call(app, headers=english)).body == b"page 2"
    assert (await call(app)).body == b"page 3"
    assert (await call(app, headers=german)).body == b"page 1"
    assert (await call(app, headers=english)).body == b"page 2"
    assert (await call(app)).body == b"page 3"


async def test_a_changed_vary_never_serves_the_wrong_variant(runtime):
    """When the application starts to vary, what was stored before is not used for others."""
    page = Page(FRESH, ("vary", "accept"))
    app = CacheMiddleware(page)
    await call(app, headers=[("accept", "a")])
    page.headers = [FRESH, ("vary", "accept, accept-language")]
    await call(app, headers=[("accept", "b"), ("accept-language", "de")])
    assert (await call(app, headers=[("accept", "b"), ("accept-language", "en")])).body == b"page 3"
    assert (await call(app, headers=[("accept", "b"), ("accept-language", "de")])).body == b"page 2"


async def test_a_client_that_has_it_gets_304(runtime, clock):
    """Validators of the client are answered from the stored entry."""
    app = CacheMiddleware(Page(FRESH, ("etag", '"v1"'), ("content-type", "text/plain"), ("x-mine", "1")))
    await call(app)
    clock.advance(5)
    answer = await call(app, headers=[("if-none-match", '"v0", W/"v1"')])
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers == {"cache-control": "max-age=60", "etag": '"v1"', "age": "5"}
    assert (await call(app, headers=[("if-none-match", '"v0"')])).status == 200


async def test_head_is_answered_from_a_stored_get(runtime):
    """HEAD has the headers of the GET and no body; it stores nothing itself."""
    page = Page()
    app = CacheMiddleware(page)
    await call(app, method="HEAD")
    first = await call(app)
    head = await call(app, method="HEAD")
    assert page.asked == 2
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(first.body))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "BREW"])
async def test_a_successful_unsafe_request_forgets_the_uri(runtime, method):
    """Every method that is not known to be safe may have changed the page, all variants of it."""
    page = Page(FRESH, ("vary", "accept"))
    app = CacheMiddleware(page)
    for accept in "ab":
        await call(app, headers=[("accept", accept)])
    await call(app, method=method)
    assert (await call(app, headers=[("accept", "a")])).body == b"page 4"
    assert (await call(app, headers=[("accept", "b")])).body == b"page 5"


async def test_a_refused_unsafe_request_forgets_nothing(runtime):
    """What failed has changed nothing."""
    page = Page()
    app = CacheMiddleware(page)
    await call(app)
    page.status = 403
    await call(app, method="POST")
    assert (await call(app)).body == b"page 1"


async def test_location_names_what_was_changed(runtime):
    """The new place of a thing is forgotten too, on the same host only."""
    page = Page()
    app = CacheMiddleware(page)
    await call(app, "/things/7")
    await call(app, "/things/8")
    page.headers = [("location", "/things/7"), ("content-location", "http://evil.test/things/8")]
    page.status = 201
    await call(app, "/things", method="POST")
    page.headers, page.status = [FRESH], 200
    assert (await call(app, "/things/7")).body == b"page 4"
    assert (await call(app, "/things/8")).body == b"page 2"


async def test_the_client_that_changed_it_never_sees_the_old_page(runtime):
    """The entry is gone before the answer to the change has reached the client."""
    page = Page()
    app = CacheMiddleware(page)
    await call(app)
    seen = []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        if message["type"] == "http.response.start":
            seen.append((await call(app)).body)

    await app(scope_of("POST", "/"), receive, send)
    assert seen == [b"page 3"]


async def test_what_was_asked_for_before_a_change_is_not_stored_after_it(runtime):
    """A slow GET that began before the POST would bring the old page back."""
    page = Page()
    app = CacheMiddleware(page)

    async def change():
        await call(app, method="POST")

    page.during = change
    assert (await call(app)).body == b"page 2"
    assert (await call(app)).body == b"page 3"


async def test_large_answers_pass_through_and_are_not_kept(runtime):
    """Above the limit nothing is held back or copied, declared or not."""
    limited = create_cache_middleware("production", response_cache_max_bytes=10)
    undeclared = Page(chunks=(b"x" * 6, b"y" * 6))
    app = limited(undeclared)
    assert (await call(app)).body == b"xxxxxxyyyyyy 1"
    assert (await call(app)).body == b"xxxxxxyyyyyy 2"
    declared = Page(FRESH, ("content-length", "14"), chunks=(b"x" * 12,))
    app = limited(declared)
    await call(app, "/declared")
    assert (await call(app, "/declared")).body.endswith(b" 2")


async def test_zero_bytes_switches_it_off(runtime):
    """Then the middleware costs nothing and keeps nothing."""
    app = create_cache_middleware(response_cache_max_bytes=0)(Page())
    await call(app)
    assert (await call(app)).body == b"page 2"


async def test_incomplete_answers_are_not_kept(runtime):
    """Fewer bytes than declared, an exception on the way, or a cancelled request."""
    short = CacheMiddleware(Page(FRESH, ("content-length", "99")))
    await call(short, "/short")
    assert (await call(short, "/short")).body == b"page 2"
    asked = 0

    async def breaking(_scope, _receive, send):
        nonlocal asked
        asked += 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"max-age=60")]})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise OSError

    app = CacheMiddleware(breaking)
    for _ in range(2):
        with pytest.raises(OSError):
            await call(app, "/broken")
    assert asked == 2


async def test_every_chunk_is_passed_on_as_it_comes(runtime):
    """Copying for the store holds nothing back."""
    moments = []

    async def streaming(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"max-age=60")]})
        for number in range(3):
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
            moments.append(number)
        await send({"type": "http.response.body"})

    class Seen(list):
        def append(self, message):
            super().append((message, len(moments)))

    seen = Seen()

    async def send(message):
        seen.append(message)

    await CacheMiddleware(streaming)(scope_of("GET", "/"), None, send)
    assert [at for message, at in seen if message.get("body")] == [0, 1, 2]


async def test_a_store_that_fails_never_reaches_the_client(runtime, monkeypatch, caplog):
    """The answer goes out whole, and the failure is logged."""
    app = CacheMiddleware(Page())

    class Broken:
        def mark(self):
            return 0

        async def get_in(self, *_args, **_kwargs):
            raise ConnectionError("gone")

        async def put_in(self, *_args, **_kwargs):
            raise ConnectionError("gone")

        async def drop_in(self, *_args, **_kwargs):
            raise ConnectionError("gone")

    monkeypatch.setattr(type(runtime.cache), "region", lambda *_args: Broken())
    assert (await call(app)).body == b"page 1"
    assert (await call(app, method="POST")).body == b"page 2"
    assert caplog.text.count("could not be looked up") == 1
    assert caplog.text.count("watching a response failed") == 2


async def test_concurrent_requests_each_get_their_own_answer(runtime):
    """No answer is mixed up with another."""
    app = CacheMiddleware(Page())
    answers = await asyncio.gather(*(call(app, f"/{number % 5}") for number in range(50)))
    assert all(answer.status == 200 for answer in answers)
    assert len({(await call(app, f"/{number}")).body for number in range(5)}) == 5


async def test_where_the_cache_is_off_nothing_is_stored_and_nothing_dropped(monkeypatch):
    """Processes that keep responses keep them: an answer that is not stored says nothing against theirs."""
    dropped = []
    with isolated(cache={"enabled": False, "l2_url": "memory://"}) as runtime:
        monkeypatch.setattr(runtime.cache.engine, "drop_here", dropped.append)
        page = Page(FRESH)
        app = CacheMiddleware(page)
        assert [(await call(app)).body for _ in range(2)] == [b"page 1", b"page 2"]
    assert dropped == []
