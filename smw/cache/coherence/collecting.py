"""Tells whoever collects what a result is made from of each result that is handed out; knows no level."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from smw._kernel import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from smw._kernel.chain import Proceed
    from smw.cache.coherence.depending import Basis, Origin
    from smw.cache.levels.engine import Engine, Place
    from smw.cache.levels.memory import Entry

__all__ = ["COLLECTING", "begin", "hidden", "tell", "watched"]

COLLECTING: ContextVar[Basis | None] = ContextVar("smw_cache_collecting", default=None)
"""What the load that runs here is made from, where somebody wants to know."""
_begun: list[bool] = []


def tell(engine: Engine, place: Place | None, origin: Entry | Origin | None, until: float = float("inf")) -> None:
    """Tell whoever collects here what was handed out, as `Basis.add` takes it."""
    collecting = COLLECTING.get()
    if collecting is not None:
        collecting.add(engine, place, origin, until)


@contextmanager
def _nobody() -> Iterator[None]:
    token = COLLECTING.set(None)
    try:
        yield
    finally:
        COLLECTING.reset(token)


def hidden(proceed: Proceed) -> Proceed:
    """Return `proceed` out of sight of those who collect: what a function uses that does not is its own affair."""
    if COLLECTING.get() is None:
        return proceed

    async def load() -> Any:
        with _nobody():
            return await proceed()

    return load


def begin() -> None:
    """Say that from now on somebody may collect, so that hits from memory must be told of."""
    if not _begun:
        _begun.append(True)
        current.unbind_all()


def watched(engine: Engine, get: Callable[[Any], Entry | None]) -> Callable[[Any], Entry | None]:
    """Return `get` for compiled entries, told of and barred as readers want it; `get` itself where nobody wants it."""
    if not _begun:
        return get
    from smw.cache.coherence.bookmark import READING

    now, collecting, reading = engine.host.clock.now, COLLECTING.get, READING.get

    def found(key: Any) -> Entry | None:
        entry = get(key)
        if entry is not None:
            reader = reading()
            if reader is not None and reader.bars(engine, entry):
                return None
            basis = collecting()
            if basis is not None and entry.deadline > now():
                basis.add(engine, None, entry)
        return entry

    return found
