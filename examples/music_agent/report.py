"""Prints the findings on one screen; decides nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from examples.music_agent.figures import percentile
from examples.music_agent.findings import Findings

_WIDTH = 110
_NAMES = {"l1": "L1 memory", "l2": "L2 Redis", "l3": "L3 memcached"}
_EXCERPT = (
    ("http_requests_total", {"method": "GET", "status": "200"}),
    ("business_playlist_created_total", {"outcome": "success"}),
    ("smw_stream_records_total", {"outcome": "dead"}),
)
_NEXT = (
    ("python3 noxfile.py tests", "the suite, on real servers"),
    ("{python} -m smw explain examples.music_agent.domain:get_playlist", "a function's decorators"),
    ("{python} -m uvicorn --factory examples.music_agent.app:create_app", "the service, for you"),
)


def show(found: Findings, *, plain: bool) -> None:
    """Print the summary.

    Args:
        found: What to print.
        plain: No colours.
    """
    console = Console(no_color=plain, width=_WIDTH, highlight=False)
    replay = found.replay
    console.print()
    console.print(
        f"[bold]smw demo[/]  {len(replay.samples):,} requests in {replay.took_s:.1f} s "
        f"({len(replay.samples) / replay.took_s:,.0f}/s), {found.sent} events; "
        f"traffic: {found.source}; {found.took_s:.0f} s in all"
    )
    both = Table.grid(padding=(0, 5))
    both.add_row(_caches(found), _latencies(found))
    console.print(both)
    console.print(_facts(found))
    console.print(_promises(found))
    console.print(_commands())
    for wrong in replay.wrong[:5]:
        console.print(f"[red]wrong[/]  {wrong}", markup=True)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left", no_wrap=True)
    return table


def _caches(found: Findings) -> Table:
    table = _table("cache hits", "cold", "restarted")
    for level, name in _NAMES.items():
        if found.backends.get(level) == "off":
            table.add_row(name, "off")
            continue
        counts = [figures.hits(level) for figures in found.phases]
        table.add_row(name, *(f"{hits:,}/{asked:,} {_share(hits, asked):>6}" for hits, asked in counts))
    return table


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _latencies(found: Findings) -> Table:
    table = _table("latency, ms", "count", "p50", "p95", "p99")
    samples = found.replay.samples
    groups = {
        "answered from cache": [sample.seconds for sample in samples if not sample.queries],
        "from the database": [sample.seconds for sample in samples if sample.queries],
        "all requests": [sample.seconds for sample in samples],
    }
    for name, seconds in groups.items():
        shares = (f"{percentile(seconds, share) * 1e3:.1f}" for share in (0.5, 0.95, 0.99))
        table.add_row(name, f"{len(seconds):,}", *shares)
    return table


def _facts(found: Findings) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    shadowed = found.figures.by("smw_access_shadowed_total", "control")
    outcomes = found.outcomes
    table.add_row("spans", _spans(found))
    table.add_row("audit log", _verdict(found))
    for tampering in found.tamperings:
        seen = f"found: {tampering.found.partition(':')[0]}" if tampering.found else "NOT FOUND"
        table.add_row("", f"copy with {tampering.what}: {seen}")
    table.add_row("compliance", f"development: {_listed(shadowed) or 'nothing'} would have been denied")
    then = "allowed" if found.allowed else "DENIED"
    table.add_row("", f"production: denied by {found.denied}; with a purpose {then}")
    table.add_row(
        "events",
        f"{found.sent} sent, {outcomes.get('done', 0)} processed, {outcomes.get('retried', 0)} retries, "
        f"{outcomes.get('dead', 0)} dead-lettered; the nightly job made {found.rows} rows of them",
    )
    if found.log:
        table.add_row("log line", Text(found.log[0], overflow="ellipsis", no_wrap=True))
    table.add_row("metrics", "\n".join(_excerpt(found)))
    table.add_row("what is on", "; ".join(f"{name} {state}" for name, state in found.backends.items()))
    return table


def _verdict(found: Findings) -> str:
    verification = found.verification
    if verification is None:
        return "not verified"
    signed = ", signed" if all(log.signed for log in verification.logs) else ""
    return f"verified: {verification.status}, {verification.records:,} records{signed}; kinds: {_listed(found.records)}"


def _spans(found: Findings) -> str:
    if found.spans is None:
        return "off (extra otel)"
    functions = {name: count for name, count in found.spans.most_common() if not name.startswith(("GET", "POST"))}
    served = found.spans.total() - sum(functions.values())
    return f"{found.spans.total():,} recorded: {served:,} requests, {_listed(functions)}"


def _excerpt(found: Findings) -> Iterable[str]:
    figures = found.figures
    for name, labels in _EXCERPT:
        shown = ",".join(f'{label}="{value}"' for label, value in labels.items())
        yield f"{name}{{{shown}}} {figures.total(name, **labels)}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _promises(found: Findings) -> Text:
    text = Text()
    for promise, kept in found.promises().items():
        text.append("ok   " if kept else "FAIL ", style="green" if kept else "bold red")
        text.append(f"{promise:<50}")
        if list(found.promises()).index(promise) % 2:
            text.append("\n")
    return text


def _commands() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(no_wrap=True)
    python = os.path.relpath(sys.executable)
    if python.startswith(".."):
        python = "python"
    for number, (command, about) in enumerate(_NEXT):
        table.add_row("[bold]next[/]" if not number else "", f"[cyan]{command.format(python=python)}[/]", about)
    return table
