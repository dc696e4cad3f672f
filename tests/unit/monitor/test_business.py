"""Business metrics: counted once, when the call has ended, by what became of it."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading

import pytest

from smw.errors import DecorationError
from smw.monitor import Monitor, track_business_metric


def outcomes(seen, name="sold", **labels):
    found = {}
    for outcome in ("success", "error", "cancelled"):
        pairs = sorted({**labels, "outcome": outcome}.items())
        found[outcome] = seen.get((f"business_{name}_total", *(item for pair in pairs for item in pair)))
    return found


def test_a_sync_call_counts_by_outcome_and_is_otherwise_untouched(runtime, samples):
    """A result passes through and counts as success; an exception passes through unchanged and counts as error."""
    problem = ValueError("no")

    @track_business_metric("sold")
    def sell(ok):
        if not ok:
            raise problem
        return "receipt"

    assert sell(True) == "receipt"
    with pytest.raises(ValueError, match="no") as caught:
        sell(False)
    assert caught.value is problem
    assert outcomes(samples(runtime.monitor)) == {"success": 1, "error": 1, "cancelled": 0}


def test_known_outcomes_start_at_zero_before_the_first_call(runtime, samples):
    """A counter born at 1 has no increase: all three outcomes show 0 before anything was called."""

    @track_business_metric("sold", labels={"plan": "free"})
    def sell():
        pass

    assert outcomes(samples(runtime.monitor), plan="free") == {"success": 0, "error": 0, "cancelled": 0}
    del sell


def test_zero_series_belong_to_the_current_runtime_alone(runtime, samples):
    """An explicit monitor does not show the metrics that another one will count."""

    @track_business_metric("sold_there")
    def sell():
        pass

    assert outcomes(samples(runtime.monitor), "sold_there")["success"] == 0
    assert outcomes(samples(Monitor()), "sold_there") == {"success": None, "error": None, "cancelled": None}
    del sell


async def test_a_coroutine_counts_when_it_ends_not_when_it_is_made(runtime, samples):
    """Nothing is counted for a coroutine that has not ended."""

    @track_business_metric("sold")
    async def sell():
        await asyncio.sleep(0)
        return 1

    coroutine = sell()
    assert outcomes(samples(runtime.monitor))["success"] == 0
    assert await coroutine == 1
    assert outcomes(samples(runtime.monitor)) == {"success": 1, "error": 0, "cancelled": 0}


async def test_a_cancelled_task_counts_as_cancelled(runtime, samples):
    """Cancellation reaches the function, passes through, and is counted as such."""
    reached = []

    @track_business_metric("sold")
    async def sell():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            reached.append(True)
            raise

    task = asyncio.ensure_future(sell())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reached == [True]
    assert outcomes(samples(runtime.monitor)) == {"success": 0, "error": 0, "cancelled": 1}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_counts_as_error(runtime, samples, stop):
    """What is no `Exception` is counted too, and goes on."""

    @track_business_metric("sold")
    def sell():
        raise stop

    with pytest.raises(stop):
        sell()
    assert outcomes(samples(runtime.monitor))["error"] == 1


def test_a_generator_counts_when_it_has_ended(runtime, samples):
    """A generator counts at its end: success when exhausted, error when it raises, cancelled when closed early."""

    @track_business_metric("sold", value=len)
    def sell(fail):
        yield 1
        if fail:
            raise ValueError
        yield 2
        return "abc"

    running = sell(False)
    assert next(running) == 1
    assert outcomes(samples(runtime.monitor))["success"] == 0
    assert list(running) == [2]
    with pytest.raises(ValueError):
        list(sell(True))
    early = sell(False)
    next(early)
    early.close()
    seen = samples(runtime.monitor)
    assert outcomes(seen) == {"success": 1, "error": 1, "cancelled": 1}
    assert seen[("business_sold_value_sum",)] == 3


def test_a_generator_that_is_thrown_away_counts(runtime, samples):
    """A generator that nobody finishes counts as cancelled when it is collected."""

    @track_business_metric("sold")
    def sell():
        yield 1
        yield 2

    next(sell())
    gc.collect()
    assert outcomes(samples(runtime.monitor))["cancelled"] == 1


async def test_an_async_generator_counts_when_it_has_ended(runtime, samples):
    """The same for async generators."""

    @track_business_metric("sold")
    async def sell():
        yield 1
        yield 2

    assert [item async for item in sell()] == [1, 2]
    early = sell()
    await early.__anext__()
    await early.aclose()
    assert outcomes(samples(runtime.monitor)) == {"success": 1, "error": 0, "cancelled": 1}


def test_the_value_of_a_result_is_observed(runtime, samples):
    """`value` takes the result of a successful call to a number in a histogram."""

    @track_business_metric("sold", value=lambda result: result["price"], labels={"plan": "free"})
    def sell(price):
        return {"price": price}

    sell(2.5)
    sell(40)
    seen = samples(runtime.monitor)
    assert seen["business_sold_value_count", "plan", "free"] == 2
    assert seen["business_sold_value_sum", "plan", "free"] == 42.5
    assert seen["business_sold_value_bucket", "le", "2.5", "plan", "free"] == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1, "text", None])
def test_a_value_that_is_no_figure_is_dropped_and_counted(runtime, samples, caplog, bad):
    """NaN, infinity, a negative number or no number at all never fails the call; it is counted as dropped."""

    @track_business_metric("sold", value=lambda _result: bad)
    def sell():
        return "receipt"

    with caplog.at_level(logging.WARNING):
        assert sell() == "receipt"
        assert sell() == "receipt"
    seen = samples(runtime.monitor)
    assert outcomes(seen)["success"] == 2
    assert seen["smw_telemetry_dropped_total", "kind", "value"] == 2
    assert len(caplog.records) == 1


def test_labels_come_from_the_arguments(runtime, samples):
    """A label is a text, or a function of the call's arguments by name, defaults included."""

    @track_business_metric("sold", labels={"plan": lambda arguments: arguments["plan"], "shop": "web"})
    def sell(item, plan="free"):
        pass

    sell("x")
    sell("x", plan="gold")
    seen = samples(runtime.monitor)
    assert outcomes(seen, plan="free", shop="web")["success"] == 1
    assert outcomes(seen, plan="gold", shop="web")["success"] == 1


def test_a_label_that_fails_is_empty_and_does_not_fail_the_call(runtime, samples, caplog):
    """A broken label function costs its label, not the call."""

    @track_business_metric("sold", labels={"plan": lambda arguments: arguments["nothing"]})
    def sell():
        return 1

    with caplog.at_level(logging.WARNING):
        assert sell() == 1
    assert outcomes(samples(runtime.monitor), plan="")["success"] == 1
    assert "'plan' failed with KeyError" in caplog.text


def test_label_values_are_capped(samples, caplog):
    """A label that turns out to be an identifier ends in one overflow series with one warning."""
    own = Monitor(series_max=10)

    @own.track_business_metric("sold", labels={"user": lambda arguments: str(arguments["user"])})
    def sell(user):
        pass

    with caplog.at_level(logging.WARNING):
        for user in range(100):
            sell(user)
    seen = {key: value for key, value in samples(own).items() if key[0] == "business_sold_total"}
    assert sum(seen.values()) == 100
    assert len(seen) == 11
    assert len(caplog.records) == 1


def test_two_functions_may_feed_one_metric(runtime, samples):
    """The same name on two functions is one counter, and different labels keep apart."""

    @track_business_metric("sold")
    def web():
        pass

    @track_business_metric("sold", labels={"shop": "app"})
    def app():
        pass

    web()
    app()
    seen = samples(runtime.monitor)
    assert outcomes(seen)["success"] == 1
    assert outcomes(seen, shop="app")["success"] == 1


def test_no_call_is_lost_between_threads(runtime, samples):
    """Threads that count the same metric lose nothing."""

    @track_business_metric("sold")
    def sell():
        pass

    def work():
        for _ in range(2000):
            sell()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes(samples(runtime.monitor))["success"] == 12_000


def test_methods_of_an_explicit_monitor_count_there(runtime, samples):
    """The decorator as a method of a monitor counts in that monitor and nowhere else."""
    own = Monitor()

    class Shop:
        @own.track_business_metric("sold_here")
        def sell(self, price):
            return price

    assert Shop().sell(3) == 3
    assert outcomes(samples(own), "sold_here")["success"] == 1
    assert outcomes(samples(runtime.monitor), "sold_here")["success"] is None


@pytest.mark.parametrize("name", ["", "with-dash", "1st", "a b", "ä", "sold_total", "sold_value", 5, None, len])
def test_a_name_that_is_none_is_refused_when_decorating(name):
    """A name Prometheus would refuse fails at import, with what would do."""
    with pytest.raises(DecorationError, match="playlist_created"):
        track_business_metric(name)


@pytest.mark.parametrize("labels", [{"outcome": "x"}, {"le": "1"}, {"a-b": "x"}, {"__x": "x"}, {"plan": 5}])
def test_bad_labels_are_refused_when_decorating(labels):
    """So does a label name that is reserved or invalid, or a source that is neither text nor function."""
    with pytest.raises(DecorationError, match="label"):
        track_business_metric("sold", labels=labels)


def test_a_value_that_is_no_function_is_refused_when_decorating():
    """So does a `value` that cannot be called."""
    with pytest.raises(DecorationError, match="value must be a function"):
        track_business_metric("sold", value=5)
