"""Who misses learns what waits in a journal without waiting for its database, which most need not ask."""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
import threading

import pytest

from smw.cache.strategies import pending as pending_module
from smw.cache.strategies.journal import Journal
from smw.cache.strategies.journal_rows import put, settle


def added(journal, key, value=b"new"):
    row = {"key": key, "writer": "w", "owner": journal.token, "loop": 0, "arguments": b"", "value": value, "made": 0.0}
    return journal.submit(put(row, most=100)).result()


@pytest.fixture
def journals(tmp_path):
    """Two processes of one folder."""
    names = itertools.count()
    both = [Journal(tmp_path, lambda: f"process-{next(names)}") for _ in range(2)]
    yield both
    for each in both:
        each.close()


def unasked(*_query):
    message = "the database is asked"
    raise AssertionError(message)


async def test_an_event_loop_goes_on_while_the_database_is_asked(journals):
    """Where another process may have acknowledged a write of the key, a thread asks, however long the disk takes."""
    mine, other = journals
    added(other, "k")
    is_held, went_on, seen = threading.Event(), threading.Event(), []

    def hang():
        with mine._reading:
            is_held.set()
            seen.append(went_on.wait(5))

    disk = threading.Thread(target=hang)
    disk.start()
    is_held.wait(5)
    looks = [asyncio.create_task(mine.looked(key, "async")) for key in ("k", "k", "another")]
    await asyncio.sleep(0)
    went_on.set()
    assert await asyncio.gather(*looks) == [b"new", b"new", None]
    disk.join()
    assert seen == [True]


async def test_most_who_miss_do_not_ask_the_database(journals, monkeypatch):
    """What has been read tells, until any process adds a write; what is struck is asked for once more."""
    mine, other = journals
    added(mine, "k")
    seq = added(other, "j")
    assert (mine.newest("j"), other.newest("k")) == (b"new", b"new")
    with monkeypatch.context() as patch:
        for each in journals:
            patch.setattr(each._pending, "_read", unasked)
            assert each.newest("none") is None
            assert await each.looked("none", "async") is None
    other.submit(settle([seq])).result()
    assert mine.newest("j") is None
    monkeypatch.setattr(mine._pending, "_read", unasked)
    assert mine.newest("j") is None


def test_a_key_is_found_again_after_it_was_found_missing(journals):
    """Each write is seen by all before it is acknowledged, whatever they had found of its key before."""
    mine, other = journals
    for number in range(20):
        value = str(number).encode()
        seq = added(mine, "k", value)
        assert (other.newest("k"), mine.newest("k")) == (value, value)
        mine.submit(settle([seq])).result()
        assert (other.newest("k"), mine.newest("k")) == (None, None)


def test_keys_that_wait_no_more_are_forgotten(journals, monkeypatch):
    """However many have come and gone, about those are remembered that wait."""
    monkeypatch.setattr(pending_module, "_SPARE", 5)
    mine, other = journals
    mine._pending._most = 5
    added(mine, "stays")
    for number in range(50):
        mine.submit(settle([added(mine, f"k{number}")])).result()
        assert len(mine._pending._keys) < 15
    assert (mine.newest("stays"), other.newest("stays")) == (b"new", b"new")


def test_a_process_that_cannot_tell_the_others_sees_its_own(journals, monkeypatch, caplog):
    """Its writes are acknowledged, one error says what that means, and the others are told as soon as they can be."""
    mine, other = journals

    def full(*_what):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR, logger="smw.cache"):
        patch.setattr(os, "pwrite", full)
        added(mine, "k")
        added(mine, "j")
        assert (mine.newest("k"), mine.newest("j")) == (b"new", b"new")
    assert len([record for record in caplog.records if "No space left" in record.getMessage()]) == 1
    mine.submit(lambda _connection: None).result()
    assert (other.newest("k"), other.newest("j")) == (b"new", b"new")


async def test_a_closed_journal_answers_nobody(journals):
    """Who asks after its end gets an error, as from any closed database, and no thread is begun for it."""
    mine, _ = journals
    mine.close()
    with pytest.raises(Exception, match="the journal is closed"):
        await mine.looked("k", "async")
    assert not mine._asker._has_thread
