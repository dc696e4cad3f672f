"""The file of one worker: what was written is read, what is half written is not."""

from __future__ import annotations

import os

import pytest

from smw.monitor import slab
from smw.monitor.slab import Pages, Slab, image


def names(pages, after=0):
    return [name for name, _, _ in pages.names(after)]


def test_records_of_any_size_are_read_back_over_all_segments(tmp_path):
    """Names and cells come back, whatever their sizes and however often the file has grown."""
    writer = Slab(tmp_path / "a", pid_space=7)
    written = []
    for number in range(2000):
        name = f"{number}".encode() + b"n" * (number * 7 % 300)
        cells = writer.add(name, number % 19)
        for place in range(number % 19):
            cells[place] = number + place / 100
        written.append((name, [number + place / 100 for place in range(number % 19)]))
    pages = Pages(tmp_path / "a")
    assert [(name, pages.cells(place).tolist()) for name, place, _ in pages.names()] == written
    assert (pages.process(7), pages.process(8)) == (os.getpid(), None)


def test_a_reader_sees_later_counts_and_later_records(tmp_path):
    """An open file shows what its worker counts after; records that were read once need not be read again."""
    writer = Slab(tmp_path / "a", pid_space=0)
    cells = writer.add(b"first", 1)
    pages = Pages(tmp_path / "a")
    ((_, place, after),) = pages.names()
    cells[0] += 3
    writer.add(b"second", 1)
    assert pages.cells(place)[0] == 3
    assert names(Pages(tmp_path / "a"), after) == [b"second"]


@pytest.mark.parametrize("kept", range(0, 40, 8))
def test_a_record_of_which_only_a_part_has_arrived_is_not_read(tmp_path, kept):
    """Whatever part of a record another process sees first, it waits for the rest and reads what came before."""
    whole = image([(b"before", [1.0]), (b"x" * 24, [2.0, 3.0])])
    start = len(image([(b"before", [1.0])]))
    size = len(whole) - start
    torn = bytearray(whole)
    torn[start + kept :] = bytes(size - kept)
    (tmp_path / "a").write_bytes(torn)
    assert names(Pages(tmp_path / "a")) == [b"before"]
    (tmp_path / "a").write_bytes(whole)
    assert names(Pages(tmp_path / "a")) == [b"before", b"x" * 24]


def test_a_file_has_one_writer(tmp_path):
    """A second writer of one path is refused, and while the first lives its file cannot be claimed as a dead one's."""
    writer = Slab(tmp_path / "a", pid_space=0)
    with pytest.raises(FileExistsError):
        Slab(tmp_path / "a", pid_space=0)
    assert slab.claim(tmp_path / "a") is None
    assert Pages(tmp_path / "a").is_locked
    del writer
    claimed = slab.claim(tmp_path / "a")
    assert claimed is not None
    os.close(claimed)
    assert not Pages(tmp_path / "a").is_locked
    with pytest.raises(FileExistsError):
        Slab(tmp_path / "a", pid_space=0)


def test_links_are_not_followed(tmp_path):
    """A link in the folder leads neither reader nor writer elsewhere."""
    (tmp_path / "target").write_bytes(image([]))
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic"):
        Pages(tmp_path / "link")
    with pytest.raises(FileExistsError):
        Slab(tmp_path / "link", pid_space=0)
