"""Draws our column beside each peer's, a panel a task; decides nothing about the figures."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from benchmarks._table import meets

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks._table import Row

__all__ = ["draw"]

OURS, MISSED, THEIRS = "#2a7f62", "#b3423a", "#a9b4c0"
COLUMNS = 3
RATES = ("/s", "records/s", "requests/s", "%")


def _panels(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows of each task in which we stand beside somebody; what was not measured is left to the table."""
    found = []
    for (_, _), group in itertools.groupby(rows, key=lambda row: (row.task, row.unit)):
        each = [row for row in group if row.value is not None]
        ours = sum(_ours(row) for row in each)
        if 0 < ours < len(each):
            found.append(each)
    return found


def _ours(row: Row) -> bool:
    return row.system.startswith(("smw", "@", "import smw"))


def _label(row: Row) -> str:
    value = row.value or 0.0
    text = f" {value:,.3g}" if value < 1000 else f" {value:,.0f}"
    if row.target is None:
        return text
    is_ratio = row.ratio is not None and row.target.count(" ") == 1
    return f"{text}  (ratio {row.ratio:.2f}, target {row.target})" if is_ratio else f"{text}  (target {row.target})"


def _panel(axes: Any, panel: list[Row]) -> None:
    rows = [*reversed(panel)]
    values = [max(row.value or 0.0, 0.0) for row in rows]
    colours = [(MISSED if meets(row) is False else OURS) if _ours(row) else THEIRS for row in rows]
    axes.barh(range(len(rows)), values, color=colours)
    axes.set_yticks(range(len(rows)), [row.system for row in rows], fontsize=6.5)
    for place, (row, value) in enumerate(zip(rows, values, strict=True)):
        axes.annotate(_label(row), (value, place), va="center", fontsize=6.5)
    better = "more is better" if rows[0].unit in RATES else "less is better"
    axes.set_title(f"{rows[0].task}\n{rows[0].unit}, {better}", fontsize=7.5, loc="left")
    axes.set_xlim(0, max(values) * 1.6 or 1)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def draw(rows: Sequence[Row], path: Path) -> str:
    """Write the chart to `path` and return a line that says so, or why there is none."""
    panels = _panels(rows)
    if not panels:
        return "chart: nothing was measured beside a peer"
    try:
        import matplotlib as mpl
    except ImportError:
        return "chart: matplotlib is not installed"
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    lines = [panels[first : first + COLUMNS] for first in range(0, len(panels), COLUMNS)]
    heights = [0.75 + 0.2 * max(len(panel) for panel in line) for line in lines]
    figure, grid = plt.subplots(
        len(lines), COLUMNS, figsize=(17, sum(heights)), layout="constrained", height_ratios=heights, squeeze=False
    )
    for line, axes in zip(lines, grid, strict=True):
        for place, each in enumerate(axes):
            if place < len(line):
                _panel(each, line[place])
            else:
                each.axis("off")
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return f"chart: benchmarks/results/{path.name} (green: smw, red: smw where it misses its target)"
