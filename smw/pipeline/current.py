"""The pipeline of the current runtime as plain functions; decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from smw._kernel import current

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterable, Callable, Iterable, Mapping, MutableSequence
    from pathlib import Path

    from smw.pipeline.batch import BatchResult
    from smw.pipeline.deadletter import DeadLetter
    from smw.pipeline.over import RunSummary
    from smw.pipeline.part import Pipeline
    from smw.pipeline.ports import Stream

__all__ = ["dead_letters", "emit", "emit_sync", "run", "run_over", "serve", "stop"]


def _pipeline() -> Pipeline:
    return cast("Pipeline", current.part("pipeline"))


async def emit(name: str, value: Any, key: str | None = None, *, headers: Mapping[str, str] | None = None) -> str:
    """Append a value to a stream of the current runtime; see `Pipeline.emit`."""
    return await _pipeline().emit(name, value, key, headers=headers)


def emit_sync(name: str, value: Any, key: str | None = None, *, headers: Mapping[str, str] | None = None) -> str:
    """Append a value to a stream of the current runtime from blocking code; see `Pipeline.emit`."""
    return _pipeline().emit_sync(name, value, key, headers=headers)


async def serve(
    name: str, source: str | Stream | None = None, *, stop: asyncio.Event | None = None, until_empty: bool = False
) -> None:
    """Handle the records of a stream of the current runtime; see `Pipeline.serve`."""
    await _pipeline().serve(name, source, stop=stop, until_empty=until_empty)


def stop(name: str | None = None) -> None:
    """Tell `serve` of a stream, or of all, to stop gracefully; see `Pipeline.stop`."""
    _pipeline().stop(name)


async def run_over(
    name: str,
    records: Iterable[Any] | AsyncIterable[Any],
    *,
    key: Callable[[Any], str | None] | None = None,
    results: bool = False,
) -> RunSummary | BatchResult:
    """Run a handler or batch job over records without a broker; see `Pipeline.run_over`."""
    return await _pipeline().run_over(name, records, key=key, results=results)


def run(
    name: str,
    source: str | Path | Iterable[Any] | AsyncIterable[Any],
    to: str | Path | MutableSequence[Any] | None = None,
    *,
    batch_size: int | None = None,
) -> BatchResult:
    """Run a batch job over rows or a file; see `Pipeline.run`."""
    return _pipeline().run(name, source, to, batch_size=batch_size)


async def dead_letters(name: str, limit: int = 100) -> list[DeadLetter]:
    """Return the oldest dead letters of a stream; see `Pipeline.dead_letters`."""
    return await _pipeline().dead_letters(name, limit)
