"""Functions that share a name never share results on a server."""

from __future__ import annotations

import functools
import logging
from typing import Any

import pytest

from smw._kernel.call import Target
from smw.cache import Cache, key_for
from smw.cache.naming.identity import identity_of


def module_level(x: int) -> int:
    """Return x."""
    return x


def make(n: Any) -> Any:
    def inner(x: int) -> Any:
        return x, n

    return inner


class Account:
    """Has no identity of its own."""

    def __init__(self, owner: str) -> None:
        self.owner = owner

    def get(self, x: int) -> str:
        """Return the owner."""
        return self.owner

    def __call__(self, x: int) -> str:
        """Return the owner."""
        return self.owner


class Known(Account):
    """Says who it is."""

    def __cache_key__(self) -> str:
        return self.owner


def test_a_function_that_its_name_leads_to_needs_nothing_more():
    """Module-level functions keep keys that survive a deployment."""
    assert identity_of(Target(module_level)) == b""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (make(2), make(3)),
        (lambda x: x, lambda x: x + 1),
        (functools.partial(module_level, 1), functools.partial(module_level, 2)),
        (Known("a").get, Known("b").get),
        (Known("a"), Known("b")),
    ],
    ids=["closures", "lambdas", "partials", "bound methods", "callable objects"],
)
def test_functions_of_one_name_are_told_apart(one, other):
    """What they hold or are made of enters the key."""
    first, second = identity_of(Target(one)), identity_of(Target(other))
    assert first
    assert second
    assert first != second


def test_the_same_closure_made_twice_is_the_same():
    """A factory that is called again reaches what its function stored before."""
    assert identity_of(Target(make(2))) == identity_of(Target(make(2)))


def test_another_function_of_a_name_is_warned_of(bench, caplog):
    """A function defined anew reads what the other has stored: said once, with its code; the same one anew is not."""

    def defined(name, text, **options):
        namespace = {"__name__": __name__}
        exec(f"def {name}(x): return [{text}, x]", namespace)
        decorated = globals()[name] = cache.cached(60, **options)(namespace[name])
        return decorated

    cache = bench.cache("l2")
    try:
        for text in ("1", "1", "2", "3"):
            defined("defined_anew", text)(1)
        (record,) = caplog.records
        assert record.getMessage().startswith(f"[SMW-C175] two functions are called {__name__}:defined_anew, and")
        caplog.clear()
        for version in "12":
            defined("other_version", version, version=version)(1)
        cache = bench.cache()
        for text in "12":
            assert defined("in_memory", text)(1) == [int(text), 1]
        cache = bench.cache("l2")
        for number in (1, 2):  # whose code is in their keys
            cache.cached(60)(make(number))(1)
        assert not caplog.records
    finally:
        for name in ("defined_anew", "other_version", "in_memory"):
            globals().pop(name, None)


def holding(thing: object) -> Any:
    def inner(x: int) -> bool:
        return thing is not None

    return inner


@pytest.mark.parametrize("fn", [holding(object()), Account("a").get, Account("a")])
def test_what_cannot_be_told_apart_stays_off_servers(fn, caplog):
    """Such results stay in memory, with one warning that says what to do."""
    assert identity_of(Target(fn)) is None
    cache = Cache(l2_host="redis://127.0.0.1:1")
    cached = cache.cached(60)(fn)
    with caplog.at_level(logging.WARNING, "smw.cache"):
        assert cached(1) == cached(1) == fn(1)
    assert [r.getMessage() for r in caplog.records if "function-without-identity" in r.getMessage()] != []
    assert "redis is down" not in caplog.text
    cache.close()


def test_a_key_given_by_the_user_is_enough():
    """Who passes key= says what tells results apart."""
    cache = Cache(l2_host="redis://127.0.0.1:1")
    cached = cache.cached(60, key=lambda x: ("account", x))(Account("a").get)
    assert key_for(cached, 1).startswith("smw:")
    cache.close()


def test_what_a_function_closes_over_may_come_later(cache):
    """A function that is called before a variable that it closes over has a value answers as it would uncached."""

    def made():
        @cache.cached(60)
        def read(asks: bool) -> int:
            return late if asks else 1

        first = read(False)
        late = 5
        return first, read(True)

    assert made() == (1, 5)
