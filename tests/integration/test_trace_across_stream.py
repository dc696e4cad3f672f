"""A trace goes on where the record that it emitted is handled."""

from __future__ import annotations

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import smw
from smw import pipeline
from smw.testing import isolated


async def test_the_handler_is_part_of_the_trace_that_emitted(monkeypatch):
    """The consumer span is a child of the emitting span, and what the handler traces is below it."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)

    @smw.trace("note")
    async def note(event: dict[str, int]) -> None:
        del event

    @smw.stream_process("traced_events")
    async def handle(event: dict[str, int]) -> None:
        await note(event)

    @smw.trace("produce")
    async def produce() -> None:
        await pipeline.emit("traced_events", {"n": 1})

    with isolated():
        await produce()
        await pipeline.serve("traced_events", until_empty=True)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"produce", "process record", "note"}
    trace_ids = {span.context.trace_id for span in spans.values()}
    assert len(trace_ids) == 1
    assert spans["process record"].parent.span_id == spans["produce"].context.span_id
    assert spans["note"].parent.span_id == spans["process record"].context.span_id


async def test_without_a_tracer_nothing_travels():
    """No headers are added where nobody traces."""
    seen = []

    @smw.stream_process("untraced_events")
    async def handle(event: dict[str, int], ctx: pipeline.RecordContext) -> None:
        seen.append(dict(ctx.headers))

    with isolated():
        await pipeline.emit("untraced_events", {"n": 1})
        await pipeline.serve("untraced_events", until_empty=True)
    assert seen == [{}]
