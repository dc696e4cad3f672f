"""The token of a drop: who reads with it sees what the drop has made, in any process, and nobody can harm with one."""

from __future__ import annotations

import base64
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smw._kernel.call import Call
from smw._kernel.chain import stack_of
from smw._kernel.host import Host
from smw.cache import Cache, Found, Token, get_many_sync
from smw.cache.coherence.bookmark import READING, Reading, _mark, _parsed, reading, token_of
from smw.cache.levels.level import run_blocking
from smw.cache.levels.remote import Ahead
from smw.cache.naming.names import fence_of


class Process:
    """A process with a cached function over a source that all share."""

    def __init__(self, cache, source, shape) -> None:
        self.cache = cache
        options = {} if shape == "compiled" else {"key": lambda number: number}

        @cache.cached(60, tags=["user:{number}"], version="1", **options)
        def user(number: int) -> int:
            return source[number]

        @cache.cached(60, tags=["user:{number}"], version="2", **options)
        async def later(number: int) -> int:
            return source[number]

        self.user, self.later = user, later


@pytest.fixture(params=["compiled", "chain"])
def site(request, bench):
    """Two processes that share a server, and their source."""
    source = {1: "old", 2: "old"}
    return source, *[Process(bench.cache("l2"), source, request.param) for _ in range(2)]


async def test_who_reads_with_it_sees_what_was_written(bench, site):
    """Within the second in which another process may lag behind, the reader with the token is ahead."""
    source, one, two = site
    assert (two.user(1), await two.later(1)) == ("old", "old")
    source[1] = "new"
    token = await one.cache.drop(tags=["user:1"])
    assert (two.user(1), await two.later(1)) == ("old", "old")
    with two.cache.reading_after(str(token)):
        bench.clock.advance(0.1)
        assert (two.user(1), await two.later(1)) == ("new", "new")
        del bench.stores["l2"].asked[:]
        assert (two.user(1), await two.later(1)) == ("new", "new")
        assert get_many_sync(two.user, [1]) == ["new"]
    assert two.user(1) == "new"
    assert bench.stores["l2"].asked == []


def test_what_it_does_not_concern_is_answered_from_memory(bench, site):
    """Entries of other tags and keys are handed out without a question; those that stand are not loaded again."""
    source, one, two = site
    two.user(1), two.user(2)
    bench.clock.advance(0.1)
    token = one.cache.drop_sync(tags=["user:3", "user:1"], keys=[])
    source[2] = "changed and not dropped"
    del bench.stores["l2"].asked[:]
    with two.cache.reading_after(token):
        assert two.user(2) == "old"
    assert bench.stores["l2"].asked == []


def test_a_drop_of_very_much_concerns_everything(bench, site):
    """Beyond what a token can name it asks for everything; then what stands is confirmed and not loaded."""
    source, one, two = site
    two.user(1)
    bench.clock.advance(0.1)
    token = one.cache.drop_sync(tags=[f"other:{number}" for number in range(100)])
    assert len(token) < 400
    source[1] = "changed and not dropped"
    del bench.stores["l2"].asked[:]
    with two.cache.reading_after(token):
        assert two.user(1) == "old"
    assert bench.stores["l2"].asked == ["read"]


def test_it_matters_for_a_while(bench, site):
    """After ten seconds nobody is behind any more, and it is without effect; so is one of the future."""
    _, one, two = site
    token = one.cache.drop_sync(tags=["user:1"])
    bench.clock.advance(10.5)
    two.user(1)
    bench.clock.advance(0.1)
    future = Token.of(["x"], bench.clock.wall() + 60)
    del bench.stores["l2"].asked[:]
    for text in (token, future, None):
        with two.cache.reading_after(text):
            two.user(1)
    assert bench.stores["l2"].asked == []


def test_a_server_that_does_not_answer_leaves_what_there_is(bench, site):
    """Where nobody can confirm, memory stands in, as it does for everybody."""
    _, one, two = site
    two.user(1)
    bench.clock.advance(0.1)
    token = one.cache.drop_sync(tags=["user:2"], keys=[])
    from smw.cache.ports import StoreFailedError

    bench.stores["l2"].failing = StoreFailedError("timeout")
    with two.cache.reading_after(Token.of([], bench.clock.wall())):
        assert two.user(1) == "old"
    assert isinstance(token, str)


def test_with_memory_alone_it_is_without_effect(cache):
    """There is nobody to ask, and this process has dropped it anyway."""
    runs = []

    @cache.cached(60, tags=["user"])
    def user() -> int:
        runs.append(1)
        return 1

    user()
    with cache.reading_after(cache.drop_sync(tags=["user"])):
        user(), user()
    assert len(runs) == 2


_cache = Cache(host=Host("shop", "testing"))


@given(
    st.one_of(
        st.text(max_size=600), st.binary(max_size=600).map(lambda raw: "smw1." + base64.urlsafe_b64encode(raw).decode())
    )
)
def test_whatever_comes_as_a_token_does_no_harm(text):
    """Any text is taken without an error."""
    with _cache.reading_after(text):
        pass


@pytest.mark.parametrize("is_dropped", [False, True])
def test_a_value_that_another_process_sent_is_judged_by_the_counters_of_its_key(is_dropped):
    """It may have been sent before the drop after which the counters were shown; without one it is taken."""
    here, there = (Cache(namespace="sent", l2_url="memory://sent") for _ in range(2))

    @here.cached(600)
    def load(number: int) -> str:
        return "old"

    load(1)
    stack, engine = stack_of(load), here.engine
    function, server = stack.advices[0].function(stack.target), engine.remote.servers[0]
    place, policy = function.place(Call(stack.target, (1,), {})), function.policy
    blob = server.store.data[place.text][0]
    if is_dropped:
        there.drop_sync(keys=[place.text])
    engine.memory.clear()
    shown = run_blocking(server.store.open((fence_of(place.text), *place.tags), 60, mode="sync", timeout_s=1))
    ahead = Ahead(Found(blob, shown), engine.host.clock.now(), engine.fence.epoch, engine.budget(), is_sent=True)
    look = run_blocking(engine.look(place, policy, "sync", ahead=ahead))
    assert (look.found is None) is is_dropped
    assert bool(engine.memory.held(place.text)) is not is_dropped
    here.close()
    there.close()


@pytest.mark.parametrize("count", [1, 2, 32, 33])
def test_a_token_names_up_to_32_scopes(count):
    """Each by a mark of its own; of more than those it names none, which stands for everything."""
    scopes = [f"s{number}" for number in range(count)]
    named = frozenset(map(_mark, scopes)) if count <= 32 else None
    token = Token.of([*scopes, *scopes], 1_000.0)
    assert _parsed(token, 1_000.0) == (named,)
    assert len(token) < 400


def test_a_token_matters_for_ten_seconds_on_either_side_of_its_moment():
    """Where either of the two moments is not known it matters at any time."""
    dated, undated = Token.of(["s"], 1_000.0), Token.of(["s"], 0)
    assert [_parsed(dated, at) is None for at in (989.9, 990.0, 1_010.0, 1_010.1)] == [True, False, False, True]
    assert _parsed(dated, None) == _parsed(undated, 1e9) == _parsed(undated, None) == (frozenset({_mark("s")}),)
    assert Token.of(["s"], -5.0) == undated


LONG = base64.urlsafe_b64encode(bytes(8 * 50)).decode()


@pytest.mark.parametrize(
    "text",
    [
        7, "", "smw1.", "smw2." + Token.of(["s"], 0)[5:], Token.of(["s"], 0)[5:], "smw1." + LONG,
        Token.of(["s"], 0)[:-2], Token.of(["s"], 0)[:9] + "!!!!" + Token.of(["s"], 0)[9:], Token.of(["s"], 0) + "\xe4",
        "smw1." + base64.urlsafe_b64encode(bytes(12)).decode(),
    ],
)  # fmt: skip
def test_what_is_no_token_is_none(text):
    """Another version, what is longer than any, what is cut off, and what has a letter that no token has."""
    assert _parsed(text, None) is None


def test_what_was_asked_for_since_or_belongs_to_another_cache_is_believed(bench):
    """So is an entry of other scopes; one that a thread is just dropping has none, and nobody can tell."""
    here, there = (bench.cache("l2").engine for _ in range(2))
    reading = Reading(here, frozenset({_mark("a"), _mark("b")}))
    now = bench.clock.now()

    def bars(*scopes, asked=now, engine=here) -> bool:
        return reading.bars(engine, SimpleNamespace(asked=asked, scopes=scopes))

    assert (bars("other", "b"), bars("a"), bars("other"), bars()) == (True, True, False, True)
    assert (bars("a", asked=now + 0.1), bars("a", engine=there)) == (False, False)
    everything = Reading(here, None)
    assert everything.bars(here, SimpleNamespace(asked=now, scopes=("other",)))


@pytest.mark.parametrize(("owes", "is_told"), [(False, True), (True, False)])
def test_a_drop_is_dated_by_a_server_that_has_taken_it(bench, monkeypatch, owes, is_told):
    """One that owes is not asked, and what nobody has dated matters at any time."""
    engine = bench.cache("l2").engine
    (server,), asked = engine.remote.servers, []
    monkeypatch.setattr(engine.remote.time, "is_told", True)
    monkeypatch.setattr(engine.remote.time, "is_known", False)

    async def know_time(now, **_how) -> None:
        asked.append(now)
        engine.remote.time.learned(5_000.0, asked=now, told=now)

    monkeypatch.setattr(server, "know_time", know_time)
    if owes:
        server.debt.add(["t"], [])
    token = run_blocking(token_of(engine, ["s"], "sync"))
    assert token == Token.of(["s"], 5_000.0 if is_told else 0.0)
    assert asked == ([bench.clock.now()] if is_told else [])
    with reading(engine, Token.of(["s"], 77.0)):
        assert (READING.get() is None) is is_told
    server.debt.settle(server.debt.batch())


def test_the_block_ends_with_an_error_as_without(bench, site):
    """What is read after it is no older than it ever was."""
    _, one, two = site
    token = one.cache.drop_sync(tags=["user:1"])

    def read() -> None:
        with two.cache.reading_after(token):
            assert READING.get() is not None
            raise KeyError

    with pytest.raises(KeyError):
        read()
    assert READING.get() is None
