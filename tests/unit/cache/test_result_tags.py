"""Tags that only a result can tell: dropped with them wherever it lies, and never kept where a drop may be missed."""

from __future__ import annotations

import enum
import threading

import pytest

from smw import explain
from smw._kernel.signals import CacheUncached
from smw.cache import get_many_sync, info, key_for
from smw.cache.ports import Pulse, StoreFailedError
from smw.errors import DecorationError
from tests.contract.local_store import LocalStore


class Telling(LocalStore):
    """A server that numbers what is dropped, as Redis does; nobody can listen to it."""

    def __init__(self, clock) -> None:
        super().__init__(clock)
        self.number, self.pulses, self.is_master = 100, 0, True

    def speak(self, _wire) -> None:
        return

    def listen(self):
        raise StoreFailedError("refused", permanent=True, counts=False)

    async def pulse(self, *, mode, timeout_s):
        self._enter("pulse")
        self.pulses += 1
        return Pulse(self.number, "reign", self.is_master)

    async def drop(self, *args, **how):
        await super().drop(*args, **how)
        self.number += 1


class Shop:
    """A process whose results tell who owns them; `during` is done in the middle of each load."""

    def __init__(self, cache, owners, **options) -> None:
        self.cache, self.owners, self.runs, self.during = cache, owners, 0, lambda: None

        @cache.cached(60, tags=["item:{number}", self.tags_of], key=lambda number: number, **options)
        def item(number: int) -> dict:
            self.runs += 1
            found = {"number": number, "owner": owners[number], "run": self.runs}
            self.during()
            return found

        self.item = item

    @staticmethod
    def tags_of(result) -> str:
        return f"owner:{result['owner']}"

    def uncached(self) -> list[str]:
        return [signal.reason for signal in self.cache.recorded.of(CacheUncached)]


@pytest.fixture
def told(bench):
    """Make processes that share a server which numbers what they drop."""
    bench.stores["l2"] = Telling(bench.clock)
    return lambda owners, **options: Shop(bench.cache("l2"), owners, **options)


OWNERS = {1: "ada", 2: "ada", 3: "eve"}


def test_a_drop_of_the_owner_drops_what_told_it(bench):
    """In memory, all results that told the tag go, and no others."""
    shop = Shop(bench.cache(), OWNERS)
    for number in (1, 2, 3, 1, 2, 3):
        shop.item(number)
    assert shop.runs == 3
    shop.cache.drop_sync(tags=["owner:ada"])
    assert info(shop.item).entries == 1
    for number in (1, 2, 3):
        shop.item(number)
    assert shop.runs == 5


def test_another_process_finds_it_and_drops_it(told):
    """What was stored with a tag of the result is read elsewhere, and gone everywhere once the tag is dropped."""
    here, there = told(OWNERS), told(OWNERS)
    assert here.item(1) == there.item(1)
    assert (here.runs, there.runs) == (1, 0)
    there.cache.drop_sync(tags=["owner:ada"])
    third = told(OWNERS)
    third.item(1)
    assert third.runs == 1


def test_why_names_the_tag(told):
    """`why` says by which tag of its result a value was dropped, in memory beyond its trust and on the server."""
    here, there = told(OWNERS), told(OWNERS)
    here.item(1)
    there.cache.drop_sync(tags=["owner:ada"])
    here.cache.host.clock.advance(1.1)
    story = here.cache.why_sync(key_for(here.item, 1))
    assert [row.says for row in story.levels] == ["was made from something that was dropped since: tag owner:ada"] * 2


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_drop_during_the_load_keeps_the_result_out(told, where):
    """The tag was not known yet when it was dropped, and its counter did not exist: the old result is kept nowhere."""
    here, there = told(OWNERS), told(OWNERS)
    dropping = {"here": here, "elsewhere": there}[where]
    here.during = lambda: dropping.cache.drop_sync(tags=["owner:ada"])
    here.item(1)
    here.during = lambda: None
    there.item(1)
    assert there.runs == 1
    here.cache._engine.memory.clear()
    assert here.item(1)["run"] == 1  # that of the other process
    assert here.runs == 1


def test_nothing_is_stored_where_a_drop_may_have_been_missed(told, bench):
    """A server that does not say, or is no master, leaves the result in memory for as long as memory is trusted."""
    shop = told(OWNERS)
    shop.during = lambda: setattr(bench.stores["l2"], "is_master", False)
    shop.item(1)
    shop.item(1)
    assert (shop.runs, shop.uncached()) == (1, ["unheard-tags"])
    bench.clock.advance(1.1)
    shop.item(1)
    assert shop.runs == 2


def test_a_server_without_messages_keeps_nothing_for_long(bench):
    """Over a server that tells of no drops, results with such tags live in memory for the time of its trust."""
    shop = Shop(bench.cache("l2"), OWNERS)
    shop.item(1)
    shop.item(1)
    assert (shop.runs, shop.uncached()) == (1, ["unheard-tags"])
    assert not bench.stores["l2"].data
    bench.clock.advance(1.1)
    shop.item(1)
    assert shop.runs == 2


def test_what_is_heard_needs_one_question(told, bench):
    """While messages are heard the number is asked for once, after the load; what is heard meanwhile counts."""
    shop = told(OWNERS)
    plane = shop.cache._engine.backplane
    now = bench.clock.now()
    plane.pulsed(Pulse(100, "reign", is_master=True), asked=now, told=now)
    shop.item(1)
    assert bench.stores["l2"].pulses == 1
    assert bench.stores["l2"].data

    def dropped_elsewhere() -> None:
        bench.stores["l2"].number = 101
        plane.heard(101, [shop.cache._names.tag("owner:eve")], now=bench.clock.now())

    shop.during = dropped_elsewhere
    shop.item(3)
    assert key_for(shop.item, 3) not in bench.stores["l2"].data
    shop.during = lambda: None
    shop.item(3)
    assert shop.runs == 3
    bench.stores["l2"].number = 102  # told, and not come yet
    shop.item(2)
    assert key_for(shop.item, 2) not in bench.stores["l2"].data


def test_nobody_waits_for_a_load_that_began_before_a_drop(bench):
    """Who asks after the drop does not get what a load brings that began before, whatever it may turn out to tell."""
    shop, is_read, goes_on, found = Shop(bench.cache(), {1: "ada"}), threading.Event(), threading.Event(), []

    def wait() -> None:
        if shop.runs == 1:
            is_read.set()
            assert goes_on.wait(20)

    shop.during = wait
    first = threading.Thread(target=shop.item, args=[1])
    first.start()
    assert is_read.wait(20)
    shop.cache.drop_sync(tags=["owner:ada"])
    second = threading.Thread(target=lambda: found.append(shop.item(1)["run"]))
    second.start()
    second.join(0.3)
    goes_on.set()
    first.join(20)
    second.join(20)
    assert found == [2]


def test_several_and_none(bench):
    """A function may return several tags, or None."""
    cache, runs = bench.cache(), []

    @cache.cached(60, tags=[lambda result: result and [f"item:{number}" for number in result]])
    def page(number: int) -> list[int] | None:
        runs.append(number)
        return [number, number + 1] if number else None

    page(1), page(0)
    cache.drop_sync(tags=["item:2"])
    page(1), page(0)
    assert runs == [1, 0, 1]


@pytest.mark.parametrize("wrong", [lambda _: 7, lambda _: [""], lambda result: result["nothing"], lambda _: [b"a"]])
def test_a_function_that_fails_costs_the_caching_alone(bench, wrong):
    """The result is returned and kept nowhere, for nothing could drop it; a warning says so once."""
    cache, runs = bench.cache("l2"), []

    @cache.cached(60, tags=[wrong], key=lambda number: number)
    def item(number: int) -> dict:
        runs.append(number)
        return {"number": number}

    assert item(1) == item(1) == {"number": 1}
    assert runs == [1, 1]
    assert not bench.stores["l2"].data
    assert {signal.reason for signal in cache.recorded.of(CacheUncached)} == {"failing-result-tag"}


async def test_awaited_and_made_from_others(told):
    """Coroutine functions have them too, and what is made from such a result is dropped with its tags."""
    shop, runs = told(OWNERS), []

    @shop.cache.cached(60, depends="auto", key=lambda number: number)
    async def page(number: int) -> dict:
        runs.append(number)
        return {"item": await owned(number)}

    @shop.cache.cached(60, tags=[shop.tags_of], key=lambda number: number)
    async def owned(number: int) -> dict:
        return {"owner": OWNERS[number]}

    await page(1), await page(1)
    await shop.cache.drop(tags=["owner:ada"])
    await page(1)
    assert runs == [1, 1]


def test_many_calls_of_it_and_its_line(bench):
    """`get_many` serves it call by call; `explain` shows the function among the tags."""
    shop = Shop(bench.cache(), OWNERS)
    assert [each["number"] for each in get_many_sync(shop.item, [1, 2])] == [1, 2]
    assert "tags=['item:{number}', Shop.tags_of]" in str(explain(shop.item))


def test_what_cannot_be_had_is_refused(bench):
    """With `many=`, with a writer that puts values in place, and where it has to be awaited, with the remedy named."""
    cache = bench.cache()

    async def late(result) -> str:
        return result

    with pytest.raises(DecorationError, match="SMW-C177"):
        cache.cached(60, tags=[str], many=lambda numbers: numbers)
    with pytest.raises(DecorationError, match="SMW-C108"):
        cache.cached(60, tags=[late])
    get = cache.cached(60, tags=[str])(lambda number: number)
    with pytest.raises(DecorationError, match="SMW-C177"):
        cache.writes(get)(lambda number: number)
    cache.writes(get, strategy="write_around")(lambda number: number)


@pytest.mark.parametrize("given", [lambda: "x", lambda user_id, result: "x", lambda result, *, more: "x"])
def test_a_function_that_takes_something_else_is_refused(bench, given):
    """Whoever wants the arguments too, or nothing, is told when decorating, not by results that are never kept."""
    with pytest.raises(DecorationError, match=r"SMW-C108.*called with the result and nothing else"):
        bench.cache().cached(60, tags=[given])


def test_a_function_whose_parameters_are_open_or_unknown_passes(bench):
    """Defaults, `*args` and what is written in C are called with the result like any other."""
    tags = [str, str.upper, lambda *results: results[0], lambda result, more="": result + more]
    runs = []
    get = bench.cache().cached(60, tags=tags)(lambda: runs.append(1) or "x")
    assert [get(), get(), runs] == ["x", "x", [1]]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (lambda result: result["secret"]["more"], "<lambda>: TypeError"),
        (lambda _result: 5, "<lambda> told int"),
        (lambda _result: ["a", b"secret"], "<lambda> told bytes"),
        (lambda _result: "", "<lambda> told an empty text"),
    ],
)
def test_what_a_function_told_instead_is_said(bench, caplog, told, said):
    """The one warning names the cached function, the one among its tags, and the type of its mistake, no value."""
    get = bench.cache().cached(60, tags=[told])(lambda: {"secret": "secret"})
    get(), get()
    (message,) = [message for message in caplog.messages if "failing-result-tag" in message]
    assert said in message
    assert "secret" not in message


class Owner(enum.StrEnum):
    """A text that is of a class of its own."""

    ADA = "ada"


class Shown(str):
    """A text that shows itself in other words, as marked-up ones do."""

    __slots__ = ()

    def __str__(self) -> str:
        return "shown"


@pytest.mark.parametrize("text", [Owner.ADA, Shown("ada")], ids=repr)
def test_a_text_of_a_class_of_its_own_is_a_tag(bench, text):
    """Enums of texts and marked-up ones count as the text that they are."""
    cache, runs = bench.cache(), []
    get = cache.cached(60, tags=[lambda _result: text, lambda _result: [text]])(lambda: runs.append(1) or 1)
    get(), get()
    assert runs == [1]
    cache.drop_sync(tags=["ada"])
    get()
    assert runs == [1, 1]


@pytest.mark.parametrize(("tags", "reasons"), [(199, []), (200, ["many-result-tags"])])
def test_more_tags_than_servers_are_told_of(told, caplog, tags, reasons):
    """A result with more stays in memory, is dropped there by each, and the warning does not advise the tags it has."""
    shop, runs = told(OWNERS), []

    @shop.cache.cached(60, tags=[lambda result: [f"part:{number}" for number in result]], key=lambda: 1)
    def parts() -> list:
        runs.append(1)
        return list(range(tags))

    parts(), parts()
    assert (runs, shop.uncached()) == ([1], reasons)
    assert not any("tags= instead" in message for message in caplog.messages)
    shop.cache.drop_sync(tags=[f"part:{tags - 1}"])
    parts()
    assert runs == [1, 1]
