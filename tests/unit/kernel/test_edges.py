"""Functions of unusual shapes, foreign decorators, runtimes that change under a call: what worked still works."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import Any

import pytest

from smw._kernel import current
from smw._kernel.chain import advise
from smw._kernel.flight import Flights
from smw.errors import StackingError
from tests.unit.kernel.advices import Geared, Hit, Named, record


def _foreign(fn: Any) -> Any:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return wrapper


class _Guarded:
    @advise(Named("require_compliance"))
    def __call__(self, x: int) -> int:
        return x

    @advise(Named("require_compliance"))
    def method(self, x: int) -> int:
        return x


def _guarded(x: int) -> int:
    return x


@pytest.mark.parametrize(
    "fn",
    [
        _foreign(advise(Named("trace"))(_foreign(advise(Named("require_compliance"))(_guarded)))),
        advise(Named("track_business_metric"))(_foreign(advise(Named("require_compliance"))(_guarded))),
        functools.partial(advise(Named("require_compliance"))(_guarded), 1),
        _Guarded(),
        _Guarded().method,
        functools.lru_cache(advise(Named("require_compliance"))(_guarded)),
    ],
    ids=["two foreign", "merged above foreign", "partial", "callable object", "bound method", "lru_cache"],
)
def test_an_unsafe_order_is_found_however_deep_it_hides(fn):
    """A cache above a control is refused through wrappers, partials, bound methods and callable objects."""
    with pytest.raises(StackingError):
        advise(Named("cached"))(fn)


def test_a_decorator_that_injects_an_argument_may_stand_below():
    """What the callable accepts counts, not the signature of the function that it wraps."""

    def inject(fn: Any) -> Any:
        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return fn("db", *args, **kwargs)

        return wrapper

    log: list[Any] = []

    @record("a", log)
    @inject
    def load(db: str, key: str) -> tuple[str, str]:
        return db, key

    assert load("k") == ("db", "k")
    assert log[0] == ("a", "in", {"args": ("k",), "kwargs": {}})
    with pytest.raises(TypeError):
        load("k", "too", "many")


def test_stop_iteration_passes_as_it_is():
    """A decorated __next__ ends its loop."""

    class Numbers:
        def __init__(self) -> None:
            self.left = 2

        def __iter__(self) -> Any:
            return self

        @record("n", [])
        def __next__(self) -> int:
            if not self.left:
                raise StopIteration
            self.left -= 1
            return self.left

    assert list(Numbers()) == [1, 0]


def test_a_bound_method_of_a_decorated_function_keeps_its_instance():
    """Decorating what is already bound calls it with its instance."""

    class Shop:
        @record("inner", [])
        def name(self, x: int) -> tuple[Any, int]:
            return self, x

    shop = Shop()
    assert record("outer", [])(shop.name)(3) == (shop, 3)


def test_a_method_below_lru_cache_still_binds():
    """What functools.lru_cache returns is a descriptor, and so is what stands for it."""

    class Shop:
        @record("m", [])
        @functools.lru_cache  # noqa: B019 - the instance is kept on purpose
        def name(self, x: int) -> int:
            return x

    assert Shop().name(3) == 3


def test_parameters_may_have_any_name():
    """Names that the compiled entry uses itself are the function's to use."""
    advice = Geared(lambda: 0.0)

    @advise(advice)
    def fn(_smw_get: int, _smw_now: int, _smw_slow: int = 3) -> tuple[int, ...]:
        return _smw_get, _smw_now, _smw_slow

    assert fn(1, 2) == fn(1, _smw_now=2) == (1, 2, 3)


def test_hits_go_on_while_the_runtime_changes():
    """Calls in other threads see an answer or compute one while runtimes come and go; none of them fails."""
    advice = Geared(lambda: 0.0)
    advice.table[1] = Hit("kept", 1.0)

    @advise(advice)
    def fn(x: int) -> str:
        return "computed"

    failures: list[BaseException] = []
    stop = threading.Event()

    def call() -> None:
        try:
            while not stop.is_set():
                assert fn(1) in {"kept", "computed"}
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test shows it
            failures.append(error)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    before = current.get()
    for _ in range(200):
        current.use(before)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_first_call_and_a_change_of_runtime_do_not_wait_for_each_other():
    """Finding the parts of a runtime while another thread replaces it ends for both."""
    inside, changed = threading.Event(), threading.Event()

    class Slow(Named):
        def bind(self, target: Any) -> None:
            inside.set()
            changed.wait(0.2)
            current.get()

    @advise(Slow("trace"))
    def fn() -> int:
        return 1

    caller = threading.Thread(target=fn)
    caller.start()
    inside.wait(2)
    changer = threading.Thread(target=lambda: (current.use(current.get()), changed.set()))
    changer.start()
    caller.join(5)
    changer.join(5)
    assert not caller.is_alive()
    assert not changer.is_alive()


def test_a_load_whose_loop_was_closed_is_taken_over():
    """A loop closed with a load under way strands nobody who asks later."""
    flights = Flights()

    async def never() -> str:
        await asyncio.sleep(30)
        return "never"

    async def own() -> str:
        return "own"

    loop = asyncio.new_event_loop()
    task: list[Any] = []

    async def begin() -> None:
        task.append(asyncio.ensure_future(flights.fly("k", never, "async")))
        await asyncio.sleep(0.01)

    loop.run_until_complete(begin())
    assert asyncio.run(asyncio.wait_for(flights.fly("k", own, "async"), 2)) == "own"
    for left in asyncio.all_tasks(loop):
        left.cancel()
    loop.run_until_complete(asyncio.gather(*task, return_exceptions=True))
    loop.close()
