"""What `invalidate` drops where the arguments of a call do not tell its tags."""

from __future__ import annotations

import functools
import logging

import pytest

from smw import cache as cache_module
from smw.errors import ConfigError


def injecting(fn):
    """Add an argument, as decorators that open a session do, and look like the function below."""

    @functools.wraps(fn)
    def call(*args, **kwargs):
        return fn("session", *args, **kwargs)

    return call


def renaming(fn):
    """Take the same argument under another name, and look like the function below."""

    @functools.wraps(fn)
    def call(**fields):
        return fn("session", fields["user"], fields["name"])

    return call


@pytest.fixture
def loaded(bench):
    """A cached function in two processes that share a server, a decorator of writers, and how often it was run."""
    runs = []

    def made(cache):
        @cache.cached(60, tags=["user:{user_id}"], key=lambda user_id: user_id)
        def profile(user_id: int) -> int:
            runs.append(user_id)
            return user_id

        return profile

    here, there = bench.cache("l2"), bench.cache("l2")
    return made(here), made(there), here.invalidate, runs


@pytest.mark.parametrize("foreign", [injecting, renaming])
def test_a_write_below_a_foreign_decorator_is_never_without_effect(bench, loaded, caplog, foreign):
    """Where the tags of a successful call are not known everything is dropped, everywhere, with one error logged."""
    here, there, invalidate, runs = loaded

    @invalidate(tags=["user:{user_id}"])
    @foreign
    def rename(session: str, user_id: int, name: str) -> str:
        return f"{session} {user_id} {name}"

    write = (lambda: rename(7, "Ada")) if foreign is injecting else (lambda: rename(user=7, name="Ada"))
    with caplog.at_level(logging.ERROR, "smw.cache"):
        for count in (1, 2):
            assert (here(7), there(7)) == (7, 7)
            assert runs == [7] * count
            assert write() == "session 7 Ada"
            bench.clock.advance(2)
    assert (here(7), there(7)) == (7, 7)
    assert runs == [7] * 3
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_tags_without_fields_need_no_arguments(loaded, bench, caplog):
    """A fixed tag alone is dropped whatever a foreign decorator does to the arguments."""
    here, _, invalidate, runs = loaded

    @invalidate(tags=["other"])
    @injecting
    def rename(session: str, user_id: int) -> str:
        return f"{session} {user_id}"

    here(7)
    assert rename(7) == "session 7"
    here(7)
    assert runs == [7]
    assert not caplog.records


def test_a_call_that_does_not_fit_drops_nothing(loaded, caplog):
    """Arguments that the function itself refuses end in its own TypeError, and everything stays."""
    here, _, invalidate, runs = loaded
    rename = invalidate(tags=["user:{user_id}"])(lambda user_id: user_id)
    here(7)
    with pytest.raises(TypeError, match="user_id"):
        rename()
    here(7)
    assert runs == [7]
    assert not caplog.records


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({}, "drop() needs tags= or keys="),
        ({"tags": None}, "clear() drops everything"),
        ({"tags": [7]}, "a tag is a text\n  seen:  int"),
        ({"tags": 7}, "tags= and keys= take sequences of texts\n  seen:  int"),
        ({"keys": "smw:shop:k"}, "take sequences of texts\n  seen:  str"),
    ],
)
async def test_a_drop_by_hand_of_nothing_is_a_mistake(cache, told, says):
    """What is no list of texts, and a drop that names nothing at all, is refused with the form that is right."""
    with pytest.raises(ConfigError) as blocking:
        cache.drop_sync(**told)
    with pytest.raises(ConfigError) as awaited:
        await cache.drop(**told)
    assert says in str(blocking.value)
    assert str(blocking.value) == str(awaited.value)


async def test_a_drop_of_an_empty_list_drops_nothing(cache):
    """Who computes what has changed may find that nothing has."""
    load = cache.cached(60, tags=["user:{user_id}"])(lambda user_id: user_id)
    load(7)
    assert cache.drop_sync(tags=[]).startswith("smw1.")
    assert (await cache.drop(keys=())).startswith("smw1.")
    load(7)
    assert cache_module.info(load).hits["l1"] == 1


def test_fields_in_a_drop_by_hand_are_said_once_and_never_raise(cache, caplog):
    """Braces may come from the name of a user: the tag is dropped as it is, and one warning names the field alone."""
    load = cache.cached(60, tags=["user:{user_id}"])(lambda user_id: user_id)
    load("{name}")
    with caplog.at_level(logging.WARNING, "smw.cache"):
        cache.drop_sync(tags=["plain", "odd{", "{}", "{0}", "{a b}"])
        assert caplog.messages == []
        cache.drop_sync(tags=["user:{name}"])
        cache.drop_sync(tags=["secret-tenant:{user_id}"])
    (message,) = caplog.messages
    assert "{name}" in message
    assert 'tags=[cache.tag("user:{user_id}", user_id=user_id)]' in message
    load("{name}")
    assert cache_module.info(load).misses["l1"] == 2
