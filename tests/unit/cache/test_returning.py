"""A return annotation under which no result could ever be kept is refused when decorating, and no other one is."""

from __future__ import annotations

import asyncio
import io
import queue
import threading
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from typing import IO, Annotated, Any, TextIO

import pytest

from smw import cached
from smw.errors import DecorationError

USED_UP = [Iterator[int], Generator[int, None, None], AsyncIterator[int], io.TextIOWrapper, IO[str], TextIO, io.BytesIO]
BINDING = [threading.Lock, threading.RLock, threading.Event, asyncio.Lock, queue.Queue[int]]
MIXED = [Iterator[int] | None, threading.Lock | io.StringIO if isinstance(threading.Lock, type) else Iterator[int]]
FINE = [list[int], Iterable[int], Iterator[int] | list[int], Any, dict[str, Iterator[int]], "Iterator[Unknown]", None]


def annotated(hint: Any) -> Any:
    def load(number: int) -> Any:
        return [number]

    load.__annotations__["return"] = hint
    return load


@pytest.mark.parametrize("hint", [*USED_UP, *BINDING, *MIXED, Annotated[Iterator[int], "x"], "Iterator[int]"], ids=repr)
def test_what_can_never_be_kept_is_refused(hint):
    """Iterators, files, locks and queues, also as text and beside None."""
    with pytest.raises(DecorationError, match="SMW-C109"):
        cached(60)(annotated(hint))


@pytest.mark.parametrize(
    ("hint", "seen", "why", "fix"),
    [
        (threading.Lock, "-> threading.Lock", "copies of it bind nobody", 'copy="share"'),
        (threading.Event, "-> threading.Event", "copies of it bind nobody", 'copy="share"'),
        (queue.Queue[int], "-> queue.Queue[int]", "copies of it bind nobody", 'copy="share"'),
        ("Iterator[int]", "-> Iterator[int]", "it is used up", "a list of what it yields"),
        (TextIO, "-> typing.TextIO", "it is used up", "return values"),
    ],
    ids=repr,
)
def test_the_refusal_names_the_annotation_and_what_helps(hint, seen, why, fix):
    """A lock can be shared and an iterator cannot: each is told what there is to do."""
    with pytest.raises(DecorationError, match=why) as caught:
        cached(60)(annotated(hint))
    assert caught.value.seen == seen
    assert fix in str(caught.value.fix)


@pytest.mark.parametrize("hint", FINE, ids=repr)
def test_what_may_be_kept_is_taken(hint):
    """What allows one value that can be kept, or says what nobody can resolve, is decorated and works."""
    assert cached(60)(annotated(hint))(1) == [1]


@pytest.mark.parametrize("hint", BINDING, ids=repr)
def test_a_lock_may_be_shared(hint):
    """With `copy="share"` all callers get the one object, which is what a lock is for."""
    assert cached(60, copy="share")(annotated(hint))(1) == [1]
