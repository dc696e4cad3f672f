"""One loader in the four shapes in which users decorate: function or method, blocking or awaiting."""

from __future__ import annotations

from typing import Any

from smw.cache import key_for

SHAPES = [(kind, mode) for kind in ("function", "method") for mode in ("sync", "async")]


class Shaped:
    """A cached loader of one shape, called the same way whatever it is.

    Args:
        cache: The cache.
        shape: (``function`` or ``method``, ``sync`` or ``async``).
        act: What it does with its number; may be a coroutine function if the mode is ``async``.
        ttl: As for `cached`.
        options: As for `cached`; functions among them get the number alone.
    """

    def __init__(self, cache: Any, shape: tuple[str, str], act: Any, ttl: Any = 60, **options: Any) -> None:
        kind, self.mode = shape
        self.runs = 0
        self._act = act
        self.cache = cache
        if "condition" in options and kind == "method":
            condition = options["condition"]
            options["condition"] = lambda _self, number: condition(number)
        decorate = cache.cached(ttl, **options)
        if kind == "function":
            self.fn = decorate(self._function())
            self._call = self.fn
        else:
            owner = self._class(decorate)
            self.fn = owner.load
            self._one = owner()
            self._call = self._one.load

    def _function(self) -> Any:
        if self.mode == "sync":

            def load(number: int) -> Any:
                return self._run(number)

            return load

        async def later(number: int) -> Any:
            return await self._run_later(number)

        return later

    def _class(self, decorate: Any) -> Any:
        outer = self
        if self.mode == "sync":

            class Blocking:
                def __cache_key__(self) -> str:
                    return "one"

                @decorate
                def load(self, number: int) -> Any:
                    return outer._run(number)

            return Blocking

        class Awaiting:
            def __cache_key__(self) -> str:
                return "one"

            @decorate
            async def load(self, number: int) -> Any:
                return await outer._run_later(number)

        return Awaiting

    def __cache_key__(self) -> str:
        return "shaped"

    def _run(self, number: int) -> Any:
        self.runs += 1
        return self._act(number)

    async def _run_later(self, number: int) -> Any:
        result = self._run(number)
        return await result if hasattr(result, "__await__") else result

    def key(self, number: int = 1) -> str:
        """Return the full key of a call."""
        return key_for(self.fn, *(() if self.fn is self._call else (self._one,)), number)

    async def __call__(self, number: int = 1) -> Any:
        """Call it."""
        result = self._call(number)
        return await result if self.mode == "async" else result
