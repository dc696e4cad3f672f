"""A name that is looked up slowly keeps a caller for its time-out, and no longer."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from smw._kernel import lookup
from smw._kernel.deadline import SocketModule
from smw._kernel.lookup import looked_up

FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]


class Names:
    """A name server that answers when it is let."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.asked: list[tuple] = []
        self.error: Exception | None = None

    def getaddrinfo(self, *asked):
        self.asked.append(asked)
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        return FOUND


@pytest.fixture
def names(monkeypatch):
    made = Names()
    monkeypatch.setattr(lookup.socket, "getaddrinfo", made.getaddrinfo)
    yield made
    made.gate.set()
    lookup._lookups._forked()


def test_an_answer_in_time_is_handed_out(names):
    """It is what the system says, and the next one asks anew."""
    names.gate.set()
    assert looked_up(10, "some.host", 80, 0, 1) == looked_up(10, "some.host", 80, 0, 1) == FOUND
    assert names.asked == [("some.host", 80, 0, 1)] * 2


def test_who_has_waited_long_enough_goes_and_the_next_one_finds_the_answer(names):
    """The look-up goes on meanwhile, once for all who ask."""
    for _ in range(3):
        with pytest.raises(TimeoutError):
            looked_up(0.01, "some.host", 80)
    names.gate.set()
    assert looked_up(10, "some.host", 80) == FOUND
    assert len(names.asked) == 1


def test_a_failure_is_raised_as_the_system_told_it(names):
    """Each who waits gets an error of its own; what is no name at all is an error of the same kind."""
    names.gate.set()
    names.error = socket.gaierror(-3, "Temporary failure in name resolution")
    with pytest.raises(socket.gaierror, match="Temporary failure"):
        looked_up(10, "some.host", 80)
    names.error = UnicodeError("label too long")
    with pytest.raises(OSError, match="label too long"):
        looked_up(10, "some.host", 80)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_addresses_take_no_thread(names, host, monkeypatch):
    """There is nothing to be looked up."""
    names.gate.set()
    monkeypatch.setattr(lookup, "in_background", None)
    assert looked_up(10, host, 80) == FOUND


def test_where_no_thread_can_be_had_the_caller_asks(names, monkeypatch):
    """As without a time-out."""
    names.gate.set()
    monkeypatch.setattr(lookup, "in_background", lambda _work, _name: None)
    assert looked_up(10, "some.host", 80) == looked_up(None, "some.host", 80) == FOUND


def test_an_old_answer_is_of_no_use(names, monkeypatch):
    """What came too late is kept for seconds."""
    with pytest.raises(TimeoutError):
        looked_up(0.01, "some.host", 80)
    late = lookup._lookups._known["some.host", 80]
    names.gate.set()
    assert late.ended.wait(10)
    monkeypatch.setattr(late, "ended_at", late.ended_at - 6)
    assert looked_up(10, "some.host", 80) == FOUND
    assert len(names.asked) == 2


def test_a_forked_child_asks_for_itself(names):
    """The thread that looks up for the parent does not exist there."""
    with pytest.raises(TimeoutError):
        looked_up(0.01, "some.host", 80)
    child = os.fork()
    if child == 0:
        names.gate = threading.Event()
        names.gate.set()
        os._exit(0 if looked_up(5, "some.host", 80) == FOUND else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_clients_that_take_a_module_look_up_within_the_time(names):
    """The other names are those of the module."""
    module = SocketModule(0.01)
    assert module.AF_INET is socket.AF_INET
    with pytest.raises(TimeoutError):
        module.getaddrinfo("some.host", 80)
