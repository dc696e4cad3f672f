"""How rows reach a terminal or a pipe; knows nothing of what they mean."""

from __future__ import annotations

import json
import os
import shutil
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["as_json", "as_table", "shown"]

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "not checked": "magenta"}
_NARROW = 100
_WIDEST = 72  # a cell beyond it pushes its own row out, not all of them


def as_json(value: Any) -> None:
    """Print `value` as indented JSON."""
    typer.echo(json.dumps(value, indent=2, default=str))


def shown(text: str, *, lines: bool = False) -> str:
    """Return `text` with all that would steer a terminal, or turn the order of what is read, as escapes.

    Args:
        text: What may come from a server, a file or a caller.
        lines: Whether it has several lines, whose ends stay.
    """
    if text.isprintable():
        return text
    return "".join([part if _is_safe(part, lines=lines) else _escaped(part) for part in text])


def _is_safe(part: str, *, lines: bool) -> bool:
    return part.isprintable() or unicodedata.category(part) == "Zs" or (lines and part == "\n")


def _escaped(part: str) -> str:
    return part.encode("unicode_escape").decode("ascii")


def as_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, marks: int | None = None) -> None:
    """Print rows: as a table on a wide terminal, as blocks on a narrow one, one row a line in a pipe.

    Colours only where a terminal reads them and ``NO_COLOR`` is not set.

    Args:
        title: Line above, "" for none.
        columns: Heads of the columns.
        rows: One text a column.
        marks: Column whose words have colours.
    """
    if title:
        typer.echo(shown(title))
    rows = [[shown(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        _aligned(columns, rows)
    elif shutil.get_terminal_size().columns < _NARROW:
        _blocks(columns, rows, marks)
    else:
        _folded(columns, rows, marks)


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print one line a row, never folded or cut, so that ``grep`` and ``awk`` find whole rows."""
    widths = [min(max(map(_width, cells)), _WIDEST) for cells in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        cells = [cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        typer.echo("  ".join(cells).rstrip())


def _width(cell: str) -> int:
    """Return how many columns a text takes: letters of some scripts take two."""
    if cell.isascii():
        return len(cell)
    from rich.cells import cell_len

    return cell_len(cell)


def _blocks(columns: Sequence[str], rows: Sequence[Sequence[str]], marks: int | None) -> None:
    """Print the first two cells of a row in a line and each other one below it, indented."""
    for row in rows:
        mark = _coloured(row[1]) if marks == 1 else row[1]
        typer.echo(f"{row[0]}  {mark}".rstrip())
        for column, cell in list(zip(columns, row, strict=True))[2:]:
            if cell:
                typer.echo(f"    {column}: {cell}")


def _folded(columns: Sequence[str], rows: Sequence[Sequence[str]], marks: int | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        # Names are what people copy: they are not broken, the texts behind them give way.
        table.add_column(column, overflow="fold", no_wrap=number == 0)
    for row in rows:
        cells = [Text(cell) for cell in row]
        if marks is not None:
            cells[marks].stylize(_COLOURS.get(row[marks], ""))
        table.add_row(*cells)
    Console().print(table)


def _coloured(word: str) -> str:
    return word if os.environ.get("NO_COLOR") else typer.style(word, fg=_COLOURS.get(word))
