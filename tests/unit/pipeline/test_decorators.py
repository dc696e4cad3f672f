"""Decorating registers a function under a name and changes nothing else; wrong things are refused at once."""

from __future__ import annotations

import asyncio
import functools

import pytest

import smw
from smw import pipeline
from smw.errors import ConfigError, DecorationError, StackingError
from smw.pipeline.registry import SHARED


@pytest.fixture
def own():
    """A pipeline whose names are its own."""
    return pipeline.Pipeline()


def test_the_function_stays_itself(own):
    """Calling a decorated function runs it, sync or async, with any arguments it takes."""

    @own.stream_process("a")
    def plain(event, extra=1):
        """Doc."""
        return event, extra

    @own.stream_process("b")
    async def awaited(event):
        return event

    assert plain({"x": 1}, extra=2) == ({"x": 1}, 2)
    assert asyncio.run(awaited("e")) == "e"
    assert (plain.__name__, plain.__doc__) == ("plain", "Doc.")


def test_module_level_decorators_need_no_runtime():
    """`smw.stream_process` registers in the shared registry, which every pipeline serves."""

    @smw.stream_process("unit.shared")
    async def handle(event):
        return event

    assert SHARED.get("unit.shared").fn is handle
    assert asyncio.run(pipeline.Pipeline().run_over("unit.shared", [1])).done == 1


def test_the_current_runtime_serves_them():
    """The functions of the package use the pipeline of the current runtime."""

    @pipeline.stream_process("unit.current")
    async def handle(event):
        seen.append(event)

    async def main():
        await pipeline.emit("unit.current", {"n": 1})
        await asyncio.to_thread(pipeline.emit_sync, "unit.current", {"n": 2})
        await pipeline.serve("unit.current", until_empty=True)
        return await pipeline.run_over("unit.current", [3]), await pipeline.dead_letters("unit.current")

    seen = []
    with smw.Runtime("testing", environ={}) as runtime:
        summary, dead = asyncio.run(main())
        pipeline.stop()
    assert seen == [{"n": 1}, {"n": 2}, 3]
    assert (summary.done, dead) == (1, [])
    assert runtime.is_open is False


def test_two_functions_with_one_name(own):
    """The second one is refused, and the error names both places."""

    @own.stream_process("a")
    def first(event): ...

    with pytest.raises(DecorationError, match=r"first .*test_decorators\.py:\d+\).*second .*test_decorators") as caught:

        @own.stream_process("a")
        def second(event): ...

    assert caught.value.code == "SMW-P101"


def test_a_reloaded_function_takes_its_own_place(own):
    """The same qualified name again is a module reload: the newer one serves."""

    def make():
        @own.stream_process("a")
        def handler(event): ...

        return handler

    make()
    newer = make()
    assert own._find("a").fn is newer


def test_a_stream_and_a_batch_job_share_the_names(own):
    """One name means one thing."""

    def make(decorate):
        @decorate("a")
        def handler(rows): ...

    make(own.stream_process)
    with pytest.raises(DecorationError, match="already belongs to"):
        make(own.batch_transform)


def generator(event):
    yield event


async def async_generator(event):
    yield event


class Owner:
    def method(self, event):
        return event

    @classmethod
    def of_class(cls, event):
        return event


def nothing(): ...


def keyword_only(*, event): ...


def two(event, other): ...


@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (generator, "runs only when it is iterated"),
        (async_generator, "runs only when it is iterated"),
        (Owner.method, "whose instance no stream knows"),
        (Owner.__dict__["of_class"], "class method"),
        (nothing, "whose first parameter takes the record"),
        (keyword_only, "whose first parameter takes the record"),
        (two, "also requires other"),
        (Owner, "was put on the class"),
    ],
)
def test_functions_that_cannot_take_a_record(own, fn, said):
    """They are refused when decorating, with what to write instead."""
    for decorate in (own.stream_process("a"), own.batch_transform("b")):
        with pytest.raises(DecorationError, match=said) as caught:
            decorate(fn)
        assert caught.value.fix


def test_a_batch_job_has_no_record_context(own):
    """Rows of a file have no context: asking for one is refused when decorating."""
    with pytest.raises(DecorationError, match="also requires ctx"):

        @own.batch_transform("b")
        def job(rows, ctx): ...


def test_bound_methods_partials_and_callable_objects(own):
    """Whatever can be called with a record can be registered."""

    class Counter:
        total = 0

        def add(self, event):
            self.total += event

        async def __call__(self, event):
            self.total += event

    counter = Counter()
    own.stream_process("method")(counter.add)
    own.stream_process("partial")(functools.partial(lambda by, event: counter.add(by * event), 10))
    own.stream_process("object")(counter)

    async def main():
        for name in ("method", "partial", "object"):
            await own.run_over(name, [1, 2])

    asyncio.run(main())
    assert counter.total == 3 + 30 + 3


def test_static_methods(own):
    """A static method is a plain function."""

    class Home:
        @own.stream_process("static")
        @staticmethod
        def handle(event):
            return event * 2

    assert Home.handle(2) == 4
    assert asyncio.run(own.run_over("static", [5], results=True)).results == [10]


@pytest.mark.parametrize("name", ["", " a", "a b", "a/b", "x" * 201, "é", 5, None])
def test_names_that_no_stream_can_have(own, name):
    """A name must be usable as a key, a topic and a label."""
    with pytest.raises(ConfigError, match="letters, digits"):
        own.stream_process(name)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"times": -1}, "times"),
        ({"times": 1.5}, "times"),
        ({"times": True}, "times"),
        ({"first": -0.1}, "first"),
        ({"first": float("nan")}, "first"),
        ({"first": "1"}, "first"),
        ({"factor": 0.5}, "factor"),
        ({"cap": float("inf")}, "cap"),
        ({"first": 10, "cap": 5}, "cap"),
    ],
)
def test_wrong_retry_values(options, said):
    """They are refused where they are written."""
    with pytest.raises(ConfigError, match=said):
        pipeline.Retry(**options)


def test_wrong_options(own):
    """So are other options of a wrong kind."""
    with pytest.raises(ConfigError, match="retry="):
        own.stream_process("a", retry=5)
    with pytest.raises(ConfigError, match="dead_letter="):
        own.stream_process("a", dead_letter="yes")
    for size in (0, -1, 1.5, True):
        with pytest.raises(ConfigError, match="batch_size="):
            own.batch_transform("b", batch_size=size)


def test_explain_shows_what_was_asked_for(own):
    """The effective stack names stream, retries and dead letters."""

    @own.stream_process("a", retry=pipeline.Retry(times=2))
    def handler(event): ...

    assert "@stream_process('a'): 2 retries, dead letters to a.dlq" in str(smw.explain(handler))


def test_entry_points_stand_on_top(own):
    """Another decorator above would be passed by the records: refused, with the right order."""
    with pytest.raises(StackingError, match="from top to bottom: @stream_process, then @trace"):

        @smw.trace("x")
        @own.stream_process("a")
        def handler(event): ...


def test_what_stands_below_runs_for_each_record(own):
    """The registered function is the finished one, with every decorator below."""
    from smw._kernel.chain import Advice, Bound, advise

    class Count(Advice):
        name = "count"
        calls = 0

        def bind(self, target):
            async def around(call, proceed):
                Count.calls += 1
                return await proceed()

            return Bound(around)

    @own.stream_process("a")
    @advise(Count())
    async def handler(event): ...

    asyncio.run(own.run_over("a", range(3)))
    assert Count.calls == 3


def test_unknown_settings_are_named():
    """A wrong setting is one error with the nearest name."""
    with pytest.raises(ConfigError, match="Did you mean 'batch_size'"):
        pipeline.Pipeline(batchsize=1)


@pytest.mark.parametrize(
    ("decorate", "fix"), [("stream_process", "user_events"), ("batch_transform", "playlist_analytics")]
)
def test_forgotten_parentheses_show_the_decorator_that_was_meant(decorate, fix):
    """A decorator without its name is refused, and the fix is a line with the same decorator."""
    with pytest.raises(ConfigError, match=rf'@pipeline\.{decorate}\("{fix}"\)'):
        getattr(smw, decorate)(lambda event: None)
