"""Draws every ratio that has a target as a bar beside that target; decides nothing about the figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks._table import meets

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks._table import Row

__all__ = ["draw"]


def _is_share(target: str | None) -> bool:
    """Tell whether a target limits a cost as a share of the peer's: ``<= 0.5``, without a unit."""
    return target is not None and target.startswith("<= ") and target.count(" ") == 1


def draw(rows: Sequence[Row], path: Path) -> str:
    """Write the chart to `path` and return a line that says so, or why there is none."""
    bars = [row for row in rows if row.ratio is not None and _is_share(row.target)]
    if not bars:
        return "chart: no ratio was measured"
    try:
        import matplotlib as mpl
    except ImportError:
        return "chart: matplotlib is not installed"
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    bars.reverse()
    places = range(len(bars))
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.45 * len(bars)), layout="constrained")
    axes.barh(
        places, [row.ratio or 0.0 for row in bars], color=["#2a7f62" if meets(row) else "#b3423a" for row in bars]
    )
    for place, row in zip(places, bars, strict=True):
        limit = float((row.target or "").split()[1])
        axes.plot([limit, limit], [place - 0.4, place + 0.4], color="black", linewidth=1.5)
        axes.annotate(f" {row.ratio:.2f}", (max(row.ratio or 0.0, limit), place), va="center")
    axes.axvline(1.0, color="grey", linewidth=0.8, linestyle=":")
    axes.set_yticks(places, [f"{row.task}\n{row.system}" for row in bars], fontsize=8)
    axes.set_xlabel("cost as a share of the peer's in the same run (black: target, dotted: the peer)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return f"chart: benchmarks/results/{path.name}"
