"""What one measurement looks like and when it meets its target; knows no benchmark."""

from __future__ import annotations

import re
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Row", "absent", "compared", "in_turns", "meets", "nanoseconds", "render"]

_TARGET = re.compile(r"(?P<sense><=|>=) (?P<limit>[0-9.]+)(?: (?P<unit>\S+))?$")
_COLUMNS = ("task", "system", "value", "unit", "ratio", "target", "ok")
_RIGHT = {"value", "ratio"}


@dataclass(frozen=True)
class Row:
    """One system doing one task.

    Args:
        task: What was measured, the same text for every system that is compared.
        system: Who did it.
        value: The figure; None where it could not be measured.
        unit: Its unit: ns, us, ms, s, MB, ...
        ratio: This system's value over the named peer's in the same run; None where nothing is compared.
        target: ``<= 0.5`` is about the ratio (the value, where there is no ratio), ``<= 10 ms`` about the value.
        why: What was missing, where there is no figure.
    """

    task: str
    system: str
    value: float | None
    unit: str
    ratio: float | None = None
    target: str | None = None
    why: str = ""


def absent(task: str, system: str, why: str = "the package is not installed") -> Row:
    """Return the row of a system that could not be measured: it is listed, and never counted as met or missed."""
    return Row(task, system, None, "", why=why)


def compared(
    task: str, figures: Mapping[str, float | None], unit: str, peer: str, targets: Mapping[str, str] | None = None
) -> list[Row]:
    """Return a row for each system, with its ratio to one peer; systems without a figure are listed as absent.

    Args:
        task: What was measured.
        figures: The systems' values.
        unit: Their unit.
        peer: With whom the others are compared.
        targets: Of some of the systems.
    """
    base = figures.get(peer)
    # A target without a unit is about the ratio, so there is none without the peer.
    judged = {name: target for name, target in (targets or {}).items() if base or target.count(" ") > 1}
    return [
        absent(task, name) if value is None
        else Row(task, name, value, unit, value / base if base else None, judged.get(name))
        for name, value in figures.items()
    ]  # fmt: skip


def meets(row: Row) -> bool | None:
    """Tell whether a row meets its target; None where it has none, or was not measured."""
    if row.target is None or row.value is None:
        return None
    found = _TARGET.match(row.target)
    if found is None:
        message = f"a target reads '<= 0.5' or '<= 10 ms', not {row.target!r}"
        raise ValueError(message)
    if found["unit"] not in (None, row.unit):
        message = f"the target {row.target!r} is in another unit than the value ({row.unit})"
        raise ValueError(message)
    figure = row.value if found["unit"] or row.ratio is None else row.ratio
    limit = float(found["limit"])
    return figure <= limit if found["sense"] == "<=" else figure >= limit


def _shown(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


def render(rows: Sequence[Row]) -> str:
    """Lay rows out as one table in plain text, a task's name only on its first line."""
    lines = [_COLUMNS]
    task = ""
    for row in rows:
        verdict = {True: "yes", False: "NO", None: ""}[meets(row)]
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        name = "" if row.task == task else row.task
        lines.append(
            (
                name,
                row.system,
                _shown(row.value),
                row.unit,
                ratio,
                row.target or "",
                verdict,
            )
        )
        task = row.task
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(
            cell.rjust(width) if name in _RIGHT else cell.ljust(width)
            for name, cell, width in zip(_COLUMNS, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def nanoseconds(
    calls: Callable[[int], object],
    *,
    number: int,
    rounds: int = 7,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> float:
    """Return the median over rounds of the nanoseconds that one call takes.

    Args:
        calls: Makes as many calls as it is told, in a loop of its own.
        number: Calls in a round.
        rounds: Rounds after one that warms up.
        clock: What tells nanoseconds; `time.process_time_ns` leaves out what other processes took.
    """
    calls(max(1, number // 10))
    taken = []
    for _ in range(rounds):
        started = clock()
        calls(number)
        taken.append((clock() - started) / number)
    return statistics.median(taken)


def in_turns(
    systems: Mapping[str, Callable[[], float]],
    rounds: int,
    pick: Callable[[Sequence[float]], float] = statistics.median,
) -> dict[str, float]:
    """Return one figure for each system; rounds go over the systems in turn, so a busy moment hits them all.

    Args:
        systems: What measures a system once.
        rounds: How often.
        pick: Which of a system's figures stands for it: `min` of times and `max` of rates are those of its quietest
            round.
    """
    figures: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, once in systems.items():
            figures[name].append(once())
    return {name: pick(each) for name, each in figures.items()}
