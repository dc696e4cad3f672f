"""The store in files: one writer, resuming, torn tails, damage, failing disks."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from smw.security.trail import note
from smw.security.trail.files import FileStore, open_store
from smw.security.trail.layout import Damaged
from smw.security.trail.memory import MemoryStore

LOG = "0001-0123456789ab"


def line(seq: int) -> bytes:
    return json.dumps({"log": LOG, "seq": seq}).encode()


def seal(store: FileStore) -> None:
    store.checkpoint(note.render(f"svc/{store.log_id}", store.tree, None))


def begun(path: Path, lines: int = 3, **options) -> FileStore:
    store = FileStore(path / LOG, **options)
    seal(store)
    store.append([line(seq) for seq in range(lines)])
    return store


def segment(path: Path) -> Path:
    return max((path / LOG).glob("*.jsonl"))


def test_second_writer_is_refused(tmp_path):
    """Two writers never share a log: the second one is refused while the first is open."""
    first = begun(tmp_path)
    with pytest.raises(BlockingIOError):
        FileStore(tmp_path / LOG)
    first.close()
    FileStore(tmp_path / LOG).close()


def test_second_process_gets_a_log_of_its_own(tmp_path):
    """Where the log is taken, the folder gets another log; once it is free, it is continued."""
    one = open_store(tmp_path, lambda: os.urandom(6))
    other = open_store(tmp_path, lambda: os.urandom(6))
    assert one.log_id.startswith("0001-")
    assert other.log_id.startswith("0002-")
    one.close()
    again = open_store(tmp_path, lambda: os.urandom(6))
    assert again.log_id == one.log_id
    again.close()
    other.close()


def test_a_new_log_that_another_process_has_found_first_is_left_to_it(tmp_path):
    """Between the making of a folder and its lock another process may take it for a log that nobody writes."""
    found = []

    def new_id():
        number = os.urandom(6)
        if not found:
            found.append(FileStore(tmp_path / f"0001-{number.hex()}"))
        return number

    mine = open_store(tmp_path, new_id)
    assert (found[0].log_id[:5], mine.log_id[:5]) == ("0001-", "0002-")
    mine.close()
    found[0].close()


def test_lines_behind_the_checkpoint_are_adopted(tmp_path):
    """Lines that were durable before a crash, but not yet covered, stay in the log and are counted."""
    begun(tmp_path, 3).close()
    store = FileStore(tmp_path / LOG)
    assert (store.tree.size, store.found) == (3, {"adopted": 3})
    store.close()


def test_a_torn_tail_is_cut_back_and_counted(tmp_path):
    """What a crash left of a half-written line is cut off and its size is known."""
    begun(tmp_path, 2).close()
    with segment(tmp_path).open("ab") as file:
        file.write(b'{"log":"0001-01')
    store = FileStore(tmp_path / LOG)
    assert store.found == {"cut_bytes": 15, "adopted": 2}
    store.append([line(2)])
    assert list(store.lines()) == [line(0), line(1), line(2)]
    store.close()


def test_garbage_behind_the_last_record_is_cut(tmp_path):
    """Whole lines of garbage, as a power cut may leave them, are no records of this log."""
    begun(tmp_path, 2).close()
    with segment(tmp_path).open("ab") as file:
        file.write(b"\x00\x00\n" + line(2) + b"\n")
    store = FileStore(tmp_path / LOG)
    assert store.tree.size == 2
    assert store.found["cut_bytes"] == 3 + len(line(2)) + 1
    store.close()


def test_resuming_reads_only_the_last_segment(tmp_path):
    """A log goes on from its checkpoint although earlier segments were moved to an archive."""
    store = begun(tmp_path, 1, segment_bytes=30)
    for seq in range(1, 6):
        store.append([line(seq)])
        seal(store)
    root = store.tree.root()
    store.close()
    min((tmp_path / LOG).glob("*.jsonl")).unlink()
    again = FileStore(tmp_path / LOG)
    assert (again.tree.size, again.tree.root()) == (6, root)
    again.close()


@pytest.mark.parametrize("damage", ["shortened", "no checkpoint", "checkpoint changed", "foreign checkpoint"])
def test_a_damaged_log_is_left_alone(tmp_path, caplog, damage):
    """A log that no crash explains is not continued: it stays as evidence and a new one is begun."""
    store = begun(tmp_path)
    seal(store)
    store.close()
    checkpoint = tmp_path / LOG / "checkpoint"
    text = checkpoint.read_text()
    if damage == "shortened":
        os.truncate(segment(tmp_path), 10)
    elif damage == "no checkpoint":
        checkpoint.unlink()
    elif damage == "checkpoint changed":
        checkpoint.write_text(text.replace("\n3\n", "\n1\n"))
    else:
        checkpoint.write_text(text.replace(LOG, "0002-0123456789ab"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    fresh = open_store(tmp_path, lambda: os.urandom(6))
    assert fresh.log_id.startswith("0002-")
    assert "damaged" in caplog.text
    assert {path: path.read_bytes() for path in before} == before
    fresh.close()


def test_a_gap_between_segments_is_damage(tmp_path):
    """Segments that do not follow each other are not continued."""
    store = begun(tmp_path, 1, segment_bytes=30)
    for seq in range(1, 4):
        store.append([line(seq)])
    store.close()
    sorted((tmp_path / LOG).glob("*.jsonl"))[1].unlink()
    with pytest.raises(Damaged, match="does not begin"):
        FileStore(tmp_path / LOG)


class Disk:
    """A sync that fails while `error` is set."""

    def __init__(self) -> None:
        self.error: OSError | None = None

    def __call__(self, fd: int) -> None:
        if self.error is not None:
            raise self.error
        os.fsync(fd)


def test_failed_sync_is_never_retried_as_success(tmp_path):
    """After a failed sync nothing is taken until the segment was cut back; then writing goes on in a new one."""
    disk = Disk()
    store = begun(tmp_path, 2, sync=disk)
    seal(store)
    disk.error = OSError(errno.EIO, "I/O error")
    with pytest.raises(OSError, match="I/O"):
        store.append([line(2)])
    disk.error = None
    with pytest.raises(OSError, match="not recovered"):
        store.append([line(2)])
    store.recover()
    assert list(store.lines()) == [line(0), line(1)]
    store.append([line(2)])
    assert list(store.lines()) == [line(0), line(1), line(2)]
    assert len(list((tmp_path / LOG).glob("*.jsonl"))) == 2
    store.close()


def test_recovery_fails_while_the_disk_does(tmp_path):
    """A store whose disk still fails does not claim to be recovered."""
    disk = Disk()
    store = begun(tmp_path, 1, sync=disk)
    disk.error = OSError(errno.EIO, "I/O error")
    with pytest.raises(OSError, match="I/O"):
        store.append([line(1)])
    with pytest.raises(OSError, match="I/O"):
        store.recover()
    store.close()


def test_failed_checkpoint_leaves_the_old_one(tmp_path):
    """A checkpoint is replaced whole or not at all."""
    disk = Disk()
    store = begun(tmp_path, 1, sync=disk)
    seal(store)
    old = (tmp_path / LOG / "checkpoint").read_bytes()
    disk.error = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="space"):
        store.checkpoint("another\n")
    assert (tmp_path / LOG / "checkpoint").read_bytes() == old
    store.close()


def test_a_deleted_log_is_noticed(tmp_path):
    """Removing the file under the writer is an error at the next record, not a log into nowhere."""
    store = begun(tmp_path)
    segment(tmp_path).unlink()
    with pytest.raises(Damaged, match="deleted"):
        store.append([line(3)])
    with pytest.raises(Damaged, match="deleted"):
        store.recover()
    store.close()


def test_a_foreign_line_under_the_writer_is_noticed(tmp_path):
    """Somebody else's bytes in the segment stop the writer, and recovery does not adopt them."""
    store = begun(tmp_path)
    seal(store)
    with segment(tmp_path).open("ab") as file:
        file.write(line(3) + b"\n")
    with pytest.raises(Damaged, match="somebody else"):
        store.append([line(3)])
    store.recover()
    assert store.tree.size == 3
    store.close()


def test_changed_lines_are_not_recovered_over(tmp_path):
    """Recovery compares what is on disk behind the checkpoint with what was written."""
    store = begun(tmp_path)
    path = segment(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"seq": 1', b'"seq":11'))
    store._broken = True
    with pytest.raises(Damaged, match="not what was written"):
        store.recover()
    store.close()


def test_closed_store_takes_nothing(tmp_path):
    """A closed store refuses lines, checkpoints and recovery."""
    store = begun(tmp_path)
    store.close()
    for step in (lambda: store.append([line(3)]), lambda: store.checkpoint("x"), store.recover):
        with pytest.raises(OSError, match="closed"):
            step()


def test_files_are_private(tmp_path):
    """Folder, segments and checkpoint can be read by their owner only."""
    store = open_store(tmp_path / "trail", lambda: b"\x01" * 6)
    store.append([line(0)])
    seal(store)
    for path in (tmp_path / "trail").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    store.close()


def test_memory_store_is_bounded():
    """The store in memory forgets the oldest lines and its tree still covers them."""
    store = MemoryStore(LOG, keep=2)
    store.append([line(seq) for seq in range(5)])
    assert list(store.lines()) == [line(3), line(4)]
    assert store.tree.size == 5
