"""Runs the benchmarks, prints one table, and keeps the rows as JSON and, where matplotlib is installed, a chart.

``python -m benchmarks [--quick] [--only NAME]``. Exit code 1 when a target is missed or a benchmark failed, else 0;
what could not be measured because a package or server is missing is listed, never counted as met. The chart shows the
last run of every benchmark.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import platform
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._chart import draw
from benchmarks._table import Row, meets, render

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
OWN = ("benchmarks", "examples", "smw", "tests")


def without(error: ImportError) -> str:
    """Say what an import that failed means: a package or server that is not here, or a fault of our own."""
    is_ours = (error.name or "").partition(".")[0] in OWN
    return f"failed: {error}" if is_ours else f"not measured: {error}"


def found() -> dict[str, ModuleType | str]:
    """Import every module here that offers ``NAME`` and ``run``; one that cannot be imported maps to the reason."""
    modules: dict[str, ModuleType | str] = {}
    for path in sorted(HERE.glob("[!_]*.py")):
        try:
            module = importlib.import_module(f"benchmarks.{path.stem}")
        except ImportError as error:
            modules[path.stem] = without(error)
            continue
        if hasattr(module, "NAME") and hasattr(module, "run"):
            modules[module.NAME] = module
    return modules


def measure(name: str, module: ModuleType, *, quick: bool) -> list[Row] | str:
    """Run one benchmark and say how long it took; a failure is returned as text and does not stop the others.

    A server or package without which nothing can be measured is an `ImportError`, and no failure.
    """
    print(f"measuring  {name} ...", end="", flush=True)
    started = time.perf_counter()
    try:
        rows = list(module.run(quick))
    except ImportError as error:
        print(" not measured", flush=True)
        return without(error)
    except Exception as error:  # noqa: BLE001 - one sick benchmark must not hide the figures of the others
        print(" failed", flush=True)
        traceback.print_exc()
        return f"failed: {type(error).__name__}: {error}"
    print(f" {time.perf_counter() - started:.1f} s", flush=True)
    return rows


def save(name: str, rows: list[Row], *, quick: bool) -> None:
    """Write a benchmark's rows, with what they were measured on, to ``results/NAME.json``."""
    RESULTS.mkdir(exist_ok=True)
    machine = {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()}
    table = [dataclasses.asdict(row) | {"ok": meets(row)} for row in rows]
    text = json.dumps({"name": name, "quick": quick, **machine, "rows": table}, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def kept(names: Iterable[str]) -> list[Row]:
    """Return the rows of each benchmark's last run, so that a run of one leaves the others in the chart."""
    rows: list[Row] = []
    for name in names:
        path = RESULTS / f"{name}.json"
        if path.exists():
            table = json.loads(path.read_text(encoding="utf-8"))["rows"]
            rows += [Row(**{key: value for key, value in row.items() if key != "ok"}) for row in table]
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks that were asked for and return the exit code."""
    modules = found()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure smw beside its peers.")
    parser.add_argument("--quick", action="store_true", help="few repetitions: shows that everything runs")
    parser.add_argument("--only", action="append", metavar="NAME", choices=sorted(modules), help=", ".join(modules))
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    troubles: dict[str, str] = {}
    for name in options.only or modules:
        module = modules[name]
        result = module if isinstance(module, str) else measure(name, module, quick=options.quick)
        if isinstance(result, str):
            troubles[name] = result
            continue
        save(name, result, quick=options.quick)
        rows += result
    print(f"\n{render(rows)}")
    for system, why in dict.fromkeys((row.system, row.why) for row in rows if row.value is None):
        print(f"not measured: {system}: {why}")
    for name, reason in troubles.items():
        print(f"{name}: {reason}")
    missed = [row for row in rows if meets(row) is False]
    print(
        f"\ntargets: {sum(meets(row) is True for row in rows)} met, {len(missed)} missed; rows in benchmarks/results/"
    )
    print(draw(kept(modules), RESULTS / "figures.png"))
    # Figures of a quick run are too rough to judge by.
    return int((bool(missed) and not options.quick) or any(text.startswith("failed") for text in troubles.values()))


if __name__ == "__main__":
    sys.exit(main())
