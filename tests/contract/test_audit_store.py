"""What every audit store promises, run on each of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smw.security.trail.files import FileStore
from smw.security.trail.memory import MemoryStore
from smw.security.trail.merkle import Tree

LOG = "0001-0123456789ab"


@pytest.fixture(params=["file", "file in small segments", "memory"])
def store(request, tmp_path: Path):
    if request.param == "memory":
        made = MemoryStore(LOG)
    else:
        made = FileStore(tmp_path / LOG, segment_bytes=64 if "small" in request.param else 10**6)
    yield made
    made.close()


def line(seq: int) -> bytes:
    return json.dumps({"log": LOG, "seq": seq}).encode()


def tree_of(lines: list[bytes]) -> Tree:
    tree = Tree()
    tree.extend(lines)
    return tree


def test_new_store_is_empty(store):
    """A new store has its name, no lines, the empty tree and nothing found."""
    assert store.log_id == LOG
    assert list(store.lines()) == []
    assert (store.tree.size, store.found) == (0, {})


def test_lines_come_back_in_order(store):
    """Lines come back byte for byte in the order in which they were written, over any number of writes."""
    lines = [line(seq) for seq in range(20)]
    for start, end in ((0, 1), (1, 8), (8, 8), (8, 20)):
        store.append(lines[start:end])
    assert list(store.lines()) == lines


def test_tree_covers_exactly_what_was_written(store):
    """The store's tree is the tree over its lines after every write."""
    lines = [line(seq) for seq in range(7)]
    for count, item in enumerate(lines, 1):
        store.append([item])
        assert (store.tree.size, store.tree.root()) == (count, tree_of(lines[:count]).root())


def test_checkpoint_may_be_replaced_at_any_time(store):
    """Checkpoints replace each other and change no line."""
    store.checkpoint("one\n")
    store.append([line(0)])
    store.checkpoint("two\n")
    assert list(store.lines()) == [line(0)]


def test_recover_of_a_sound_store_keeps_everything(store):
    """Recovering when nothing is wrong loses nothing, and writing goes on."""
    store.append([line(0)])
    store.checkpoint(sealed(store))
    store.recover()
    store.append([line(1)])
    assert list(store.lines()) == [line(0), line(1)]
    assert store.tree.root() == tree_of([line(0), line(1)]).root()


def test_close_is_idempotent(store):
    """A store may be closed twice."""
    store.close()
    store.close()


def test_only_files_are_durable(store):
    """A store says whether its lines survive the process."""
    assert store.durable is isinstance(store, FileStore)


def sealed(store) -> str:
    from smw.security.trail import note

    return note.render(f"svc/{store.log_id}", store.tree, None)
