"""Whatever order records finish in, and whenever a reader dies: no offset passes an unfinished record."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from smw.pipeline.offsets import NOTE_BYTES, Offsets

gaps = st.lists(st.integers(1, 3), min_size=1, max_size=60)
steps = st.lists(
    st.tuples(st.sampled_from(["take", "settle", "try", "commit", "die"]), st.integers(0, 59)), max_size=120
)


class Life:
    """One partition over the lives of several readers, next to a plain account of what happened."""

    def __init__(self, log):
        self.log = log
        self.done, self.durable, self.begun = set(), set(), {}
        self.told = set()  # what the reader of now has settled: a commit makes just that durable
        self.stored = (log[0], "")
        self.reader, self.read, self.out = Offsets(*self.stored), 0, []

    def take(self, count):
        page = self.log[self.read : self.read + 1 + count % 5]
        if not page:
            return
        self.read += len(page)
        attempts = self.reader.hand_out(page) or [1] * len(page)
        for offset, attempt in zip(page, attempts, strict=True):
            if attempt == 0:
                assert offset in self.done
            else:
                assert offset not in self.durable
                assert attempt >= self.begun.get(offset, 0)
                self.out.append((offset, attempt))

    def settle(self, which):
        if self.out:
            offset, _ = self.out.pop(which % len(self.out))
            self.reader.settle(offset)
            self.done.add(offset)
            self.told.add(offset)

    def attempt(self, which):
        if self.out:
            offset, number = self.out[which % len(self.out)]
            self.reader.attempt(offset, number)
            self.stored = self.reader.commit()
            self.durable |= self.told
            self.begun[offset] = number + 1

    def commit(self):
        self.stored = self.reader.commit()
        self.durable |= self.told
        offset, note = self.stored
        assert all(earlier in self.done for earlier in self.log if earlier < offset)
        assert len(note) < NOTE_BYTES + 100

    def die(self):
        offset, _ = self.stored
        self.reader, self.out, self.told = Offsets(*self.stored), [], set()
        self.read = sum(one < offset for one in self.log)


@given(gaps, steps)
def test_no_commit_passes_an_unfinished_record(gaps, steps):
    """Over deaths and restarts every record is finished, none that was durably done comes again, attempts only grow."""
    log = [sum(gaps[:n]) for n in range(1, len(gaps) + 1)]
    life = Life(log)
    for step, which in steps:
        if step == "take":
            life.take(which)
        elif step == "settle":
            life.settle(which)
        elif step == "try":
            life.attempt(which)
        elif step == "commit":
            life.commit()
        else:
            life.die()
    while life.read < len(log) or life.out:
        life.take(4)
        while life.out:
            life.settle(0)
    life.commit()
    assert life.done == set(log)
    assert life.stored[0] == log[-1] + 1


@given(st.sets(st.integers(0, 5_000), max_size=2_000))
def test_a_note_never_outgrows_what_a_broker_takes(settled):
    """However scattered the finished records are, the note stays short, and what it says is true."""
    offsets = Offsets(0)
    offsets.hand_out(list(range(5_001)))
    for offset in settled - {0}:
        offsets.settle(offset)
    start, note = offsets.commit()
    assert start == 0
    assert len(note) <= NOTE_BYTES
    successor = Offsets(start, note)
    skipped = {n for n, attempt in enumerate(successor.hand_out(list(range(5_001))) or []) if attempt == 0}
    assert skipped <= settled


@given(st.text() | st.sampled_from(["[]", "1", '{"done": 3}', '{"done": [[0, 99999999999]]}', '{"seen": "x"}', "null"]))
def test_a_note_of_another_program_is_ignored(note):
    """Whatever text stands in the note, reading goes on at the offset."""
    assert Offsets(7, note).commit()[0] == 7


def test_a_late_or_repeated_settlement_counts_for_nothing():
    """Settling what was never handed out, or is done already, changes nothing."""
    offsets = Offsets(5)
    offsets.settle(5)
    offsets.hand_out([5, 6])
    offsets.settle(9)
    offsets.settle(5)
    offsets.settle(5)
    assert offsets.commit()[0] == 6
    offsets.settle(5)
    assert (offsets.commit()[0], offsets.waiting) == (6, 1)
