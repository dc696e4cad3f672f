"""A service whose processes start warm, decorated at import as services are; run as one, it says how it began."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass

import smw
from smw import cache
from smw.web import MonitoringMiddleware

LOADS: list[str] = []
SKUS = [f"sku{number}" for number in range(100)]


@dataclass(frozen=True)
class Price:
    sku: str
    amount: int


@cache.cached(ttl=600, tags=["sku:{sku}"], warm="fleet")
def price(sku: str) -> Price:
    LOADS.append(sku)
    return Price(sku, len(sku))


@cache.cached(ttl=600, warm="fleet")
async def stock(sku: str, *, place: str = "x") -> dict[str, str]:
    LOADS.append(sku)
    return {"sku": sku, "place": place}


def calls() -> None:
    """Ask for everything."""
    for sku in SKUS:
        assert price(sku) == Price(sku, len(sku))
    asyncio.run(_awaited())


async def _awaited() -> None:
    for sku in SKUS:
        assert await stock(sku, place="y") == {"sku": sku, "place": "y"}


def told() -> dict[str, object]:
    """Ask for everything, and tell who answered."""
    warmed = [cache.info(fn).warmed for fn in (price, stock)]
    calls()
    infos = [cache.info(fn) for fn in (price, stock)]
    return {
        "pid": os.getpid(),
        "warmed": warmed,
        "loads": LOADS,
        "l1": [info.hits["l1"] for info in infos],
        "l2": [info.hits["l2"] for info in infos],
    }


def _answer(environ, start_response):
    start_response("200 OK", [("content-type", "application/json")])
    return [json.dumps(told()).encode()]


app = MonitoringMiddleware(_answer)


def main() -> None:
    """Begin as a script does, then as a forked worker; one line of JSON each."""
    runtime = smw.configure(cache={"l2_url": sys.argv[1], "namespace": sys.argv[2]})
    print(json.dumps(told()), flush=True)
    LOADS.clear()
    if os.fork() == 0:
        runtime.prepare()
        print(json.dumps(told()), flush=True)
        os._exit(0)
    os.wait()
