"""An application that several workers of a server run: requests, a business metric, a cached function."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from fastapi import FastAPI

from smw import cache, monitor
from smw.web.fastapi import install

app = FastAPI()
install(app)


@cache.cached(ttl=60)
def squared(number: int) -> int:
    """Return the square."""
    return number * number


@monitor.track_business_metric("sold")
def sell() -> None:
    """Sell one."""


@app.get("/sale")
async def sale() -> int:
    """Sell one and say who did."""
    squared(3)
    sell()
    return os.getpid()


@app.get("/wait")
async def wait() -> None:
    """Keep the connection open until it is let go."""
    go = Path(os.environ["MONITOR_WORKERS_DIR"]).with_name("go")
    for _ in range(1500):
        if go.exists():
            break
        await asyncio.sleep(0.02)
