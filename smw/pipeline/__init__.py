"""Streams and batches: a plain function handles a stream at least once, or transforms files in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smw.pipeline.batch import BatchResult
    from smw.pipeline.current import dead_letters, emit, emit_sync, run, run_over, serve, stop
    from smw.pipeline.deadletter import DeadLetter
    from smw.pipeline.decorators import batch_transform, stream_process
    from smw.pipeline.handler import RecordContext
    from smw.pipeline.over import RunSummary
    from smw.pipeline.part import Pipeline
    from smw.pipeline.ports import Entry, Record, Stream
    from smw.pipeline.retry import Retry
else:
    _NAMES = {
        "BatchResult": "batch",
        "DeadLetter": "deadletter",
        "Entry": "ports",
        "Pipeline": "part",
        "Record": "ports",
        "RecordContext": "handler",
        "Retry": "retry",
        "RunSummary": "over",
        "Stream": "ports",
        "batch_transform": "decorators",
        "dead_letters": "current",
        "emit": "current",
        "emit_sync": "current",
        "run": "current",
        "run_over": "current",
        "serve": "current",
        "stop": "current",
        "stream_process": "decorators",
    }

    def __getattr__(name: str) -> Any:
        import importlib

        if name in _NAMES:
            value = getattr(importlib.import_module(f"smw.pipeline.{_NAMES[name]}"), name)
            globals()[name] = value
            return value
        raise AttributeError(f"module 'smw.pipeline' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "BatchResult",
    "DeadLetter",
    "Entry",
    "Pipeline",
    "Record",
    "RecordContext",
    "Retry",
    "RunSummary",
    "Stream",
    "batch_transform",
    "dead_letters",
    "emit",
    "emit_sync",
    "run",
    "run_over",
    "serve",
    "stop",
    "stream_process",
]
