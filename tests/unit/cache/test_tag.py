"""Tags made by hand: the ones that the decorators make of the same template and values."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from types import SimpleNamespace

import pytest

from smw.cache import tag
from smw.errors import ConfigError, DecorationError


class Colour(enum.Enum):
    """An enum whose text is not its value."""

    RED = "r:d"


ODD = ["ada", "a:b", "urn:user:7", "50%", 7, 1.5, None, True, Colour.RED, uuid.UUID(int=1), b"x", (1, "a")]
ODD += [dt.date(2026, 5, 1), dt.datetime(2026, 5, 1)]  # noqa: DTZ001 - as columns give them


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_it_meets_what_the_decorators_make(bench, value):
    """Whatever a value holds, drops by hand reach tags with fields, and `invalidate` reaches what a result tells."""
    cache, loads = bench.cache(), []

    @cache.cached(60, tags=["owner:{owner}"])
    def by_argument(owner: object) -> int:
        loads.append("argument")
        return 1

    @cache.cached(60, tags=[lambda result: tag("owner:{owner}", owner=result)])
    def by_result() -> object:
        loads.append("result")
        return value

    @cache.invalidate(tags=["owner:{owner}"])
    def change(owner: object) -> None: ...

    for read in (lambda: by_argument(value), by_result) * 2:
        read()
    assert loads == ["argument", "result"]
    cache.drop_sync(tags=[tag("owner:{owner}", owner=value)])
    by_argument(value), by_result()
    assert loads == ["argument", "result"] * 2
    change(value)
    by_argument(value), by_result()
    assert loads == ["argument", "result"] * 3


def test_attributes_and_fixed_texts():
    """A template is as `cached` takes it: with attributes of what is given, or without any field."""
    assert tag("user:{order.user_id}", order=SimpleNamespace(user_id="a:b")) == "user:a%3Ab"
    assert tag("users") == "users"
    assert tag("t:{template}", template=1) == "t:1"


@pytest.mark.parametrize(
    ("arguments", "fields", "said"),
    [
        (("user:{user_id}",), {}, "is given no value for 'user_id'"),
        (("user:{user_id}",), {"usr_id": 7}, "no value for 'user_id'. Did you mean 'usr_id'"),
        (("user",), {"user_id": 7}, "has no field 'user_id'"),
        (("user:{user}",), {"user": object()}, "cannot fill"),
        (("user:{user.name}",), {"user": object()}, "failing-tag"),
        (("",), {}, "not empty"),
        ((7,), {}, "not empty"),
        ((), {"user_id": 7}, "tag()"),
    ],
)
def test_what_it_refuses(arguments, fields, said):
    """A tag that would meet nothing is an error that says what is missing, never a tag."""
    with pytest.raises(ConfigError) as caught:
        tag(*arguments, **fields)
    assert said in str(caught.value)


def test_a_malformed_template_is_refused():
    """Braces hold names of fields, as for the decorators."""
    with pytest.raises(DecorationError, match="SMW-C107"):
        tag("user:{0}", user=7)
