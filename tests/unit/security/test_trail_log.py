"""The audit log of a process: numbers, durability, groups, threads, fork, a store that fails."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from smw._kernel.host import Host
from smw._kernel.signals import TrailFailed
from smw.errors import AuditUnavailable
from smw.security.trail import note
from smw.security.trail.files import open_store
from smw.security.trail.log import Trail
from smw.security.trail.memory import MemoryStore
from smw.security.trail.verify import verify


def trail_in(path: Path, **options) -> Trail:
    return Trail(lambda: open_store(path, lambda: os.urandom(6)), host=Host("svc"), **options)


def crashed(path: Path, *, behind: int = 0) -> Path:
    """Leave a log as a crash does: with a checkpoint that is not the last, and lines behind it."""
    trail = trail_in(path)
    trail.put({"kind": "outcome"})
    trail.checkpoint()
    log = path / trail.log_id
    last = (log / "checkpoint").read_bytes()
    for _ in range(behind):
        trail.put({"kind": "outcome"})
    trail.seal_if_open()
    lines = next(log.glob("*.jsonl")).read_bytes()
    trail.close()
    next(log.glob("*.jsonl")).write_bytes(lines)
    (log / "checkpoint").write_bytes(last)
    return log


def run(coroutine):
    """Drive a coroutine that must not suspend, as a synchronous call does."""
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    return stop.value.value


class Sick(MemoryStore):
    """A store that fails while `error` is set."""

    def __init__(self, log_id: str = "0001-0123456789ab") -> None:
        super().__init__(log_id)
        self.error: Exception | None = None
        self.sealing_error: Exception | None = None
        self.recoveries = 0

    def append(self, lines) -> None:
        if self.error is not None:
            raise self.error
        super().append(lines)

    def checkpoint(self, text: str) -> None:
        if self.sealing_error is not None:
            raise self.sealing_error
        super().checkpoint(text)

    def recover(self) -> None:
        if self.error is not None:
            raise self.error
        self.recoveries += 1


def until(condition: Callable[[], bool]) -> bool:
    """Wait for what another thread does."""
    done = threading.Event()
    for _ in range(300):
        if condition():
            return True
        done.wait(0.02)
    return False


def test_records_are_numbered_and_begin_with_the_opening(tmp_path):
    """The first record says who opened the log, and numbers follow each other without gaps."""
    trail = trail_in(tmp_path, about={"service": "svc"})
    assert [trail.put({"kind": "outcome", "n": n}) for n in range(3)] == [1, 2, 3]
    trail.checkpoint()
    records = list(trail.records())
    assert records[0]["event"] == "opened"
    assert records[0]["service"] == "svc"
    assert [record["seq"] for record in records] == [0, 1, 2, 3]
    assert {record["log"] for record in records} == {trail.log_id}
    trail.close()


def test_close_writes_and_seals_everything(tmp_path):
    """Buffered records survive closing, and the closed log verifies."""
    trail = trail_in(tmp_path)
    for n in range(1000):
        trail.put({"kind": "outcome", "n": n})
    trail.close()
    trail.close()
    found = verify(tmp_path)
    assert found.status == "ok", str(found)
    assert found.records == 1002


def test_a_log_goes_on_after_a_restart(tmp_path):
    """The next process continues the log; checkpoints of before are prefixes of it."""
    first = trail_in(tmp_path)
    first.put({"kind": "outcome"})
    kept = first.checkpoint()
    first.close()
    second = trail_in(tmp_path)
    assert second.put({"kind": "outcome"}) == 4
    second.close()
    assert verify(tmp_path, since=kept).status == "ok"


def test_sync_commit_is_durable_when_it_returns(tmp_path):
    """A record that somebody waited for is in the file before the wait ends."""
    trail = trail_in(tmp_path)
    seq = run(trail.commit({"kind": "intent", "n": 7}, "sync"))
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*.jsonl"))
    assert b'"n":7' in written
    assert seq == 1
    trail.close()


async def test_async_commit_waits_without_blocking_the_loop(tmp_path):
    """Many tasks share a group commit, each gets its own number, and the loop runs on meanwhile."""
    trail = trail_in(tmp_path)
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    numbers = await asyncio.gather(*(trail.commit({"kind": "intent"}, "async") for _ in range(50)))
    ticking.cancel()
    assert sorted(numbers) == list(range(1, 51))
    assert ticks > 1
    trail.close()


async def test_a_cancelled_waiter_harms_nobody(tmp_path):
    """Cancelling one task that waits for the group does not cancel the others' wait, nor the record."""
    trail = trail_in(tmp_path)
    tasks = [asyncio.create_task(trail.commit({"kind": "intent", "n": n}, "async")) for n in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[1], asyncio.CancelledError)
    assert [results[0], results[2]] == [1, 3]
    trail.close()
    assert verify(tmp_path).records == 5


def test_threads_share_one_log(tmp_path):
    """Records of many threads are all there, each once, and the log verifies."""
    trail = trail_in(tmp_path)

    def work(name: int) -> None:
        for n in range(100):
            if n % 10:
                trail.put({"kind": "outcome", "who": name, "n": n})
            else:
                run(trail.commit({"kind": "outcome", "who": name, "n": n}, "sync"))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trail.checkpoint()
    pairs = [(r["who"], r["n"]) for r in trail.records() if r["kind"] == "outcome"]
    assert len(pairs) == len(set(pairs)) == 800
    trail.close()
    assert verify(tmp_path).status == "ok"


def test_checkpoint_covers_what_was_put_before(tmp_path):
    """The returned checkpoint covers every earlier record and is the one in the file."""
    trail = trail_in(tmp_path)
    trail.put({"kind": "outcome"})
    text = trail.checkpoint()
    assert text.splitlines()[:2] == [f"svc/{trail.log_id}", "2"]
    assert (tmp_path / trail.log_id / "checkpoint").read_text() == text
    trail.close()


def test_idle_log_seals_itself(tmp_path):
    """A log that nobody writes to any more gets its checkpoint without being asked."""
    trail = trail_in(tmp_path)
    trail.put({"kind": "outcome"})
    assert until(lambda: verify(tmp_path).status == "ok")
    trail.close()


def test_failing_store_refuses_who_waits_and_keeps_the_record():
    """A record that could not become durable is an error for its caller, one signal, and is written later."""
    store, host, reasons = Sick(), Host("svc"), []
    host.bus.subscribe(TrailFailed, lambda signal: reasons.append(signal.reason))
    trail = Trail(lambda: store, host=host)
    run(trail.commit({"kind": "intent", "n": 0}, "sync"))
    store.error = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(AuditUnavailable, match="cannot be written"):
        run_raising(trail.commit({"kind": "intent", "n": 1}, "sync"))
    with pytest.raises(AuditUnavailable, match="cannot be written"):
        run_raising(trail.commit({"kind": "intent", "n": 2}, "sync"))
    trail.put({"kind": "outcome", "n": 3})
    store.error = None
    assert until(lambda: store.recoveries > 0)
    trail.checkpoint()
    records = list(trail.records())
    assert [r["n"] for r in records if "n" in r] == [0, 1, 3]
    assert [r["seq"] for r in records] == list(range(len(records)))
    assert any(r.get("event") == "recovered" and r["tries"] >= 1 for r in records)
    assert len(reasons) == 1
    assert "No space" in reasons[0]
    trail.close()


def run_raising(coroutine):
    coroutine.send(None)


async def test_failing_store_refuses_async_callers_too():
    """The awaited wait fails like the blocking one."""
    store = Sick()
    trail = Trail(lambda: store, host=Host("svc"))
    trail.put({"kind": "outcome"})
    store.error = OSError(errno.EIO, "I/O error")
    with pytest.raises(AuditUnavailable):
        await trail.commit({"kind": "intent"}, "async")
    store.error = None
    trail.close()


def test_any_error_of_a_store_counts_as_not_written():
    """A store with a bug does not end the writer."""
    store = Sick()
    trail = Trail(lambda: store, host=Host("svc"))
    trail.checkpoint()
    store.error = ZeroDivisionError()
    with pytest.raises(AuditUnavailable):
        run_raising(trail.commit({"kind": "intent"}, "sync"))
    store.error = None
    assert until(lambda: store.recoveries > 0)
    trail.close()


def test_failed_checkpoint_does_not_fail_the_records():
    """Records are acknowledged once they are durable; a checkpoint that fails is tried again."""
    store = Sick()
    trail = Trail(lambda: store, host=Host("svc"))
    trail.checkpoint()
    store.sealing_error = OSError(errno.ENOSPC, "No space left on device")
    run(trail.commit({"kind": "intent"}, "sync"))
    with pytest.raises(AuditUnavailable):
        trail.checkpoint()
    store.sealing_error = None
    assert until(lambda: store.recoveries > 0)
    text = trail.checkpoint()
    assert text == store.latest
    assert int(text.splitlines()[1]) == store.tree.size
    trail.close()


def test_spool_is_bounded(caplog):
    """While the store fails only so many records wait; then putting one is an error, and closing says what is lost."""
    store = Sick()
    trail = Trail(lambda: store, host=Host("svc"), spool=5)
    trail.checkpoint()
    store.error = OSError(errno.EIO, "I/O error")
    for _ in range(5):
        trail.put({"kind": "outcome"})
    with pytest.raises(AuditUnavailable, match="keep up"):
        trail.put({"kind": "outcome"})
    trail.close()
    assert "5 records are lost" in caplog.text


class Hung(MemoryStore):
    """A store whose second write does not return until it is let go."""

    def __init__(self) -> None:
        super().__init__("0001-0123456789ab")
        self.let_go = threading.Event()

    def append(self, lines) -> None:
        if self.tree.size:
            self.let_go.wait(10)
        super().append(lines)


def test_hung_store_refuses_in_time(caplog):
    """A store that hangs costs the caller the time-out, the next caller nothing, and closing ends."""
    store = Hung()
    trail = Trail(lambda: store, host=Host("svc"), timeout_s=0.05)
    trail.checkpoint()
    with pytest.raises(AuditUnavailable, match="within"):
        run_raising(trail.commit({"kind": "intent"}, "sync"))
    assert until(lambda: trail._opened().busy_s() > 0.05)
    with pytest.raises(AuditUnavailable, match="has not answered"):
        run_raising(trail.commit({"kind": "intent"}, "sync"))
    trail.close()
    assert "did not answer while closing" in caplog.text
    store.let_go.set()


async def test_hung_store_refuses_async_callers_in_time():
    """An awaited record is given up after the time-out as well."""
    store = Hung()
    trail = Trail(lambda: store, host=Host("svc"), timeout_s=0.05)
    trail.checkpoint()
    with pytest.raises(AuditUnavailable, match="within"):
        await trail.commit({"kind": "intent"}, "async")
    store.let_go.set()
    trail.close()


def test_closed_log_takes_nothing(tmp_path):
    """After closing, records and checkpoints are refused, also on a log that was never opened."""
    trail, unopened = trail_in(tmp_path), trail_in(tmp_path)
    trail.put({"kind": "outcome"})
    trail.close()
    unopened.close()
    for closed in (trail, unopened):
        with pytest.raises(AuditUnavailable, match="closed"):
            closed.put({"kind": "outcome"})
        with pytest.raises(AuditUnavailable, match="closed"):
            closed.checkpoint()


def test_folder_that_cannot_be_used_is_an_audit_error(tmp_path):
    """A trail folder that is a file gives one clear error."""
    (tmp_path / "trail").write_text("")
    with pytest.raises(AuditUnavailable, match="cannot be opened"):
        trail_in(tmp_path / "trail").put({"kind": "outcome"})


def test_first_checkpoint_that_fails_is_an_audit_error():
    """A log that cannot even begin is not half open."""
    store = Sick()
    store.sealing_error = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(AuditUnavailable, match="cannot be begun"):
        Trail(lambda: store, host=Host("svc")).put({"kind": "outcome"})


def test_reopening_after_a_crash_is_recorded(tmp_path):
    """The first record after a crash says how much of a torn tail was cut."""
    log = crashed(tmp_path)
    with next(log.glob("*.jsonl")).open("ab") as file:
        file.write(b'{"torn')
    assert verify(tmp_path).status == "incomplete"
    again = trail_in(tmp_path)
    again.checkpoint()
    assert [r["cut_bytes"] for r in again.records() if "cut_bytes" in r] == [6]
    again.close()
    assert verify(tmp_path).status == "ok"


@pytest.mark.parametrize("end", ["close", "exit"])
def test_nothing_is_adopted_behind_a_clean_end(tmp_path, caplog, end):
    """Lines added to a log whose writer had ended it are tampering, before and after a restart, and never signed."""
    trail = trail_in(tmp_path)
    trail.put({"kind": "outcome"})
    log = tmp_path / trail.log_id
    if end == "close":
        trail.close()
    else:
        trail.seal_if_open()
        trail._writer.store.close()
    segment = next(log.glob("*.jsonl"))
    size = len(segment.read_bytes().splitlines())
    forged = {"kind": "outcome", "actor": "innocent", "log": log.name, "seq": size}
    with segment.open("ab") as file:
        file.write(json.dumps(forged).encode() + b"\n")
    assert "1 records were added behind its end" in str(verify(tmp_path))
    assert verify(tmp_path).status == "tampered"
    again = trail_in(tmp_path)
    assert again.log_id != log.name
    again.close()
    assert verify(tmp_path).status == "tampered"
    assert "added behind its end" in caplog.text


def test_a_log_goes_on_after_a_clean_end(tmp_path):
    """A closed log is continued; a crash before anything else is sealed leaves it incomplete, not tampered with."""
    trail_in(tmp_path).close()
    for _ in range(3):
        trail = trail_in(tmp_path)
        trail.put({"kind": "outcome"})
        trail.close()
    found = verify(tmp_path)
    assert (found.status, len(found.logs), found.logs[0].remarks) == ("ok", 1, [])
    trail = trail_in(tmp_path)
    trail.put({"kind": "outcome"})
    trail.seal_if_open()
    run(trail.commit({"kind": "outcome"}, "sync"))
    assert not note.parse((tmp_path / trail.log_id / "checkpoint").read_text()).closed
    trail.close()
    assert note.parse((tmp_path / trail.log_id / "checkpoint").read_text()).closed


def test_adopted_records_are_counted_and_told(tmp_path):
    """Lines that a crash left behind the checkpoint stay; the log records how many, and `verify` names them."""
    crashed(tmp_path, behind=2)
    assert verify(tmp_path).status == "incomplete"
    again = trail_in(tmp_path)
    again.checkpoint()
    opened = [r for r in again.records() if r.get("event") == "opened"]
    assert [r.get("adopted") for r in opened] == [None, 2]
    again.close()
    found = verify(tmp_path)
    assert found.status == "ok"
    assert "records 2 to 3 (2) lay behind the checkpoint after a crash and were adopted" in str(found)


def test_an_end_is_written_once_and_a_loss_is_told(tmp_path, caplog):
    """A log that has ended is not sealed again, so its store may be gone by then; lines that it still owes are loud."""
    trail = trail_in(tmp_path)
    trail.put({"kind": "outcome"})
    trail.seal_if_open()
    checkpoint = tmp_path / trail.log_id / "checkpoint"
    written = checkpoint.stat().st_mtime_ns
    trail.seal_if_open()
    assert checkpoint.stat().st_mtime_ns == written
    trail.put({"kind": "outcome"})
    trail.seal_if_open()
    assert checkpoint.stat().st_mtime_ns != written
    trail._writer.store.close()
    trail.seal_if_open()
    assert caplog.messages == []
    trail.put({"kind": "outcome"})
    trail.seal_if_open()
    assert "cannot be written: [Errno 9] the audit log is closed" in caplog.text
    trail.close()
    assert "2 records are lost" in caplog.text


def test_a_torn_tail_behind_a_clean_end_is_tampering(tmp_path):
    """A writer that ended tears no line, so half a line behind its end was put there."""
    trail = trail_in(tmp_path)
    trail.put({"kind": "outcome"})
    trail.close()
    with next(tmp_path.rglob("*.jsonl")).open("ab") as file:
        file.write(b'{"torn')
    assert verify(tmp_path).status == "tampered"


def test_a_signal_handler_may_record_while_the_log_opens(tmp_path):
    """A handler that records in the middle of opening neither hangs nor loses its record; both records are kept."""
    inside = []

    def opener():
        store = open_store(tmp_path, lambda: os.urandom(6))
        if not inside:
            inside.append(True)
            trail.put({"kind": "outcome", "who": "handler"})
        return store

    trail = Trail(opener, host=Host("svc"))
    trail.put({"kind": "outcome", "who": "call"})
    trail.checkpoint()
    assert {r["who"] for r in trail.records() if r["kind"] == "outcome"} == {"handler", "call"}
    trail.close()
    assert verify(tmp_path).status == "ok"
