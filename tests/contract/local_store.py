"""The store in this process as tests use it: it notes what it was asked, and fails when told to."""

from __future__ import annotations

from smw.cache.ports import StoreFailedError
from smw.cache.stores.local import LocalStore as Plain


class LocalStore(Plain):
    """Behaves as a server does, in this process; `failing` makes every request fail so."""

    def __init__(self, clock) -> None:
        super().__init__(clock=clock)
        self.name = "local"
        self.asked: list[str] = []
        self.failing: StoreFailedError | None = None

    def _enter(self, what: str) -> None:
        self.asked.append(what)
        if self.failing is not None:
            raise self.failing

    async def read(self, *args, **how):
        self._enter("read")
        return await super().read(*args, **how)

    async def read_many(self, *args, **how):
        self._enter("read_many")
        return await super().read_many(*args, **how)

    async def open(self, *args, **how):
        self._enter("open")
        return await super().open(*args, **how)

    async def write(self, *args, **how):
        self._enter("write")
        return await super().write(*args, **how)

    async def replace(self, *args, **how):
        self._enter("replace")
        return await super().replace(*args, **how)

    async def tell_hot(self, *args, **how):
        self._enter("tell_hot")
        return await super().tell_hot(*args, **how)

    async def hottest(self, *args, **how):
        self._enter("hottest")
        return await super().hottest(*args, **how)

    async def sizes(self, *args, **how):
        self._enter("sizes")
        return await super().sizes(*args, **how)

    async def drop(self, *args, **how):
        self._enter("drop")
        return await super().drop(*args, **how)

    def probe(self) -> None:
        self._enter("probe")
