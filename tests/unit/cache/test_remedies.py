"""What a user is told to do where something is not cached as asked."""

from __future__ import annotations

import logging
import threading

import pytest

from smw.cache import Cache


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
