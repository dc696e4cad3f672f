"""Turns at a shared folder: who is in, who stands at the door, and for how long anybody waits."""

from __future__ import annotations

import os

import pytest

from smw.cache.strategies import turnstile
from tests.unit.cache.test_write_closing import is_locked


class Patience:
    """Counts what is waited for instead of waiting; at a moment, `then` happens."""

    def __init__(self, after_s: float = float("inf"), then=None) -> None:
        self.waited_s, self._after_s, self._then = 0.0, after_s, then

    def wait(self, seconds: float) -> None:
        self.waited_s += seconds
        if self._then is not None and self.waited_s >= self._after_s:
            then, self._then = self._then, None
            then()


@pytest.fixture
def made(tmp_path):
    """Makes turnstiles of one folder, as processes do, and closes them."""
    all_of_them = []

    def make(**patience):
        one = turnstile.Turnstile(tmp_path)
        one._never = Patience(**patience)
        all_of_them.append(one)
        return one

    yield make
    for each in all_of_them:
        each.close()


def locked(folder) -> tuple[bool, bool]:
    """Whether the door and the room are taken."""
    with (folder / "door.lock").open() as door, (folder / "room.lock").open() as room:
        return is_locked(door), is_locked(room)


def test_who_has_a_turn_stands_in_the_room_and_leaves_the_door_to_the_next(made, tmp_path):
    """Until the turn ends, also by an error."""
    one = made()
    with one.turn():
        assert locked(tmp_path) == (False, True)
    assert locked(tmp_path) == (False, False)
    with pytest.raises(KeyError), one.turn():
        raise KeyError
    assert locked(tmp_path) == (False, False)
    assert one._never.waited_s == 0


@pytest.mark.parametrize("where", ["_door", "_room"])
def test_a_lock_that_is_never_let_go_keeps_nobody_for_longer_than_half_a_second(made, tmp_path, where):
    """Then the database decides, and nobody finds the door shut behind who has given up."""
    stopped, one = made(), made()
    stopped._locked(getattr(stopped, where), 0.01, 0.01)
    with one.turn():
        assert locked(tmp_path) == (where == "_door", where == "_room")
        assert one._never.waited_s == pytest.approx(0.5, abs=0.002)
    stopped._free(getattr(stopped, where))
    assert locked(tmp_path) == (False, False)


def test_half_a_second_is_for_door_and_room_together(made, tmp_path):
    """Who has waited at the door has less left for the room."""
    stopped = made()
    stopped._locked(stopped._door, 0.01, 0.01)
    stopped._locked(stopped._room, 0.01, 0.01)
    one = made(after_s=0.3, then=lambda: stopped._free(stopped._door))
    with one.turn():
        assert one._never.waited_s == pytest.approx(0.5, abs=0.002)


def test_a_door_that_opens_in_time_is_gone_through(made, tmp_path):
    """And the turn is one's own."""
    other = made()
    other._locked(other._door, 0.01, 0.01)
    one = made(after_s=0.1, then=lambda: other._free(other._door))
    with one.turn():
        assert locked(tmp_path) == (False, True)
    assert one._never.waited_s == pytest.approx(0.1, abs=0.002)


def test_both_files_are_closed_and_never_a_second_time(made, tmp_path):
    """Their numbers belong to whatever is opened next; a turn in what is closed is the database's alone."""
    one = made()
    fds = one._door, one._room
    one.close()
    for fd in fds:
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(fd)
    others = [os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in "ab"]
    one.close()
    with one.turn():
        assert locked(tmp_path) == (False, False)
    for fd in others:
        os.close(fd)


def test_the_locks_of_a_folder_are_for_its_owner(made, tmp_path):
    """Another user of the machine cannot keep the processes of this one waiting."""
    made()
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("door.lock", "room.lock")} == {0o600}
