"""What `l1_bytes` counts is about what memory takes, as `tracemalloc` sees it."""

from __future__ import annotations

import gc
import tracemalloc
import uuid
from dataclasses import dataclass
from typing import Any

import pydantic
import pytest

from smw.cache import Cache

ENTRIES = 800


class Track(pydantic.BaseModel):
    id: int
    name: str
    tags: list[str]


@dataclass
class Listener:
    id: int
    name: str
    tags: list[str]


def playlist(number: int) -> dict[str, Any]:
    tracks = [{"id": each * number, "title": f"track {number} {each}", "length": each * 1.5} for each in range(13)]
    return {"id": number, "name": f"playlist {number}", "tracks": tracks, "weight": 0.5, "public": True, "none": None}


VALUES = {
    "int": lambda i: i + 10**6,
    "str": lambda i: f"{i}" * 50,
    "flat dict": lambda i: {"id": i, "name": f"listener {i}"},
    "ints": lambda i: list(range(i + 500, i + 540)),
    "nested": playlist,
    "model": lambda i: Track(id=i + 1000, name=f"track {i}", tags=[f"a{i}", f"b{i}"]),
    "dataclass": lambda i: Listener(i + 1000, f"listener {i}", [f"a{i}", f"b{i}"]),
}
ROWS = [
    *[("int", tags, "called") for tags in ([], ["t"], ["t:{number}"])],
    *[(kind, ["t:{number}"], "called") for kind in ("str", "flat dict", "ints", "nested", "model", "dataclass")],
    *[(kind, ["t"], "read") for kind in ("int", "flat dict", "ints", "nested")],
]


@pytest.mark.parametrize(("kind", "tags", "how"), ROWS)
def test_the_estimate_is_what_memory_takes(kind, tags, how):
    """Within 30 %: results of a function and those of a server, without a tag, with one for all, with its own."""
    make = VALUES[kind]

    def load(number: int) -> Any:
        return make(number)

    told: dict[str, Any] = {"namespace": "estimate", "l1_bytes": 2**40}
    if how == "read":
        told["l2_host"] = f"memory://{uuid.uuid4().hex}"
        fill = Cache(l1_size=1, **told).cached(60, tags=tags)(load)
        for number in range(ENTRIES + 1):
            fill(number)
    cache = Cache(l1_size=ENTRIES * 2, **told)
    cached = cache.cached(60, tags=tags)(load)
    cached(0)
    gc.collect()
    estimate = -cache.engine.memory.bytes
    tracemalloc.start()
    try:
        for number in range(1, ENTRIES + 1):
            cached(number)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    estimate += cache.engine.memory.bytes
    assert cache.engine.memory.entries == ENTRIES + 1
    assert 0.7 < taken / estimate < 1.3
