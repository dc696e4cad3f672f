"""The files in the folder that workers share, opened and indexed; knows neither what to do with the dead nor sums."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from smw.monitor.naming import named
from smw.monitor.slab import Pages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from smw.monitor.cells import Labels
    from smw.monitor.instruments import Instrument
    from smw.monitor.totals import Rows

__all__ = ["FOLDED", "Folder", "Opened"]

_log = logging.getLogger("smw.monitor")
_SUFFIX = ".cells"
FOLDED = b"folded:"
"""Start of the record that names the files which the sums of the dead have taken in."""


@dataclass(slots=True)
class _Index:
    """Which series a file has; they only ever become more, so what was read once need not be read again."""

    at: int = 0
    series: list[tuple[Instrument, list[tuple[Labels, slice]]]] = field(default_factory=list)
    places: dict[int, list[tuple[Labels, slice]]] = field(default_factory=dict)
    folded: frozenset[str] = frozenset()

    def update(self, pages: Pages, known: dict[tuple[Any, ...], Instrument]) -> None:
        for name, place, after in pages.names(self.at):
            self.at = after
            if name.startswith(FOLDED):
                self.folded = frozenset(name.removeprefix(FOLDED).decode().split())
                continue
            instrument, labels = named(name, known)
            if id(instrument) not in self.places:
                self.places[id(instrument)] = []
                self.series.append((instrument, self.places[id(instrument)]))
            self.places[id(instrument)].append((labels, place))


class Opened:
    """One file at this moment; drop it soon.

    Args:
        pages: The file.
        index: What is in it.

    Attributes:
        pages: The file.
        folded: Names of the files it has taken in.
    """

    __slots__ = ("_index", "folded", "pages")

    def __init__(self, pages: Pages, index: _Index) -> None:
        self.pages = pages
        self._index = index
        self.folded = index.folded

    def rows(self, *, gauges: bool) -> Iterator[Rows]:
        """Yield its series by instrument; gauges only where its worker still has them."""
        cells = self.pages.cells
        for instrument, series in self._index.series:
            if gauges or instrument.kind != "gauge":
                yield instrument, [(labels, cells(place)) for labels, place in series]


class Folder:
    """What a folder holds.

    Args:
        path: The folder.

    Attributes:
        path: The folder.
        base: The file with the sums of the dead.
        lock: The file that is locked by who replaces it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.base = path / "dead"
        self.lock = path / "lock"
        self._known: dict[tuple[Any, ...], Instrument] = {}
        self._indexes: dict[str, _Index] = {}
        self._base_index: tuple[tuple[int, ...], _Index] = ((), _Index())
        self._said: set[str] = set()

    def fresh(self, stem: str) -> Path:
        """Return the path of a new worker's file."""
        return self.path / f"{stem}{_SUFFIX}"

    def names(self) -> set[str]:
        """Return the names of the workers' files, and forget those that are gone."""
        names = {entry.name for entry in os.scandir(self.path) if entry.name.endswith(_SUFFIX)}
        for gone in self._indexes.keys() - names:
            del self._indexes[gone]
        return names

    def worker(self, name: str) -> Opened | None:
        """Open a worker's file; None where it is gone, or was never finished.

        Raises:
            OSError: It is there and cannot be opened.
        """
        return self._open(self.path / name, self._indexes.setdefault(name, _Index()))

    def dead(self) -> tuple[tuple[int, ...], Opened | None]:
        """Open the sums of the dead; with them comes a mark that changes whenever they do.

        Raises:
            OSError: They are there and cannot be opened.
        """
        mark = self.mark()
        known, index = self._base_index
        if known != mark:
            index = _Index()
        opened = self._open(self.base, index) if mark else None
        self._base_index = (mark, index)
        return mark, opened

    def mark(self) -> tuple[int, ...]:
        """Return what tells one state of the sums of the dead from the next."""
        try:
            stat = self.base.stat()
        except FileNotFoundError:
            return ()
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _open(self, path: Path, index: _Index) -> Opened | None:
        try:
            pages = Pages(path)
            index.update(pages, self._known)
        except FileNotFoundError:
            return None
        except ValueError as error:
            self.say(path.name, error)
            return None
        return Opened(pages, index)

    def say(self, name: str, error: Exception) -> None:
        """Log once that a file cannot be read."""
        if name not in self._said:
            self._said.add(name)
            _log.warning("the figures in %s cannot be read: %s", self.path / name, error)
