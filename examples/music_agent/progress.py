"""Shows how far the demo is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_PLAIN_EVERY_S = 2.0


@contextmanager
def bar(title: str, total: int, *, plain: bool) -> Iterator[Callable[[], None]]:
    """Show the progress of one phase; yields the function to call after each step.

    Args:
        title: What is going on.
        total: Number of steps.
        plain: Lines instead of a bar.
    """
    if plain or not sys.stderr.isatty():
        yield _lines(title, total)
        return
    columns = (TextColumn("{task.description:<34}"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task)


def _lines(title: str, total: int) -> Callable[[], None]:
    done, said = 0, time.monotonic()
    print(f"{title} ({total})", flush=True)

    def step() -> None:
        nonlocal done, said
        done += 1
        now = time.monotonic()
        if now - said >= _PLAIN_EVERY_S:
            said = now
            print(f"{title}: {done} of {total}", flush=True)

    return step
