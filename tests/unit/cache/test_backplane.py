"""What is heard of other processes' drops, and until when memory is current for it."""

from __future__ import annotations

import pytest

from smw.cache.coherence.backplane import NEVER, Backplane
from smw.cache.coherence.planes import Backplanes
from smw.cache.coherence.wire import Told, Wire
from smw.cache.levels.level import run_blocking
from smw.cache.ports import Pulse
from smw.testing import SeededEntropy


class Ears:
    """A backplane, and what it has dropped."""

    def __init__(self) -> None:
        self.dropped: list[object] = []
        self.backplane = Backplane(self.dropped.append, lambda: self.dropped.append("all"))

    def pulse(self, number: int, at: float, reign: str = "r", *, is_master: bool = True) -> bool:
        return self.backplane.pulsed(Pulse(number, reign, is_master), asked=at, told=at + 0.1)

    def hear(self, number: int, at: float = 0.0, scopes=("t",)) -> None:
        self.backplane.heard(number, scopes, now=at)


@pytest.fixture
def ears():
    return Ears()


def test_nothing_is_current_before_a_session(ears):
    """Memory that nobody vouches for is not current, whenever its entries were confirmed."""
    assert ears.backplane.current(1e9) == NEVER


def test_a_pulse_vouches_for_what_was_confirmed_after_the_session_began(ears):
    """Entries confirmed before a session has begun are not current in it; later ones are, as of each pulse."""
    ears.pulse(5, 1.0)
    assert ears.backplane.current(1.05) == NEVER
    assert ears.backplane.current(1.2) == 1.0
    ears.pulse(5, 2.0)
    assert ears.backplane.current(1.2) == 2.0
    assert ears.dropped == []


def test_a_drop_elsewhere_is_dropped_here(ears):
    """What a message names is dropped, in a session or before one."""
    ears.hear(4, scopes=("early",))
    ears.pulse(5, 1.0)
    ears.hear(6, scopes=("a", "b"))
    assert ears.dropped == [("early",), ("a", "b")]
    assert ears.backplane.messages == 2


def test_an_own_drop_counts_and_drops_nothing(ears):
    """This process has dropped it already; its number is the next one all the same."""
    ears.pulse(5, 1.0)
    ears.hear(6, scopes=())
    ears.pulse(6, 2.0)
    assert ears.dropped == []
    assert ears.backplane.current(1.2) == 2.0


def test_memory_is_current_only_once_everything_sent_before_the_pulse_was_heard(ears):
    """A pulse ahead of the messages vouches from when they have come, and only for the moment when it was asked."""
    ears.pulse(5, 1.0)
    ears.pulse(7, 2.0)
    ears.hear(6)
    assert ears.backplane.current(1.2) == 1.0
    ears.hear(7)
    assert ears.backplane.current(1.2) == 2.0


def test_a_missing_number_empties_memory_and_begins_a_session(ears):
    """After a gap nothing confirmed before it is current, whatever the next pulse says."""
    ears.pulse(5, 1.0)
    ears.hear(7, at=1.5)
    assert ears.dropped == [("t",), "all"]
    assert ears.backplane.gaps == 1
    ears.pulse(7, 2.0)
    assert ears.backplane.current(1.4) == NEVER
    assert ears.backplane.current(1.6) == 2.0


def test_messages_that_do_not_come_empty_memory_at_the_next_pulse(ears):
    """A connection that brings nothing is told apart from one where nothing is said, and is given up."""
    ears.pulse(5, 1.0)
    assert ears.pulse(6, 2.0)
    assert not ears.pulse(6, 2.3)
    assert ears.dropped == ["all"]
    assert ears.backplane.current(2.2) == NEVER
    assert ears.backplane.current(2.5) == 2.3


def test_a_reconnection_without_loss_goes_on(ears):
    """Where the number shows that nothing was said meanwhile, memory stays."""
    ears.pulse(5, 1.0)
    ears.pulse(5, 9.0)
    assert ears.backplane.current(1.2) == 9.0
    assert ears.dropped == []


@pytest.mark.parametrize("pulse", [(4, 2.0, "r"), (5, 2.0, "other"), (9, 2.0, "other")])
def test_a_server_that_lost_something_empties_memory(ears, pulse):
    """A lower number or another reign is another history: what was heard before says nothing about it."""
    ears.pulse(5, 1.0)
    ears.pulse(*pulse)
    assert ears.dropped == ["all"]
    assert ears.backplane.current(1.2) == NEVER
    assert ears.backplane.current(2.2) == 2.0


def test_a_message_heard_twice_changes_nothing(ears):
    """It is dropped once more, which does no harm, and is no gap."""
    ears.pulse(5, 1.0)
    ears.hear(6)
    ears.hear(6)
    assert ears.backplane.gaps == 0


def test_a_replica_vouches_for_nothing(ears):
    """A server that only follows another may be behind it."""
    ears.pulse(5, 1.0)
    ears.pulse(5, 2.0, is_master=False)
    assert ears.backplane.current(1.2) == 1.0


@pytest.mark.parametrize(
    ("pulse", "missed", "knows"),
    [
        (Pulse(5, "r", is_master=True), False, True),
        (Pulse(5, "r", is_master=False), False, False),
        (Pulse(5, "other", is_master=True), False, False),
        (Pulse(7, "r", is_master=True), True, False),
        (None, False, False),
    ],
)
def test_what_nobody_can_tell_since_a_moment_is_not_known(ears, pulse, missed, knows):
    """A replica, a server that has lost something, messages that were missed and no answer: each may hide a drop."""

    async def ask(**_how):
        return pulse

    ears.backplane.attended(lambda: None, ask)
    ears.pulse(5, 1.0)
    moment = run_blocking(ears.backplane.moment(1.2, budget=None, mode="sync"))
    if missed:
        ears.hear(7, at=1.5)
    assert run_blocking(ears.backplane.knows_all_since(moment, budget=None, mode="sync")) is knows


def test_all_was_heard_once_the_message_of_the_newest_number_has_come(ears):
    """A drop that the server has sent and that is still on its way is not heard."""

    async def ask(**_how):
        return Pulse(6, "r", is_master=True)

    ears.backplane.attended(lambda: None, ask)
    ears.pulse(5, 1.0)
    assert not run_blocking(ears.backplane.has_heard_all(1.2, budget=None, mode="sync"))
    ears.hear(6)
    assert run_blocking(ears.backplane.has_heard_all(1.2, budget=None, mode="sync"))


def test_a_drop_of_very_many_names_everything():
    """A message does not grow without end: memory elsewhere is emptied instead."""
    wire = Wire("smw:n:t:*", SeededEntropy())
    assert wire.text(["a", "b"]) == f"{wire.sender} a b"
    assert wire.text([str(number) for number in range(1001)]) == f"{wire.sender} smw:n:t:*"


def test_databases_of_one_server_have_channels_of_their_own():
    """They number their messages apart, and a server's channels are common to them."""
    wire = Wire("smw:n:t:*", SeededEntropy())
    assert wire.channel(0) != wire.channel(1)
    assert {wire.number, wire.guard} == {"smw:n:b:n", "smw:n:b:g"}


def test_what_two_servers_tell_is_counted_apart():
    """An entry is current by what the server of its key tells, one of several keys by what all tell."""
    dropped = []
    one, two = (Backplane(dropped.append, lambda: dropped.append("all")) for _ in range(2))
    both = Backplanes({"one": one, "two": two}, lambda key: "one" if key < "m" else "two")
    one.pulsed(Pulse(10, "a", is_master=True), asked=1.0, told=1.1)
    assert both.of("key").current(1.2) == 1.0
    assert both.of("other").current(1.2) == both.current(1.2) == NEVER
    two.pulsed(Pulse(70, "b", is_master=True), asked=1.5, told=1.6)
    assert both.current(1.2) == NEVER, "it was asked before the other session began"
    assert both.current(1.7) == 1.0
    one.heard(11, ["key"], now=2.0)
    two.heard(72, ["other"], now=2.1)
    assert dropped == [["key"], ["other"], "all"]
    assert (both.messages, both.gaps) == (2, 1)
    assert both.of("key").current(1.7) == 1.0
    assert both.of("other").current(1.7) == NEVER


def test_messages_say_which_server_has_sent_them():
    """What is told can be told from what this process has told itself, and from what other servers tell."""
    wire, other = Wire("smw:m:t:*", SeededEntropy(1)), Wire("smw:m:t:*", SeededEntropy(2))
    assert wire.read(f"7 {other.text(['a', 'b'])}".encode()) == Told(7, "", ("a", "b"))
    assert wire.read(f"8 {other.text(['a'], '3')}".encode()) == Told(8, "3", ("a",))
    assert wire.read(f"9 {wire.text(['a'], '3')}".encode()) == Told(9, "3", ())
    assert wire.read(f"10 {wire.alarm('3')}".encode()) == Told(10, "3", ("smw:m:t:*",))
    assert wire.read(f"11 {wire.alarm()}".encode()) == Told(11, "", ("smw:m:t:*",))
    assert [wire.key_of(lease) for lease in ("smw:m:k:l", "{18}smw:m:k:l")] == ["smw:m:k", "smw:m:k"]
    for noise in (b"", b"x y z", b"\xff 1"):
        with pytest.raises(ValueError, match=r".*"):
            wire.read(noise)
