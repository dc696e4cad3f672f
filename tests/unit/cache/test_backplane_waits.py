"""Who wants to know whether all drops were heard: what is asked, and whom a message lets go on."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from smw.cache.coherence import backplane as backplane_module
from smw.cache.coherence.backplane import NEVER
from smw.cache.levels.level import run_blocking
from smw.cache.ports import Pulse
from tests.unit.cache.test_backplane import Ears
from tests.unit.cache.test_write_back import until


class Asked(Ears):
    """A backplane that somebody attends to: the server says what `says` holds."""

    def __init__(self) -> None:
        super().__init__()
        self.says: Pulse | None = Pulse(5, "r", is_master=True)
        self.asked: list[dict] = []
        self.summoned = 0
        self.backplane.attended(self._summon, self._ask)

    def _summon(self) -> None:
        self.summoned += 1

    async def _ask(self, **how) -> Pulse | None:
        self.asked.append(how)
        return self.says

    def heard_all(self, since: float) -> bool:
        return run_blocking(self.backplane.has_heard_all(since, budget="budget", mode="sync"))

    def knows(self, moment) -> bool:
        return run_blocking(self.backplane.knows_all_since(moment, budget="budget", mode="sync"))

    def moment(self, at: float):
        return run_blocking(self.backplane.moment(at, budget="budget", mode="sync"))


HOW = {"budget": "budget", "mode": "sync"}


@pytest.fixture
def ears(monkeypatch):
    """A server whose messages nobody waits for."""
    monkeypatch.setattr(backplane_module, "_HEARD_WITHIN_S", 0.0)
    return Asked()


def test_a_message_of_before_the_session_takes_nothing_back(ears):
    """It is dropped, and the next ones are counted from where they were."""
    ears.pulse(5, 1.0)
    ears.hear(3)
    assert ears.pulse(5, 2.0)
    assert (ears.backplane.gaps, ears.backplane.current(1.1)) == (0, 2.0)
    assert ears.backplane.current(1.09) == NEVER
    assert ears.dropped == [("t",)]


def test_what_was_waited_for_and_has_come_is_waited_for_no_more(ears):
    """The next pulse may be ahead again: it is no second one whose messages do not come."""
    ears.pulse(5, 1.0)
    ears.pulse(6, 2.0)
    ears.hear(6)
    assert ears.pulse(8, 3.0)
    assert ears.backplane.gaps == 0
    ears.hear(7)
    ears.hear(8)
    assert ears.backplane.current(1.2) == 3.0


def test_what_was_waited_for_before_a_gap_is_waited_for_no_more(ears):
    """The session after it begins with nothing to wait for."""
    ears.pulse(5, 1.0)
    ears.pulse(9, 2.0)
    ears.hear(8, at=2.5)
    assert ears.pulse(10, 3.0)
    assert ears.backplane.gaps == 1


def test_a_replica_is_no_reason_to_listen_anew(ears):
    """It tells nothing, which is not to say that its messages do not come through."""
    assert ears.pulse(5, 1.0, is_master=False)
    assert ears.backplane.current(9.0) == NEVER


def test_nobody_is_asked_where_nothing_can_be_said(ears):
    """Before a session, of what is older than it, and where nobody attends."""
    assert ears.heard_all(1.2)
    ears.pulse(5, 2.0)
    assert ears.heard_all(1.2)
    assert ears.asked == []
    alone = Ears()
    alone.pulse(5, 1.0)
    assert run_blocking(alone.backplane.has_heard_all(1.2, **HOW))


def test_a_server_that_says_nothing_keeps_nobody(ears):
    """It is asked within what the caller may spend; what has not come by then is not heard."""
    ears.pulse(5, 1.0)
    ears.says = None
    assert ears.heard_all(1.2)
    ears.says = Pulse(6, "r", is_master=True)
    assert not ears.heard_all(1.2)
    assert ears.asked == [HOW, HOW]
    assert ears.backplane._waiting == []


def test_a_moment_is_asked_for_only_where_nothing_is_heard(ears):
    """Then it is what the server says, and stands for as long as the server says the same."""
    moment = ears.moment(1.2)
    assert (moment.at, moment.pulse, ears.asked) == (1.2, ears.says, [HOW])
    assert ears.knows(moment)
    ears.says = Pulse(6, "r", is_master=True)
    assert not ears.knows(moment)
    assert ears.asked == [HOW] * 3
    ears.pulse(6, 2.0)
    assert ears.moment(2.2) == (2.2, None)
    assert ears.asked == [HOW] * 3


def test_of_a_moment_after_which_not_all_was_heard_nothing_is_known(ears):
    """A drop may be on its way."""
    ears.pulse(5, 1.0)
    moment = ears.moment(1.2)
    ears.says = Pulse(6, "r", is_master=True)
    assert not ears.knows(moment)
    ears.hear(6)
    assert ears.knows(moment)


def test_where_nobody_attends_nothing_is_known_since_a_moment():
    """There is nobody to ask, neither then nor later."""
    alone = Ears()
    moment = run_blocking(alone.backplane.moment(1.2, **HOW))
    assert moment == (1.2, None)
    assert not run_blocking(alone.backplane.knows_all_since(moment, **HOW))
    alone.pulse(5, 1.0)
    assert not run_blocking(alone.backplane.joined(0.0, "sync"))
    alone.backplane.want(3.0)
    assert alone.backplane.wanted_at == 3.0


def test_whoever_wants_to_know_has_somebody_listen(ears):
    """Each time, for listening ends where nobody has wanted it for a while."""
    assert (ears.backplane.wanted_at, ears.summoned) == (NEVER, 0)
    ears.backplane.want(3.0)
    ears.backplane.want(4.0)
    assert (ears.backplane.wanted_at, ears.summoned) == (4.0, 2)


def test_one_server_answers_for_all_keys(ears):
    """Where several do, each has a backplane of its own."""
    assert ears.backplane.of("key") is ears.backplane.of_server(None) is ears.backplane


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("what", ["message", "session"])
async def test_who_waits_goes_on_once_it_is_heard(ears, monkeypatch, mode, what):
    """Threads and coroutines, for a message on its way or for a session to begin; nobody waits afterwards."""
    monkeypatch.setattr(backplane_module, "_HEARD_WITHIN_S", 60.0)
    if what == "message":
        ears.pulse(5, 1.0)
    ears.says = Pulse(7, "r", is_master=True)

    def wait():
        if what == "session":
            return ears.backplane.joined(60.0, mode)
        return ears.backplane.has_heard_all(1.2, budget=None, mode=mode)

    with ThreadPoolExecutor(1) as thread:
        waiting = asyncio.ensure_future(wait()) if mode == "async" else thread.submit(run_blocking, wait())
        await until(lambda: ears.backplane._waiting)
        if what == "message":
            ears.hear(6)
            assert not ears.backplane._waiting[0][1].done()
            ears.hear(7)
            ears.hear(8)
        else:
            ears.pulse(5, 1.0)
        assert (await waiting if mode == "async" else waiting.result(60)) is True
    assert ears.backplane._waiting == []


async def test_each_of_those_who_wait_goes_on_by_itself(ears, monkeypatch):
    """When what it waits for is heard, however many wait for something else; and when it has waited long enough."""
    ears.pulse(5, 1.0)
    ears.says = Pulse(9, "r", is_master=True)
    assert not await ears.backplane.has_heard_all(1.2, budget=None, mode="async")
    monkeypatch.setattr(backplane_module, "_HEARD_WITHIN_S", 60.0)
    waits = []
    for number in (8, 7, 6):
        ears.says = Pulse(number, "r", is_master=True)
        waits.append(asyncio.ensure_future(ears.backplane.has_heard_all(1.2, budget=None, mode="async")))
        await until(lambda: len(ears.backplane._waiting) == len(waits))
    ears.hear(6)
    ears.hear(7)
    assert await asyncio.gather(*waits[1:]) == [True, True]
    assert not waits[0].done()
    ears.hear(8)
    assert await waits[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_heard_nothing(ears):
    """Nobody listens for it yet."""
    ears.pulse(5, 1.0)
    pid = os.fork()
    if pid == 0:
        os._exit(ears.backplane.current(9.0) != NEVER)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert ears.backplane.current(9.0) == 1.0
