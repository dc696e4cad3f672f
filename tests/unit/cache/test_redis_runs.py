"""Scripts of one tick travel over one connection; each is answered for itself, and the event loop's time is its own."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
import redis.exceptions as known

from smw._kernel.clock import SystemClock
from smw._kernel.guard import EXCUSED, Allowance
from smw._kernel.host import Host
from smw.cache.levels.level import Level
from smw.cache.ports import StoreFailedError
from smw.cache.stores.deadlines import Busy, LagError
from smw.cache.stores.redis import RedisStore
from smw.cache.stores.redis_runs import ALONE_BYTES, MOST_BYTES, MOST_COMMANDS, Runs
from smw.testing import SeededEntropy


class Lines:
    """Connections to a server that knows scripts by their digests, and answers each with its first argument."""

    def __init__(self) -> None:
        self.sent: list[list[tuple[object, ...]]] = []
        self.knows: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.runs = Runs(self, Busy())

    async def run(self, timeout_s, *command):
        (reply,) = await self.run_all(timeout_s, [command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def run_all(self, timeout_s, commands):
        self.sent.append(list(commands))
        async with asyncio.timeout(timeout_s):
            await self.gate.wait()
            await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return [self.answer(*command) for command in commands]

    def answer(self, name, script, *words):
        if name == "EVAL":
            self.knows.add(hashlib.sha1(script.encode()).hexdigest())
        elif name == "EVALSHA" and script not in self.knows:
            return known.NoScriptError("none")
        return known.ResponseError(script) if script == "wrong" else (words or (script,))[-1]

    @property
    def counts(self) -> list[int]:
        return list(map(len, self.sent))


@pytest.fixture
async def lines():
    return Lines()


@pytest.fixture
async def runs(lines):
    return lines.runs


@pytest.fixture
async def store(lines):
    """A Redis whose connections are those lines."""
    made = RedisStore("redis://127.0.0.1:1", timeout_s=1.0)
    made._awaiting.get = lambda: lines
    yield made
    await made.aclose()


async def test_scripts_of_a_tick_are_sent_at_once(runs, lines):
    """All but the first, which waits for nobody, go together; an error reply is raised to the one whose it is."""
    words = ["a", "b", "wrong", "c"]
    found = await asyncio.gather(*(runs.run(1.0, "SET", word) for word in words), return_exceptions=True)
    assert (found[0], found[1], found[3]) == ("a", "b", "c")
    assert isinstance(found[2], known.ResponseError)
    assert lines.counts == [1, 3]
    assert await runs.run(1.0, "SET", "d") == "d"


async def test_a_batch_is_bounded(runs, lines):
    """By commands and by bytes; a large value keeps nobody and goes alone."""
    count = 2 * MOST_COMMANDS
    assert len(await asyncio.gather(*(runs.run(1.0, "SET", str(number)) for number in range(count + 1)))) == count + 1
    assert lines.counts == [1, MOST_COMMANDS, MOST_COMMANDS]
    lines.sent.clear()
    halves, large = [b"x" * (MOST_BYTES // 4 // 2)] * 12, b"x" * (ALONE_BYTES + 1)
    values = [b"first", large, *halves, large]
    assert await asyncio.gather(*(runs.run(1.0, "SET", "k", value) for value in values)) == values
    assert sorted(lines.counts) == [1, 1, 1, 4, 8]
    assert [large] * 2 == [batch[0][2] for batch in lines.sent if len(batch[0][2]) > ALONE_BYTES]


async def test_a_script_that_the_server_does_not_know_is_sent_in_full(store, lines):
    """It alone: those that went with it are known and answered."""
    lines.knows.add(hashlib.sha1(b"known").hexdigest())
    scripts = ["known", "known", "new", "known"]
    asked = [store._script("async", 1.0, script, ["k"], str(number)) for number, script in enumerate(scripts)]
    assert await asyncio.gather(*asked) == ["0", "1", "2", "3"]
    names = [[command[0] for command in batch] for batch in lines.sent]
    assert names == [["EVALSHA"], ["EVALSHA"] * 3, ["EVAL"]]


async def test_a_cancelled_caller_harms_nobody(runs, lines):
    """Before it is sent its command is not sent at all, afterwards its reply is nobody's."""
    lines.gate.clear()
    calls = [asyncio.ensure_future(runs.run(1.0, "SET", str(number))) for number in range(6)]
    asyncio.get_running_loop().call_soon(calls[3].cancel)
    for _ in range(20):
        await asyncio.sleep(0)
    calls[0].cancel()
    calls[4].cancel()
    lines.gate.set()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [found[number] for number in (1, 2, 5)] == ["1", "2", "5"]
    assert all(isinstance(found[number], asyncio.CancelledError) for number in (0, 3, 4))
    assert [word for batch in lines.sent for _, word in batch] == ["0", "1", "2", "4", "5"]


async def test_each_waits_no_longer_than_its_own_deadline(runs, lines):
    """A short one ends alone; the others have their replies."""
    lines.gate.clear()
    first, long = (asyncio.ensure_future(runs.run(60.0, "SET", word)) for word in ("first", "long"))
    with pytest.raises(TimeoutError):
        await runs.run(0.02, "SET", "short")
    lines.gate.set()
    assert await asyncio.gather(first, long) == ["first", "long"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [(known.ConnectionError("gone"), "connection"), (TimeoutError(), "timeout"), (LagError(), "lag")],
)
async def test_a_lost_connection_fails_those_that_were_on_it(store, lines, error, kind):
    """Each gets the failure by its kind, and what comes afterwards is sent anew."""
    lines.knows.add(hashlib.sha1(b"known").hexdigest())
    lines.error = error
    asked = [store._script("async", 1.0, "known", ["k"], number) for number in range(4)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [(type(each), each.kind) for each in found] == [(StoreFailedError, kind)] * 4
    lines.error = None
    assert await store._script("async", 1.0, "known", ["k"], "7") == "7"


async def test_what_the_event_loop_takes_is_not_charged_to_the_server(runs):
    """A tick in which many callers come, and one in which they go on, cost them nothing of what servers may take."""
    clock, store = SystemClock(), RedisStore("redis://127.0.0.1:1", timeout_s=60.0)
    level = Level("l2", store, Host("s", "testing", clock, SeededEntropy()), timeout_s=60.0, everything="")

    async def ask(word, *, mode, timeout_s):
        return await runs.run(timeout_s, "SET", word)

    async def call(number: int) -> float:
        budget = Allowance(clock, 60.0)
        assert await level.ask(ask, str(number), budget=budget, mode="async") == str(number)
        clock.pause(0.02)  # before the others have gone on
        return 60.0 - budget.left_s()

    spent_s = await asyncio.gather(*map(call, range(25)))
    assert sum(spent_s) < 3.0, "they have waited for six seconds, each of them for those before it"
    level.close()


async def test_what_is_excused_is_of_the_present_question(runs):
    """Nothing is left over for the next one, and a lone one is excused nothing."""
    await asyncio.gather(*(runs.run(1.0, "SET", "k") for _ in range(3)))
    EXCUSED.set(0.0)
    for _ in range(3):
        await runs.run(1.0, "SET", "k")
    assert EXCUSED.get() == 0.0


async def test_no_number_is_left_to_the_client_to_write_out(store, monkeypatch):
    """hiredis ends the process where the handler of a signal raises in the middle of that: scripts carry texts."""
    sent = []

    async def run(_mode, _timeout_s, *words):
        sent.extend(words)
        return [1]

    monkeypatch.setattr(store, "_run", run)
    await store.open(["a"], 60.5, mode="sync", timeout_s=1)
    await store.drop(["a"], ["k"], mode="sync", timeout_s=1)
    assert {type(word) for word in sent} <= {str, bytes}
    assert "86400000" in sent
