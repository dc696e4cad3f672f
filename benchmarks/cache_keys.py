"""Keys that do not tell calls apart: known pairs of different calls, and of equal ones, through every decorator.

*Collisions*: the second call of a pair is answered with the first one's result. *Equal calls that differ*: the same
arguments, written another way, make the function run twice. Calls that a decorator refuses are left out of its count.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from benchmarks._contestants import Contestant, in_memory, on_servers, ours
from benchmarks._peers import NoServerError, serving
from benchmarks._table import Row, absent

if TYPE_CHECKING:
    from benchmarks._peers import Mode, Place

NAME = "cache_keys"
DISTINCT: tuple[tuple[tuple[Any, Any], tuple[Any, Any]], ...] = (
    (("1:b:2", ""), ("1", "2:b:")),
    ((None, ""), ("", "")),
    (("a b", "c"), ("a", "b c")),
    ((1, ""), (True, "")),
    ((1, ""), (1.0, "")),
    ((1, ""), ("1", "")),
    (("None", ""), (None, "")),
    (((1, 2), ""), ("(1, 2)", "")),
    ((0, ""), (False, "")),
    ((0.0, ""), (-0.0, "")),
    (("a", "b,c"), ("a,b", "c")),
    (("a'", "b"), ("a", "'b")),
)
COLLIDE, DIFFER = f"{len(DISTINCT)} pairs of different calls, taken for one", "3 pairs of equal calls, run twice"
EQUAL: tuple[tuple[tuple[tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]], ...] = (
    ((("a", "b"), {}), (("a",), {"b": "b"})),
    (((), {"a": "a", "b": "b"}), ((), {"b": "b", "a": "a"})),
    ((("a",), {}), (("a", ""), {})),
)


runs: list[tuple[Any, Any]] = []


def plain(a: Any, b: Any = "") -> str:
    """Say what the arguments were."""
    runs.append((a, b))
    return f"{a!r} {b!r}"


async def awaited(a: Any, b: Any = "") -> str:
    """Say what the arguments were."""
    runs.append((a, b))
    return f"{a!r} {b!r}"


async def _seen(contestant: Contestant, first: Any, second: Any) -> tuple[Any, Any, int] | None:
    """Return what two calls gave, nothing being cached before, and how often the function ran; None if refused."""
    runs.clear()
    assert contestant.cached is not None
    fn = contestant.cached(plain if contestant.mode == "sync" else awaited)
    results = []
    try:
        for args, kwargs in (first, second):
            result = fn(*args, **kwargs)
            results.append(await result if inspect.isawaitable(result) else result)
    except (TypeError, ValueError):
        return None
    finally:
        for args, kwargs in (first, second):
            await contestant.drop(fn, *args, *kwargs.values())
    return results[0], results[1], len(runs)


async def _counted(contestant: Contestant) -> list[Row]:
    collided = differed = 0
    for first, second in DISTINCT:
        seen = await _seen(contestant, (first, {}), (second, {}))
        collided += seen is not None and seen[1] != f"{second[0]!r} {second[1]!r}"
    for one, other in EQUAL:
        seen = await _seen(contestant, one, other)
        differed += seen is not None and seen[2] > 1
    target = "<= 0 pairs" if contestant.name.startswith("smw") else None
    return [
        Row(COLLIDE, contestant.name, float(collided), "pairs", target=target),
        Row(DIFFER, contestant.name, float(differed), "pairs", target=target),
    ]


async def _measure(place: Place, mode: Mode) -> list[Row]:
    rows: list[Row] = []
    made = [*in_memory(mode), *on_servers(place, mode, locked=False), ours(mode, ("l1",)), ours(mode, ("l2",), place)]
    for contestant in made:
        name = f"{contestant.name}, {mode}"
        if contestant.cached is None:
            rows.append(absent(COLLIDE, name))
            continue
        rows += [Row(row.task, name, row.value, row.unit, target=row.target) for row in await _counted(contestant)]
        await contestant.close()
    return rows


def run(quick: bool) -> list[Row]:  # noqa: ARG001, FBT001 - there is nothing to repeat
    """Try all."""
    try:
        with serving("redis") as place:
            rows = [row for mode in ("sync", "async") for row in asyncio.run(_measure(place, mode))]
    except NoServerError as error:
        return [absent(NAME, "everybody", str(error))]
    return sorted(rows, key=lambda row: row.task != COLLIDE)
