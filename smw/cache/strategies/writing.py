"""What `writes` adds to a function that changes the source of a cached one; knows no level and no journal."""

from __future__ import annotations

import logging
import types
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

from smw._kernel import current
from smw._kernel.answers import AwaitableAnswerError, answered, answers_at_once
from smw._kernel.arity import misfit
from smw._kernel.call import Call, Kind
from smw._kernel.chain import Advice, Bound, Stack, stack_of
from smw.cache.functions.readers import Reader, Scopes
from smw.cache.functions.returning import says_none
from smw.errors import ConfigError, DecorationError, Unavailable, nearest

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from smw._kernel.call import Mode, Target
    from smw._kernel.chain import Proceed
    from smw.cache.functions.function import CachedFunction
    from smw.cache.levels.engine import Place
    from smw.cache.part import Cache

__all__ = ["STRATEGIES", "WRITERS", "Changed", "Writes", "known_writers"]

_log = logging.getLogger("smw.cache")
STRATEGIES = ("write_through", "write_around", "write_back")
_VALUE = "value=lambda result, arguments: arguments['profile']"
_UNKNOWN = (
    "@writes on %s cannot tell which result it changes from the arguments of a call that has succeeded, so the whole "
    "cache is dropped; put @writes directly above the function, below decorators that add arguments"
)
_NO_VALUE = (
    "@writes on %s has returned None, and %s does not say that it may return that: its result was dropped, not "
    'replaced; return the new value, pass value=, or take strategy="write_around"'
)
_OVERTAKES = (
    "a write of %s goes to its source before an older one of the same result, which was acknowledged, cannot be done "
    "now, and will replace it"
)
_IS_NONE = (None, types.NoneType, "None")
WRITERS: WeakValueDictionary[str, Writes] = WeakValueDictionary()
"""The functions of this process whose writes may be done later, by name; of one name the last."""


def known_writers() -> tuple[str, ...]:
    """Return their names; safe while others are being decorated."""
    return tuple(ref.key for ref in WRITERS.valuerefs() if ref() is not None)


class Changed(NamedTuple):
    """The cached result that one call changes.

    Attributes:
        part: The cache that has it.
        function: The cached function.
        reading: The call of it.
        place: Where it belongs.
    """

    part: Cache
    function: CachedFunction
    reading: Call
    place: Place

    @property
    def scopes(self) -> Scopes:
        """What drops it."""
        own = self.place.scopes[:1]
        return Scopes((), (), own) if self.place.of_instance else Scopes((), own)

    @property
    def around(self) -> Scopes:
        """What drops it and all that carries one of its tags with a field."""
        tags = zip(self.function.options.tags, self.place.tags[1:], strict=True)
        return self.scopes.joined(Scopes(tuple(name for template, name in tags if template.fields)))


class Writes(Advice):
    """The advice of `writes`.

    Args:
        to: The cached function.
        strategy: ``write_through``, ``write_around`` or ``write_back``.
        value: From result and arguments to what `to` returns from now on; None: the result.
        arguments: Function of the arguments that returns those of `to`.
    """

    name = "writes"

    def __init__(self, to: Any, *, strategy: str, value: Any, arguments: Any) -> None:
        self.reader = Reader(to, arguments, decorator="writes", option="arguments")
        if strategy not in STRATEGIES:
            what = f"unknown strategy {strategy!r}; known: {', '.join(STRATEGIES)}.{nearest(str(strategy), STRATEGIES)}"
            raise DecorationError("SMW-C146", what, fix='strategy="write_through"')
        if not (value is None or answers_at_once(value)):
            raise DecorationError("SMW-C147", "value= takes a function", seen=repr(value), fix=_VALUE)
        wrong = None if value is None else misfit(value, 2)
        if wrong is not None:
            what = f"the function given as value= is called with the result and the arguments by name: {wrong}"
            raise DecorationError("SMW-C147", what, seen=repr(value), fix=_VALUE)
        if strategy == "write_back":
            if value is None:
                what = "write_back needs value=: there is no result yet when readers are to see the new value"
                raise DecorationError("SMW-C147", what, fix=_VALUE)
            if self.reader.advice.options.longest_s == 0:
                what = f"{self.reader.target.qualname} keeps nothing (ttl=0), so its callers would not see the value"
                raise DecorationError("SMW-C148", what, fix="give the cached function a time to live")
        if strategy != "write_around" and self.reader.advice.options.depends is not None:
            what = f"nobody could tell what the value was made from that {strategy} puts in the place of that of "
            what += f'{self.reader.target.qualname}, which has depends="auto"'
            raise DecorationError("SMW-C173", what, fix='strategy="write_around"')
        if strategy != "write_around" and self.reader.advice.options.result_tags:
            what = f"{strategy} puts a value in the place of that of {self.reader.target.qualname}, which has tags of "
            what += "its result: whether one of them was dropped meanwhile could not be told"
            raise DecorationError("SMW-C177", what, fix='strategy="write_around"')
        self.strategy = strategy
        self._value = value
        self._puts_results = value is None and strategy == "write_through"
        self._said: set[str] = set()

    def check(self, target: Target) -> None:
        """Refuse generators, and a function whose arguments do not tell which result it changes."""
        if target.kind in (Kind.GEN, Kind.ASYNC_GEN):
            what = f"@writes stands on {target.qualname}, a {target.kind.value}, which has not written when it returns"
            raise DecorationError("SMW-C146", what, fix="write in a function, and call it from the generator")
        self.reader.check(target)
        if self._puts_results and target.signature and target.signature.return_annotation in _IS_NONE:
            what = f"@writes stands on {target.qualname}, which returns None: its result is no value for "
            what += self.reader.target.qualname
            fix = f'return the new value, pass {_VALUE}, or take strategy="write_around"'
            raise DecorationError("SMW-C147", what, seen="-> None", fix=fix)

    def decorated(self, fn: Any) -> None:
        """Note what is below, which is what writes the source, and under which name it is found after a restart."""
        stack = stack_of(fn)
        assert stack is not None  # noqa: S101 - for the type checker
        self.target = stack.target
        below = stack.advices[1:]
        self._below = Stack(stack.target, below) if below else None
        self.source: Callable[..., Any] = stack.target.fn if self._below is None else self._below.entry
        if self.strategy == "write_back":
            WRITERS[stack.target.name] = self

    def bind(self, target: Target) -> Bound:  # noqa: ARG002 - every function is served alike
        """Find the cache of the function that reads."""
        part: Cache = self.reader.advice.owner or current.part("cache")
        function = self.reader.function()
        do = {"write_through": self._through, "write_around": self._around, "write_back": self._back}[self.strategy]

        async def around(call: Call, proceed: Proceed) -> Any:
            changed = self._changed(part, function, call)  # before the function runs, which may change its arguments
            if changed is None:
                return await self._unknown(part, call, proceed)
            return await do(changed, call, proceed)

        return Bound(around)

    def changed(self, call: Call) -> Changed | None:
        """Return what a call of this function changes, or None where its arguments do not fit.

        Raises:
            ConfigError: It cannot be told.
        """
        return self._changed(self.reader.advice.owner or current.part("cache"), self.reader.function(), call)

    def _changed(self, part: Cache, function: CachedFunction, call: Call) -> Changed | None:
        """Return what a call changes, or None where its arguments do not fit its function."""
        try:
            found = self.reader.calls(call)
        except TypeError:
            return None
        if len(found) != 1 or not isinstance(found[0], Call):
            what = f"arguments= of @writes on {call.target.qualname} names more than the one result that it changes"
            raise ConfigError("SMW-C142", what, fix="return one mapping or tuple; drop others with @invalidate(fn=...)")
        return Changed(part, function, found[0], self.reader.place(found[0], call.target))

    async def _unknown(self, part: Cache, call: Call, proceed: Proceed) -> Any:
        result = await proceed()  # mostly Python's own complaint
        self._say_once("unknown", logging.ERROR, _UNKNOWN, call.target.name)
        await part.drop_everything(call.mode)
        return result

    async def _is_last(self, changed: Changed, call: Call) -> bool:
        """Wait for older writes of the same result that were acknowledged; returns whether all of them are done."""
        behind = changed.part.engine.behind
        if behind is None or await behind.is_done(changed.place.scopes[0], call.mode):
            return True
        self._say_once("overtaking", logging.ERROR, _OVERTAKES, call.target.name)
        return False

    async def _around(self, changed: Changed, call: Call, proceed: Proceed) -> Any:
        await self._is_last(changed, call)
        try:
            result = await proceed()
        except BaseException:
            changed.part.drop_soon(changed.scopes)  # it may have been written all the same
            raise
        await changed.part.drop_scopes(changed.around, call.mode)
        return result

    async def _through(self, changed: Changed, call: Call, proceed: Proceed) -> Any:
        from smw.cache.strategies.replacing import look_before

        is_last = await self._is_last(changed, call)
        before = await look_before(changed.part.engine, changed.place, changed.function.policy, call.mode)
        try:
            result = await proceed()
        except BaseException:
            changed.part.drop_soon(changed.scopes)  # it may have been written all the same
            raise
        try:
            value = result if self._value is None else answered(self._value(result, call.arguments))
        except Exception:  # noqa: BLE001 - the source has been written, so the call has succeeded
            _log.exception("value= of @writes on %s failed; the result is dropped instead", call.target.name)
            await changed.part.drop_scopes(changed.scopes, call.mode)
        else:
            if value is None and self._puts_results and not says_none(self.reader.target.fn):
                self._say_once("no-value", logging.WARNING, _NO_VALUE, call.target.name, self.reader.target.name)
                await changed.part.drop_scopes(changed.scopes, call.mode)
            elif is_last:
                await self.replace(changed, value, before, call.mode)
            else:
                await changed.part.drop_scopes(changed.scopes, call.mode)
        return result

    async def replace(self, changed: Changed, value: Any, before: Any, mode: Mode) -> None:
        """Put a value in the place of what the levels hold, or drop that.

        Args:
            changed: Which result it is.
            value: What the source has now, or will have.
            before: What `look_before` has returned.
            mode: The caller's mode.
        """
        from smw.cache.strategies.replacing import replace

        function, engine = changed.function, changed.part.engine
        if not function.keeps(changed.reading):
            await changed.part.drop_scopes(changed.scopes, mode)
        elif await replace(engine, changed.place, function.policy, value, before=before, mode=mode):
            function.adopt(changed.reading, changed.place)

    async def _back(self, changed: Changed, call: Call, proceed: Proceed) -> Any:
        import sqlite3

        from smw._kernel.bridge import on_asyncio
        from smw.cache.strategies.replacing import look_before

        if WRITERS.get(call.target.name) is not self:
            what = f"two functions are called {call.target.name}: what is written down could not be told apart"
            raise ConfigError("SMW-C162", what, fix="give each function a name of its own, at module level")
        if changed.place.of_instance or not changed.function.is_told_apart:
            what = f"results of {changed.function.target.name} have no key that another process would know"
            fix = "give the class a __cache_key__(self) method, define the function at module level, or pass key="
            raise ConfigError("SMW-C148", what, fix=fix)
        key, behind, part = changed.place.scopes[0], changed.part.behind, changed.part
        assert self._value is not None  # noqa: S101 - for the type checker
        try:
            value = answered(self._value(None, call.arguments))
        except AwaitableAnswerError:
            what = f"value= of @writes on {call.target.name} has to be awaited"
            raise ConfigError("SMW-C147", what, fix=_VALUE) from None
        packed = behind.letters.arguments(call, key), behind.letters.value(changed.function, value, key)
        before = await look_before(part.engine, changed.place, changed.function.policy, call.mode)
        accepted = False
        if call.mode == "sync" or on_asyncio():
            try:
                accepted = await behind.accept(self, key, *packed, call.mode)
            except sqlite3.Error as error:
                self._refuse_overtaking(await behind.looked(key, call.mode) is not None, call, error)
            except BaseException:
                part.drop_soon(changed.scopes)  # it may have been written down
                raise
        if not accepted:
            await self._through(changed, call, proceed)
            return None
        try:
            await self.replace(changed, value, before, call.mode)
        except BaseException:
            part.drop_soon(changed.scopes)
            raise
        return None

    def _refuse_overtaking(self, older_waits: bool, call: Call, error: sqlite3.Error) -> None:  # noqa: FBT001
        """Refuse a write that would reach the source before an older one of the same key."""
        if older_waits:
            what = f"the journal does not take a write of {call.target.qualname} while an older one of its key waits"
            raise Unavailable("SMW-C163", what, seen=error, fix="see to the disk of CACHE_STATE_DIR") from error
        what = "the journal does not take writes of %s, which go to their source: %s"
        self._say_once("journal", logging.ERROR, what, call.target.name, error)

    def _say_once(self, matter: str, level: int, what: str, *shown: object) -> None:
        if matter not in self._said:
            self._said.add(matter)
            _log.log(level, what, *shown)

    def describe(self) -> str:
        """Return one line for ``smw.explain``."""
        return f"@writes({self.reader.target.qualname}, strategy={self.strategy!r})"
