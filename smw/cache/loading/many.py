"""Loads several results with one call of `many=`, once all have come that may, in whatever tick; knows no level."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from smw._kernel.call import Call, Kind, kind_of
from smw._kernel.flight import flying, led
from smw._kernel.process import after_fork
from smw._kernel.raising import own
from smw.cache.loading.coming import Coming
from smw.cache.naming.arguments import UnkeyableError, encode
from smw.errors import ConfigError, DecorationError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from smw._kernel.call import Target
    from smw._kernel.chain import Proceed

__all__ = ["MOST_AT_ONCE", "Many", "Outcome", "check_many"]

_COME_S = 0.02
"""How long a load waits at most for others that have begun before it and have not come yet."""
MOST_AT_ONCE = 500
"""How many results one call of `many=` is asked for."""
_FORM = "many=load_users, where load_users(user_ids) returns {user_id: result}"
_log = logging.getLogger("smw.cache")
_STRANGE = (
    "many= of %s left out what it was asked for (%s) and returned what nobody asked for (%s): what is left out is "
    "None; return the arguments themselves as the keys"
)
_LEFT_OUT = object()
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Outcome:
    """What loading has come to for one call.

    Attributes:
        value: The result.
        error: What is raised in its place, or None.
    """

    __slots__ = ("error", "value")

    def __init__(self, value: Any, error: BaseException | None = None) -> None:
        self.value = value
        self.error = error

    def take(self) -> Any:
        """Return the result, or raise what stands in its place."""
        if self.error is not None:
            raise self.error
        return self.value


def _owners(target: Target) -> int:
    """Return 1 where the first parameter is the instance or the class, else 0."""
    owner = target.qualname.rpartition(".")[0]
    in_class = bool(owner) and not owner.endswith("<locals>")
    return int(target.is_method or (in_class and target.parameters[:1] == ("cls",)))


def _takes(load: Callable[..., object], positional: int) -> bool:
    try:
        inspect.signature(load).bind(*range(positional))
    except TypeError:
        return False
    except ValueError:
        return True  # Python cannot tell; the call will
    return True


def check_many(load: Any, target: Target) -> None:
    """Refuse a `many=` that cannot load the results of `target`.

    Raises:
        DecorationError: It cannot.
    """
    parameters = target.signature.parameters.values() if target.signature else ()
    own = list(parameters)[_owners(target) :]
    if not own or any(parameter.kind in _VARIADIC for parameter in own):
        what = f"many= on {target.qualname}, whose parameters do not tell which results to load"
        raise DecorationError("SMW-C170", what, fix="give it named parameters: def user(user_id)")
    kind = kind_of(load)
    if kind is not target.kind:
        what = f"many= of {target.qualname} is a {kind.value}, and {target.qualname} is a {target.kind.value}"
        raise DecorationError("SMW-C170", what, fix="make both of them async, or neither")
    if not any(_takes(load, positional) for positional in {1, 1 + _owners(target)}):
        what = f"many= of {target.qualname} does not take one sequence"
        raise DecorationError("SMW-C170", what, seen=str(inspect.signature(load)), fix=_FORM)


def _failed(error: BaseException, count: int) -> list[Outcome]:
    """Return the outcomes of calls that have failed together: each raises an error of its own."""
    return [Outcome(None, error), *[Outcome(None, own(error)) for _ in range(count - 1)]]


def _put(outcomes: list[Outcome], numbers: Sequence[int], found: Sequence[Outcome]) -> None:
    for number, outcome in zip(numbers, found, strict=True):
        outcomes[number] = outcome


def _variant(argument: Any) -> Hashable:
    """Return what tells an argument from others that are equal to it."""
    with suppress(UnkeyableError):
        return encode(argument)
    return type(argument).__qualname__


class _Batch:
    """Loads that one call does for: those of a tick, and of later ones while it is held or others may still come."""

    __slots__ = ("calls", "context", "is_timed", "led", "task", "until", "waiting")

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.context = copy_context()
        self.waiting: list[asyncio.Future[Outcome]] = []
        self.led: dict[Any, None] = {}
        self.task: asyncio.Task[None] | None = None
        self.until, self.is_timed = 0, False

    def left(self, future: asyncio.Future[Outcome]) -> None:
        """Stop loading where everybody who waits has been cancelled."""
        if future.cancelled() and self.task is not None and all(each.cancelled() for each in self.waiting):
            self.task.cancel()


class Many:
    """The `many=` of one cached function.

    In an event loop loads are gathered into one call, which runs in the context of the first of them: those of a tick,
    as with `Ticks`, and those of calls that had begun by then and come later, each having waited for a server.
    Blocking code asks for one result at a time, except through `load_now`.

    Args:
        load: The user's function, which has passed `check_many`.
        target: The cached function.
    """

    def __init__(self, load: Callable[..., Any], target: Target) -> None:
        self._load = load
        self._target = target
        self._owners = _owners(target)
        self._hands_owner = bool(self._owners) and _takes(load, 2)
        self._keyed = target.parameters[self._owners :]
        self._said_strange = False
        self._forked()
        after_fork(self._forked)

    def _forked(self) -> None:
        self._open: dict[Hashable, _Batch] = {}
        self._held: dict[asyncio.AbstractEventLoop, int] = {}
        self._coming = Coming()
        self._tasks: set[asyncio.Task[None]] = set()

    def loading(self, call: Call) -> Proceed:
        """Return what loads the result of `call`."""
        if self._target.kind is Kind.ASYNC:
            return lambda: self._gathered(call)
        return lambda: self._alone(call)

    async def _alone(self, call: Call) -> Any:
        return self.load_now([call])[0].take()

    async def _gathered(self, call: Call) -> Any:
        loop = asyncio.get_running_loop()
        at = (loop, *self._owner_of(call))
        batch = self._open.get(at)
        if batch is None or len(batch.calls) >= MOST_AT_ONCE:
            if batch is not None:
                self._go(at, batch)
            for other in list(self._open):  # other threads have loops of their own
                if other[0].is_closed():  # type: ignore[index]
                    self._open.pop(other, None)
            batch = self._open[at] = _Batch()
            batch.until = self._coming.now()
            self._go_when_complete(at, batch, loop)
        future: asyncio.Future[Outcome] = loop.create_future()
        batch.calls.append(call)
        batch.waiting.append(future)
        batch.led.update(dict.fromkeys(led()))
        future.add_done_callback(batch.left)
        self.comes(call)
        return (await future).take()

    @contextmanager
    def expecting(self, call: Call) -> Iterator[None]:
        """Have loads of the running event loop wait for that of `call`, until it `comes` or the block ends."""
        self._coming.begin(call)
        try:
            yield
        finally:
            self.comes(call)

    def comes(self, call: Call) -> None:
        """Say that nobody has to wait for `call` any more: it loads, waits for the load of another, or does neither."""
        loop = self._coming.end(call)
        if loop is not None:
            self._go_on(loop)

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        for at, batch in list(self._open.items()):
            if at[0] is loop and not loop.is_closed():  # type: ignore[index]
                self._go_when_complete(at, batch, loop)

    def _go_when_complete(self, at: Hashable, batch: _Batch, loop: asyncio.AbstractEventLoop) -> None:
        """Load at the end of this tick, or when all have come that began before; for them it waits a while only."""
        if loop in self._held:
            return
        if not self._coming.any_until(batch.until, loop):
            loop.call_soon(self._go, at, batch)
        elif not batch.is_timed:
            batch.is_timed = True
            loop.call_later(_COME_S, self._go, at, batch)

    def hold(self) -> Callable[[], None]:
        """Gather the loads of the running event loop beyond their tick, until what is returned is called."""
        loop, is_held = asyncio.get_running_loop(), True
        self._held[loop] = self._held.get(loop, 0) + 1

        def release() -> None:
            nonlocal is_held
            if not is_held:
                return
            is_held = False
            self._held[loop] -= 1
            if not self._held[loop]:
                del self._held[loop]
                self._go_on(loop)

        return release

    def _go(self, at: Hashable, batch: _Batch) -> None:
        if batch.task is not None:
            return
        if self._open.get(at) is batch:
            del self._open[at]
        batch.task = asyncio.get_running_loop().create_task(self._run(batch), context=batch.context)
        self._tasks.add(batch.task)
        batch.task.add_done_callback(self._tasks.discard)

    async def _run(self, batch: _Batch) -> None:
        pairs = [pair for pair in zip(batch.calls, batch.waiting, strict=True) if not pair[1].done()]
        if not pairs:
            return
        calls = [call for call, _ in pairs]
        outcomes: list[Outcome] = [Outcome(None)] * len(calls)
        try:
            with flying(batch.led):
                for numbers in self._apart(calls, range(len(calls))):
                    asked = [calls[number] for number in numbers]
                    try:
                        found = self._told(asked, await self._load(*self._arguments(asked)))
                    except Exception as error:  # noqa: BLE001 - it belongs to those who wait
                        found = _failed(error, len(asked))
                    _put(outcomes, numbers, found)
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait
            outcomes = _failed(error, len(calls))
        except BaseException:
            for _, future in pairs:
                future.cancel()
            raise
        for (_, future), outcome in zip(pairs, outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)

    def load_now(self, calls: Sequence[Call]) -> list[Outcome]:
        """Load several results from blocking code; what the user's function raises is the outcome of each."""
        outcomes: list[Outcome] = [Outcome(None)] * len(calls)
        by_owner: dict[tuple[Hashable, ...], list[int]] = {}
        for number, call in enumerate(calls):
            try:
                by_owner.setdefault(self._owner_of(call), []).append(number)
            except TypeError as error:  # arguments that do not fit
                outcomes[number] = Outcome(None, error)
        for numbers in by_owner.values():
            for start in range(0, len(numbers), MOST_AT_ONCE):
                for some in self._apart(calls, numbers[start : start + MOST_AT_ONCE]):
                    asked = [calls[number] for number in some]
                    try:
                        found = self._told(asked, self._load(*self._arguments(asked)))
                    except Exception as error:  # noqa: BLE001 - it belongs to those who asked
                        found = _failed(error, len(asked))
                    _put(outcomes, some, found)
        return outcomes

    def _apart(self, calls: Sequence[Call], numbers: Sequence[int]) -> list[list[int]]:
        """Return `numbers` of calls, in one list unless arguments are equal that are not the same: ``1`` and ``True``.

        A mapping could not tell the results of those.
        """
        rounds: list[list[int]] = []
        variants: dict[Any, list[Hashable]] = {}
        for number in numbers:
            one = self._one(calls[number])
            try:
                known = variants.setdefault(one, [])
            except TypeError:  # it cannot be the key of a mapping
                known = []
            variant = _variant(one)
            if variant not in known:
                known.append(variant)
            turn = known.index(variant)
            if turn == len(rounds):
                rounds.append([])
            rounds[turn].append(number)
        return rounds

    def _owner(self, call: Call) -> list[object]:
        """Return the instance or class whose method is called, in a list; an empty one for a function."""
        return list(call.arguments.values())[: self._owners]

    def _owner_of(self, call: Call) -> tuple[Hashable, ...]:
        """Return what is common to the calls that one load may answer: instances of one identity share it."""
        owner = self._owner(call)
        if owner and hasattr(type(owner[0]), "__cache_key__"):
            with suppress(UnkeyableError):
                return (encode(owner[0]),)
        return tuple(map(id, owner))

    def _arguments(self, calls: Sequence[Call]) -> list[Any]:
        asked = [self._one(call) for call in calls]
        return [*(self._owner(calls[0]) if self._hands_owner else ()), asked]

    def _one(self, call: Call) -> Any:
        """Return what stands for one call: its argument, or all of them in a tuple."""
        values = tuple([call.arguments[name] for name in self._keyed])
        return values[0] if len(values) == 1 else values

    def _told(self, calls: Sequence[Call], given: Any) -> list[Outcome]:
        """Return the outcome of each call; one that a mapping leaves out is None."""
        if isinstance(given, Mapping):
            asked = [self._one(call) for call in calls]
            try:
                found = [given.get(one, _LEFT_OUT) for one in asked]
            except TypeError:
                raise self._unfit(calls, "a mapping, of arguments that cannot be its keys") from None
            left_out = [one for one, each in zip(asked, found, strict=True) if each is _LEFT_OUT]
            if left_out:
                self._warn_if_strange(asked, left_out, given)
                found = [None if each is _LEFT_OUT else each for each in found]
        elif isinstance(given, list | tuple):
            found = list(given)
            if len(found) != len(calls):
                raise self._unfit(calls, f"{len(found)} results")
        else:
            raise self._unfit(calls, type(given).__name__)
        return [Outcome(None, each) if isinstance(each, Exception) else Outcome(each) for each in found]

    def _warn_if_strange(self, asked: list[Any], left_out: list[Any], given: Mapping[Any, Any]) -> None:
        """Say so once where results seem to stand under other keys than those that were asked for.

        A load may return more than that, such as a whole table, and know of some that it has none.
        """
        if self._said_strange or len(given) <= len(asked) - len(left_out):
            return
        known, kinds = set(asked), {type(one) for one in asked}
        strange = next((key for key in given if key not in known), _LEFT_OUT)
        if strange is _LEFT_OUT or (type(strange) in kinds and len(left_out) < len(asked)):
            return
        self._said_strange = True
        kind = type(left_out[0]).__name__, type(strange).__name__
        _log.warning(_STRANGE, self._target.name, *kind)

    def _unfit(self, calls: Sequence[Call], seen: str) -> ConfigError:
        what = f"many= of {self._target.qualname} was asked for {len(calls)} results and returned something else"
        fix = "return {argument: result}, or a list of results in the order of the arguments"
        return ConfigError("SMW-C171", what, seen=seen, fix=fix)
