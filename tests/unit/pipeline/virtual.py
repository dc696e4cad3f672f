"""An event loop whose time jumps to the next timer, so that half a minute of retries takes no time."""

from __future__ import annotations

import asyncio
import selectors

from smw._kernel.host import Host
from smw.testing import SeededEntropy


class VirtualLoop(asyncio.SelectorEventLoop):
    """Waits for nothing but files: where only timers are left, time jumps."""

    def __init__(self):
        self.virtual = 0.0
        selector = selectors.DefaultSelector()
        real = selector.select

        def select(timeout=None):
            if timeout:
                self.virtual += timeout
            return real(0)

        selector.select = select
        super().__init__(selector)

    def time(self):
        return self.virtual


class LoopClock:
    """The clock of the running virtual loop."""

    def __init__(self):
        self.loop = None

    def now(self):
        return self.loop.time() if self.loop else 0.0

    def wall(self):
        return 1_700_000_000.0 + self.now()

    async def sleep(self, seconds):
        await asyncio.sleep(seconds)


def virtually(main):
    """Run ``main(host)`` to its end in virtual time and return what it returned and the seconds it took."""
    loop, clock = VirtualLoop(), LoopClock()
    clock.loop = loop
    try:
        result = loop.run_until_complete(main(Host(clock=clock, entropy=SeededEntropy(1))))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        return result, loop.time()
    finally:
        loop.close()
