"""Spans around decorated calls and blocks: right parent, right end, nothing leaks, nothing paid when nobody looks."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys

import pytest
from opentelemetry import trace as api
from opentelemetry.trace import SpanKind, StatusCode

import smw
from smw._kernel.chain import stack_of
from smw.errors import ConfigError, DecorationError
from smw.monitor import Monitor, span, trace


def by_name(exporter):
    return {finished.name: finished for finished in exporter.get_finished_spans()}


def current():
    return api.get_current_span().get_span_context().span_id


def test_a_call_is_one_span(runtime, exporter):
    """A decorated call makes one span with its name, kind and attributes, and returns what it returned."""

    @trace("fetch", kind="client", attributes={"peer": "spotify", "tries": 2, "odd": object})
    def fetch(x):
        return x + 1

    assert fetch(1) == 2
    (finished,) = exporter.get_finished_spans()
    assert (finished.name, finished.kind) == ("fetch", SpanKind.CLIENT)
    assert finished.status.status_code is StatusCode.UNSET
    assert finished.attributes["peer"] == "spotify"
    assert finished.attributes["tries"] == 2
    assert finished.attributes["odd"] == "<class 'object'>"
    assert finished.attributes["code.function.name"].endswith("test_a_call_is_one_span.<locals>.fetch")


def test_the_name_defaults_to_the_function(runtime, exporter):
    """Without a name the span is called after module and qualified name."""

    @trace()
    def fetch():
        pass

    fetch()
    (finished,) = exporter.get_finished_spans()
    assert finished.name == f"{__name__}.test_the_name_defaults_to_the_function.<locals>.fetch"


def test_attributes_from_the_arguments(runtime, exporter, caplog):
    """Attributes may be a function of the arguments by name; one that fails costs the attributes, not the call."""

    @trace("good", attributes=lambda arguments: {"user": arguments["user"], "none": None, "many": [1, 2]})
    def good(user="anna"):
        return user

    @trace("bad", attributes=lambda arguments: {"user": arguments["nobody"]})
    def bad():
        return 1

    good()
    with caplog.at_level(logging.ERROR):
        assert bad() == 1
    assert by_name(exporter)["good"].attributes["user"] == "anna"
    assert by_name(exporter)["good"].attributes["many"] == (1, 2)
    assert "none" not in by_name(exporter)["good"].attributes
    assert "attributes failed" in caplog.text


def test_an_exception_is_recorded_and_passes_unchanged(runtime, exporter):
    """The span has status error and the exception as event, and the caller gets the very exception."""
    problem = KeyError("gone")

    @trace("fetch")
    def fetch():
        raise problem

    with pytest.raises(KeyError) as caught:
        fetch()
    assert caught.value is problem
    (finished,) = exporter.get_finished_spans()
    assert finished.status.status_code is StatusCode.ERROR
    assert finished.events[0].attributes["exception.type"] == "KeyError"
    assert current() == 0


def test_an_exception_whose_text_fails_still_passes(runtime, exporter, caplog):
    """Telemetry that fails never replaces the user's own exception."""

    class Odd(Exception):
        def __str__(self):
            raise RuntimeError

    @trace("fetch")
    def fetch():
        raise Odd

    with pytest.raises(Odd), caplog.at_level(logging.CRITICAL):
        fetch()
    assert len(exporter.get_finished_spans()) == 1


def test_a_sampler_that_fails_does_not_fail_the_call(runtime, exporter, caplog, monkeypatch):
    """An SDK that raises on starting a span costs the span."""
    monkeypatch.setattr("opentelemetry.sdk.trace.Tracer.start_span", lambda *a, **k: 1 / 0)

    @trace("fetch")
    def fetch():
        return 5

    with caplog.at_level(logging.ERROR):
        assert fetch() == 5
    assert "could not be started" in caplog.text


def test_calls_nest(runtime, exporter):
    """A traced call inside another is its child, over sync and generators alike."""

    @trace("inner")
    def inner():
        pass

    @trace("steps")
    def steps():
        inner()
        yield

    @trace("outer")
    def outer():
        list(steps())

    outer()
    seen = by_name(exporter)
    assert seen["outer"].parent is None
    assert seen["steps"].parent.span_id == seen["outer"].context.span_id
    assert seen["inner"].parent.span_id == seen["steps"].context.span_id


async def test_coroutines_keep_their_own_spans(runtime, exporter):
    """Concurrent traced coroutines never see each other's span as parent."""

    @trace("inner")
    async def inner():
        await asyncio.sleep(0)

    @trace("outer")
    async def outer():
        await asyncio.sleep(0)
        await inner()

    await asyncio.gather(*(outer() for _ in range(10)))
    spans = exporter.get_finished_spans()
    outers = {finished.context.span_id for finished in spans if finished.name == "outer"}
    parents = [finished.parent.span_id for finished in spans if finished.name == "inner"]
    assert len(outers) == 10
    assert set(parents) == outers
    assert current() == 0


async def test_a_cancelled_call_ends_its_span(runtime, exporter):
    """Cancellation ends the span with an event, is no error, and passes."""

    @trace("slow")
    async def slow():
        await asyncio.sleep(60)

    task = asyncio.ensure_future(slow())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (finished,) = exporter.get_finished_spans()
    assert finished.status.status_code is StatusCode.UNSET
    assert [event.name for event in finished.events] == ["cancelled"]


def test_a_generator_is_current_only_while_its_own_code_runs(runtime, exporter, caplog):
    """Between the steps the consumer has its own context back, and the span ends when the generator does."""
    inside = []

    @trace("steps")
    def steps():
        inside.append(current())
        yield 1
        inside.append(current())

    with caplog.at_level(logging.ERROR):
        running = steps()
        next(running)
        assert current() == 0
        assert exporter.get_finished_spans() == ()
        assert list(running) == []
    (finished,) = exporter.get_finished_spans()
    assert inside == [finished.context.span_id] * 2
    assert "detach" not in caplog.text


def test_a_generator_closed_early_ends_its_span_without_error(runtime, exporter):
    """Closing a generator is no error."""

    @trace("steps")
    def steps():
        yield 1
        yield 2

    running = steps()
    next(running)
    running.close()
    (finished,) = exporter.get_finished_spans()
    assert finished.status.status_code is StatusCode.UNSET


def test_interleaved_generators_do_not_mix(runtime, exporter, caplog):
    """Two traced generators consumed in turns keep their contexts, also when dropped in the wrong order."""
    inside = {"a": set(), "b": set()}

    @trace("steps")
    def steps(name):
        for _ in range(3):
            inside[name].add(current())
            yield

    with caplog.at_level(logging.ERROR):
        first, second = steps("a"), steps("b")
        next(first), next(second), next(first), next(second)
        first.close()
        next(second)
        second.close()
    assert len(inside["a"]) == len(inside["b"]) == 1
    assert inside["a"] != inside["b"]
    assert current() == 0
    assert caplog.records == []


def test_a_span_that_a_generator_keeps_open_over_a_yield_does_not_leak(runtime, exporter, caplog):
    """A block span around a yield stays inside the generator and is there again in its next step."""
    seen = []

    @trace("steps")
    def steps():
        with span("inner"):
            seen.append(current())
            yield 1
            seen.append(current())
        yield 2

    with caplog.at_level(logging.ERROR):
        running = steps()
        next(running)
        assert current() == 0
        list(running)
    inner = by_name(exporter)["inner"]
    assert seen == [inner.context.span_id] * 2
    assert inner.parent.span_id == by_name(exporter)["steps"].context.span_id
    assert caplog.records == []


async def test_an_async_generator_is_current_only_in_its_steps(runtime, exporter, caplog):
    """The same for async generators, also over a suspension inside a step."""
    inside = []

    @trace("steps")
    async def steps():
        await asyncio.sleep(0)
        inside.append(current())
        yield 1
        await asyncio.sleep(0)
        inside.append(current())
        yield 2

    with caplog.at_level(logging.ERROR):
        async for _ in steps():
            assert current() == 0
    (finished,) = exporter.get_finished_spans()
    assert inside == [finished.context.span_id] * 2
    assert caplog.records == []


async def test_an_async_generator_finished_elsewhere_says_nothing_about_detaching(runtime, exporter, caplog):
    """A generator begun in one task and closed in another ends its span in silence."""

    @trace("steps")
    async def steps():
        yield 1
        yield 2

    running = steps()

    async def begin():
        await running.__anext__()

    with caplog.at_level(logging.ERROR):
        await asyncio.create_task(begin())
        await asyncio.create_task(running.aclose())
    assert len(exporter.get_finished_spans()) == 1
    assert caplog.records == []


def test_a_coroutine_thrown_away_ends_its_span_and_leaves_the_context_alone(runtime, exporter, caplog):
    """A coroutine that is garbage collected mid-way ends its span without an error in the log."""

    @trace("slow")
    async def slow():
        await asyncio.sleep(60)

    async def main():
        task = asyncio.get_running_loop().create_task(slow())
        await asyncio.sleep(0.01)
        coroutine = task.get_coro()
        task.cancel = lambda *_a, **_k: False
        return coroutine

    loop = asyncio.new_event_loop()
    with caplog.at_level(logging.ERROR, "opentelemetry"):
        coroutine = loop.run_until_complete(main())
        coroutine.close()
        loop.close()
        gc.collect()
    assert current() == 0
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []


def test_without_provider_or_endpoint_nothing_stands_around_the_call(runtime, no_provider):
    """Where nobody would see spans the decorator is elided."""

    @trace("fetch")
    def fetch():
        return 1

    assert fetch() == 1
    assert stack_of(fetch).bound == (None,)
    assert "idle" in repr(smw.explain(fetch))


def test_a_provider_that_comes_later_is_seen_when_the_runtime_changes(runtime, no_provider, exporter, monkeypatch):
    """Whether there is somebody to send to is asked again under each runtime."""
    provider = api._TRACER_PROVIDER
    monkeypatch.setattr(api, "_TRACER_PROVIDER", None)

    @trace("fetch")
    def fetch():
        return 1

    fetch()
    monkeypatch.setattr(api, "_TRACER_PROVIDER", provider)
    with smw.testing.isolated():
        fetch()
    assert len(exporter.get_finished_spans()) == 1


def test_an_idle_trace_does_not_import_opentelemetry():
    """Nothing of OpenTelemetry is loaded as long as nobody has configured it."""
    code = (
        "import sys\nfrom smw import trace, track_business_metric\n"
        "@trace('a')\n@track_business_metric('b')\ndef f(): return 1\n"
        "assert f() == 1\n"
        "print([n for n in ('opentelemetry', 'prometheus_client', 'psutil') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_method_of_an_explicit_monitor(exporter):
    """`Monitor(...).trace` works without any runtime."""
    own = Monitor()

    class Shop:
        @own.trace("sell")
        def sell(self):
            return 1

        @staticmethod
        @own.trace("make")
        def make():
            return 2

    assert (Shop().sell(), Shop.make()) == (1, 2)
    assert set(by_name(exporter)) == {"sell", "make"}


def test_wrong_arguments_are_refused_when_decorating():
    """A forgotten pair of parentheses, an unknown kind and attributes of a wrong type fail at import with a remedy."""
    with pytest.raises(DecorationError, match="parentheses"):
        trace(lambda: None)
    with pytest.raises(DecorationError, match="Did you mean 'client'"):
        trace("x", kind="cliant")
    with pytest.raises(DecorationError, match="mapping"):
        trace("x", attributes=5)


def test_a_block_span(runtime, exporter):
    """`span` records a block, hands out the span, and records an exception."""
    with span("parse", attributes={"a": 1}) as opened:
        opened.set_attribute("rows", 3)
    with pytest.raises(ValueError), span("fails"):
        raise ValueError
    seen = by_name(exporter)
    assert dict(seen["parse"].attributes) == {"a": 1, "rows": 3}
    assert seen["fails"].status.status_code is StatusCode.ERROR
    assert current() == 0


async def test_a_block_span_in_async_code(runtime, exporter):
    """`async with span(...)` is the same."""
    async with span("parse", kind="consumer"):
        await asyncio.sleep(0)
    assert by_name(exporter)["parse"].kind is SpanKind.CONSUMER


def test_a_block_span_that_nobody_would_see(runtime, no_provider):
    """Without a provider the block gets a span that takes everything and records nothing."""
    with span("parse") as opened:
        opened.set_attribute("rows", 3)
        assert not opened.is_recording()


def test_an_unknown_kind_of_block_span_names_the_nearest(runtime):
    """A wrong kind is one error that says what would do."""
    with pytest.raises(ConfigError, match="Did you mean 'server'"):
        span("x", kind="sever")
