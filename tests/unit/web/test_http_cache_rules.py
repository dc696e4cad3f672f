"""What may be stored and used; every rule only ever declines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smw.web.exchange import Fields
from smw.web.http_cache.declined import Declined
from smw.web.http_cache.entry import Stored
from smw.web.http_cache.rules import Wish, is_not_modified, may_use, read_wish, storable, variant

NOW = 784111777.0
DATE = ("Date", "Sun, 06 Nov 1994 08:49:37 GMT")


def stored(*headers, wish=None, status=200):
    return storable(wish or Wish(), status, Fields(headers), now=NOW)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([("Cache-Control", "max-age=60")], 60),
        ([("cache-control", "MAX-AGE=60")], 60),
        ([("Cache-Control", 'max-age="60"')], 60),
        ([("Cache-Control", "max-age=60, s-maxage=5")], 5),
        ([("Cache-Control", "max-age=60, max-age=10")], 10),
        ([("Cache-Control", "max-age=60"), ("Cache-Control", "max-age=10")], 10),
        ([("Expires", "Sun, 06 Nov 1994 08:50:37 GMT"), DATE], 60),
        ([("Expires", "Sun, 06 Nov 1994 08:50:37 GMT")], 60),
        ([("Cache-Control", "max-age=60"), ("Expires", "0")], 60),
        ([("Cache-Control", "max-age=99999999999")], 365 * 86400),
    ],
)
def test_explicit_freshness(headers, seconds):
    """s-maxage before max-age before Expires; the strictest of several."""
    assert stored(*headers).lifetime_s == seconds


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")],
        [("Cache-Control", "public")],
        [("Cache-Control", "max-age=0")],
        [("Cache-Control", "max-age=-1")],
        [("Cache-Control", "max-age=1.5")],
        [("Cache-Control", "max-age=60, s-maxage=x")],
        [("Cache-Control", "max-age=60, no-store")],
        [("Cache-Control", "max-age=60, private")],
        [("Cache-Control", 'max-age=60, private="x-user"')],
        [("Cache-Control", "max-age=60, no-cache")],
        [("Cache-Control", 'max-age=60, no-cache="set-cookie"')],
        [("Cache-Control", 'max-age=60, "')],
        [("Cache-Control", "max-age=60"), ("Set-Cookie", "a=b")],
        [("Cache-Control", "max-age=60"), ("Vary", "*")],
        [("Cache-Control", "max-age=60"), ("Vary", "accept, *")],
        [("Cache-Control", "max-age=60"), ("Age", "60")],
        [("Cache-Control", "max-age=60"), ("Content-Range", "bytes 0-1/2")],
        [("Expires", "0")],
        [("Expires", "Sun, 06 Nov 1994 08:49:37 GMT")],
    ],
)
def test_what_is_not_stored(headers):
    """No explicit freshness, or a word against it."""
    assert stored(*headers) is None


@pytest.mark.parametrize("status", [201, 206, 302, 304, 307, 400, 401, 403, 500, 503])
def test_statuses_that_are_not_stored(status):
    """Only final answers about the target itself."""
    assert stored(("Cache-Control", "max-age=60"), status=status) is None


def test_age_of_an_upstream_counts():
    """A response that is old already stays fresh for the rest only."""
    found = stored(("Cache-Control", "max-age=60"), ("Age", "50"))
    assert may_use(found, Wish(), now=NOW + 9)
    assert not may_use(found, Wish(), now=NOW + 10)


def test_hop_by_hop_fields_are_not_kept():
    """What belongs to one connection is not sent on another."""
    found = stored(
        ("Cache-Control", "max-age=60"), ("Connection", "x-private"), ("X-Private", "1"), ("Keep-Alive", "5"),
        ("Age", "1"), ("ETag", '"1"'),
    )  # fmt: skip
    assert found.headers == (("Cache-Control", "max-age=60"), ("ETag", '"1"'))


@pytest.mark.parametrize("control", ["max-age=60, public", "s-maxage=60"])
def test_cookies_need_a_word_that_it_is_for_everybody(control):
    """With cookies in the request a page may be personal, whatever its max-age says."""
    cookie = Wish(has_cookie=True)
    assert stored(("Cache-Control", "max-age=60"), wish=cookie) is None
    shared = stored(("Cache-Control", control), wish=cookie)
    assert shared is not None
    assert may_use(shared, cookie, now=NOW)
    assert not may_use(stored(("Cache-Control", "max-age=60")), cookie, now=NOW)


@pytest.mark.parametrize(
    ("fields", "wish"),
    [
        ({}, Wish()),
        ({"cookie": "a=b"}, Wish(has_cookie=True)),
        ({"cache-control": "no-cache"}, Wish(lookup=False)),
        ({"pragma": "no-cache"}, Wish(lookup=False)),
        ({"cache-control": "max-age=5", "pragma": "no-cache"}, Wish(max_age_s=5)),
        ({"cache-control": "max-age=x"}, Wish(lookup=False)),
        ({"cache-control": "min-fresh=9, max-age=7"}, Wish(max_age_s=7, min_fresh_s=9)),
        ({"cache-control": "no-store"}, Wish(lookup=False, store=False)),
        ({"cache-control": '"'}, Wish(lookup=False, store=False)),
        ({"authorization": "Basic x"}, Wish(lookup=False, store=False)),
        ({"range": "bytes=0-1"}, Wish(lookup=False, store=False)),
        ({"if-match": '"a"'}, Wish(lookup=False, store=False)),
        ({"content-length": "4"}, Wish(lookup=False, store=False)),
        ({"content-length": "0"}, Wish()),
        ({"transfer-encoding": "chunked"}, Wish(lookup=False, store=False)),
    ],
)
def test_what_a_request_allows(fields, wish):
    """Authorization, ranges and bodies pass by; directives are kept."""
    assert read_wish(fields) == wish


def test_request_directives_limit_what_may_be_used():
    """max-age and min-fresh of the client bind."""
    found = stored(("Cache-Control", "max-age=60"))
    assert may_use(found, Wish(max_age_s=10), now=NOW + 10)
    assert not may_use(found, Wish(max_age_s=10), now=NOW + 11)
    assert may_use(found, Wish(min_fresh_s=10), now=NOW + 49)
    assert not may_use(found, Wish(min_fresh_s=10), now=NOW + 50)


def test_a_clock_that_stepped_back_makes_nothing_younger():
    """Age never gets negative."""
    assert stored(("Cache-Control", "max-age=60")).current_age_s(NOW - 100) == 0


@pytest.mark.parametrize(
    ("headers", "fields", "same"),
    [
        ([("ETag", '"a"')], {"if-none-match": '"a"'}, True),
        ([("ETag", 'W/"a"')], {"if-none-match": '"b", "a"'}, True),
        ([("ETag", '"a"')], {"if-none-match": '"b"'}, False),
        ([("ETag", '"a"')], {"if-none-match": "*"}, True),
        ([], {"if-none-match": '"a"'}, False),
        ([("Last-Modified", DATE[1])], {"if-modified-since": DATE[1]}, True),
        ([("Last-Modified", DATE[1])], {"if-modified-since": "Sun, 06 Nov 1994 08:49:36 GMT"}, False),
        ([("Last-Modified", DATE[1])], {"if-modified-since": "yesterday"}, False),
        ([("ETag", '"a"'), DATE], {"if-none-match": '"b"', "if-modified-since": DATE[1]}, False),
        ([("ETag", '"a"')], {}, False),
    ],
)
def test_conditional_requests(headers, fields, same):
    """Entity tags win over dates, and are compared weakly."""
    found = stored(("Cache-Control", "max-age=60"), *headers)
    assert is_not_modified(found, fields) is same


def test_conditions_do_not_apply_to_a_stored_redirect():
    """304 would say that the old page is still good."""
    found = stored(("Cache-Control", "max-age=60"), ("ETag", '"a"'), status=404)
    assert not is_not_modified(found, {"if-none-match": '"a"'})


def test_variants_compare_what_vary_names():
    """Absent is different from empty; spacing is not."""
    vary = ("accept", "accept-language")
    assert variant(vary, {"accept": "a, b"}) == variant(vary, {"accept": "a,  b"})
    assert variant(vary, {"accept": ""}) != variant(vary, {})
    assert variant(vary, {"accept": "x"}) != variant(vary, {"accept-language": "x"})


def test_an_entry_survives_the_store_and_garbage_is_none():
    """What another version or a stranger has written is a miss."""
    found = stored(("Cache-Control", "max-age=60"), ("Vary", "accept")).completed(b"\x00\xff", "/charts/{week}")
    assert Stored.load(found.dump()) == found
    older = {name: value for name, value in found.dump().items() if name != "route"}
    assert Stored.load(older) == found.completed(found.body, None)
    for garbage in (None, 7, "x", [], {}, {"form": 2}, {"form": 1}, {**found.dump(), "headers": 5}):
        assert Stored.load(garbage) is None


def test_declined_uris_are_looked_up_again_after_a_while(monkeypatch):
    """Not storable now does not mean never."""
    monkeypatch.setattr("smw.web.http_cache.declined._MOST", 2)
    declined = Declined()
    declined.add("a", now=0.0)
    assert declined.covers("a", 119.0)
    assert not declined.covers("a", 120.0)
    declined.remove("a")
    assert not declined.covers("a", 1.0)
    for key in "abc":
        declined.add(key, now=0.0)
    assert not declined.covers("a", 1.0)


_DIRECTIVES = (
    "max-age=60",
    "s-maxage=60",
    "public",
    "no-store",
    "private",
    "no-cache",
    "max-age=x",
    "immutable",
    '"',
    "",
)
_FORBIDDING = {"no-store", "private", "no-cache", '"'}


@given(st.lists(st.sampled_from(_DIRECTIVES), max_size=5), st.booleans(), st.sampled_from([200, 206, 302, 404, 500]))
def test_nothing_is_stored_without_freshness_or_against_a_word(parts, cookie, status):
    """Whatever is combined: a lifetime, no word against it, a storable status, and for cookies a shared mark."""
    found = storable(Wish(has_cookie=cookie), status, Fields([("Cache-Control", ", ".join(parts))]), now=NOW)
    fresh = "s-maxage=60" in parts or ("max-age=60" in parts and "max-age=x" not in parts)
    shared = not cookie or "public" in parts or "s-maxage=60" in parts
    expected = fresh and shared and status in (200, 404) and not _FORBIDDING & set(parts)
    assert (found is not None) is expected
