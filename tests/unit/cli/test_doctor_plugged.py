"""What `smw doctor` says of levels that are neither Redis nor memcached."""

from __future__ import annotations

import pytest

from smw.cache import StoreFailedError
from smw.cache.stores.local import LocalStore
from smw.doctor import examine_environment, plugged

CLEAN = {"SMW_PROFILE": "testing", "SMW_SERVICE": "shop"}


def findings(environ):
    """Return what an examination says of the levels' stores, as (verdict, seen, fix)."""
    report = examine_environment(environ=environ)
    return [(each.verdict, each.seen, each.fix) for each in report.findings if each.name.endswith(".store")]


def test_a_server_within_the_process_answers_and_is_no_server_in_production():
    """memory:// is fine in tests; in production a warning says that no two processes share it."""
    url = {"CACHE_L2_URL": "memory://shop"}
    assert findings({**CLEAN, **url}) == [("ok", "memory shop answers", "")]
    production = findings({**CLEAN, **url, "SMW_PROFILE": "production"})
    assert [verdict for verdict, _, _ in production] == ["warn", "ok"]
    assert "none hears of another's drops" in production[0][1]
    assert production[0][2] == "name a Redis in CACHE_L2_URL, or leave it out"


def test_servers_of_l3_are_looked_at_each(monkeypatch):
    """Every URL of L3 has a finding of its own."""
    assert len(findings({**CLEAN, "CACHE_L3_SERVERS": "memory://a,memory://b"})) == 2


@pytest.mark.parametrize(
    ("store", "seen", "fix"),
    [
        (StoreFailedError("refused"), "toy://***@h does not answer: refused", "start what is behind it, or correct BY"),
        (StoreFailedError("auth", remedy="wrong password"), "toy://***@h does not answer: auth", "wrong password"),
        (None, "no plug-in for toy://***@h", "install it, or correct BY"),
    ],
)
async def test_a_plugin_that_does_not_answer_is_a_problem(monkeypatch, store, seen, fix):
    """The password stays out of what is said, and the plug-in's own remedy comes first."""

    def made(url, host, *, timeout_s):
        if store is None:
            return None
        local = LocalStore(clock=host.clock)
        local.probe = lambda: (_ for _ in ()).throw(store)
        return local

    monkeypatch.setattr(plugged, "store_at", made)
    found = [each async for each in plugged.findings("cache.l2", "toy://:pw@h", "BY", production=False)]
    assert [(each.verdict, each.seen, each.fix) for each in found] == [("fail", seen, fix)]
