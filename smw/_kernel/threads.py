"""Starts the threads that work in the background; knows neither their work nor what is done where none can be had."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_background"]


def in_background(work: Callable[[], object], name: str) -> threading.Thread | None:
    """Run `work` in a daemon thread; None where the process may have no more threads, or is ending.

    A limit on threads may be over in a moment, so whoever needs the work done asks again later.
    """
    thread = threading.Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread
