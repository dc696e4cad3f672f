"""What a user is told to do where something is not cached as asked."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from smw import cache as cache_module
from smw._kernel.signals import CacheUncached
from smw.cache import Cache
from smw.cache.functions.remarks import remedy
from tests.unit.cache import answers


def _of_nobody(number: int) -> int:
    raise LookupError(number)


@pytest.mark.parametrize(
    ("result", "options", "advice"),
    [
        (lambda: threading.Lock(), {}, 'copy="share"'),  # noqa: PLW0108 - the same shape as the others
        (lambda: iter([1]), {}, "return a list"),
        (lambda: 1, {"key": _of_nobody}, "key=, which raised"),
    ],
    ids=["lock", "iterator", "key"],
)
def test_the_advice_is_for_what_was_wrong(caplog, result, options, advice):
    """A result that cannot be kept, and a key that failed, are not answered with advice about arguments."""
    cache = Cache()

    @cache.cached(ttl=60, **options)
    def load(number: int) -> object:
        return result()

    with caplog.at_level(logging.WARNING, "smw.cache"):
        load(1)
    assert advice in caplog.text
    assert "__cache_key__" not in caplog.text
    cache.close()


@pytest.mark.parametrize("levels", [(), ("l2",)])
def test_a_result_that_memory_never_has_room_for_is_told_once(bench, caplog, levels):
    """Results of more than half of the bytes are not kept in memory: one warning names the setting."""
    cache = bench.cache(*levels, l1_bytes=100_000)

    def blank(size: int) -> bytes:
        return bytes(size)

    load = cache.cached(60, key=lambda size: size)(blank)
    load(40_000)
    assert not caplog.records
    for _ in range(2):
        assert load(60_000) == bytes(60_000)
    assert ["CACHE_L1_BYTES" in record.getMessage() for record in caplog.records] == [True]
    assert cache_module.info(load).hits["l1"] == 0
    bench.cache(*levels, l1_bytes=0).cached(60, key=lambda size: size)(blank)(1)
    assert len(caplog.records) == 1


def test_the_log_names_the_server_that_is_down(caplog):
    """Of several Redises on several machines it is told which one, without its password."""
    cache = Cache(l2_url="redis://user:hidden@127.0.0.1:1/3", namespace="t")
    with caplog.at_level(logging.WARNING, "smw"):
        for number in range(6):
            cache.cached(60)(lambda n: n)(number)
    cache.close()
    assert "redis at redis://127.0.0.1:1/3 is down (refused)" in caplog.text
    assert "hidden" not in caplog.text


@pytest.mark.service("redis")
def test_a_database_that_the_server_has_not_is_told(redis_server, caplog):
    """A refused number is nobody's outage: the log says what to correct, once."""
    cache = Cache(l2_url=f"redis://{redis_server.address}/99", namespace="t", budget_ms=5000)
    load = cache.cached(60)(lambda number: number)
    with caplog.at_level(logging.WARNING, "smw"):
        assert [load(1), load(2)] == [1, 2]
    cache.close()
    assert "(database: correct the number of the database in CACHE_L2_URL" in caplog.text


@pytest.mark.parametrize(
    ("name", "reason", "advice"),
    [
        ("entity", "unstorable-result (Entity)", "return plain values"),
        ("entities", "unstorable-result (Entity)", "return plain values"),
        ("row", "unstorable-result (Row)", "return plain values"),
        ("cyclic", "deep-result (list)", "it holds itself"),
        ("long", "huge-result (list)", "return less"),
        ("unnamed", "undeclared-result (Answer)", "have the return annotation name it"),
        ("unresolved", "unresolved-annotation (Answer)", "outside of TYPE_CHECKING"),
        ("private", "extended-result (Private)", "private attributes"),
        ("extra", "extended-result (Extra)", "extra fields"),
        ("derived", "extended-result (Derived)", "a cached property"),
        ("added", "extended-result (Answer)", "holds more than the fields"),
    ],
)
def test_what_stays_in_memory_is_told_why(bench, caplog, name, reason, advice):
    """Each kind of result that servers do not keep has its own reason, and advice that helps it."""
    cache = bench.cache("l2")
    cache.cached(60)(getattr(answers, name))(1)
    assert not bench.stores["l2"].data
    assert reason in caplog.text
    assert advice in caplog.text
    assert [signal.reason for signal in cache.recorded.of(CacheUncached)] == [reason.partition(" ")[0]]


def test_an_annotation_of_a_parameter_need_not_resolve(bench, caplog):
    """What only a type checker knows of the arguments keeps no result from servers."""
    bench.cache("l2").cached(60)(answers.asked)(1)
    assert len(bench.stores["l2"].data) == 1
    assert not caplog.records


def test_the_page_lists_the_reasons():
    """Whoever reads a reason in the log finds it on the page of values."""
    page = Path(__file__).parents[3].joinpath("docs", "cache", "values.md").read_text()
    kinds = ("unstorable", "undeclared", "extended", "deep", "huge", "no-json")
    for reason in [*(f"{kind}-result" for kind in kinds), "unresolved-annotation"]:
        assert f"| `{reason}` |" in page
        assert remedy(reason) != remedy("another")
