"""W3C trace context in and out of every kind of carrier; what is malformed counts as absent and never raises."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage
from opentelemetry import trace as api

from smw.monitor import extract, inject, span

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{PARENT}-01"


def ids(context):
    found = api.get_current_span(context).get_span_context()
    return (f"{found.trace_id:032x}", f"{found.span_id:016x}") if found.is_valid else None


@pytest.mark.parametrize(
    "carrier",
    [
        {"traceparent": VALID},
        {"TraceParent": VALID},
        {b"traceparent": VALID.encode()},
        {"traceparent": VALID.encode()},
        {"traceparent": [VALID]},
        [("traceparent", VALID.encode())],
        [(b"traceparent", VALID.encode())],
        [(b"Traceparent", bytearray(VALID.encode()))],
    ],
)
def test_every_kind_of_carrier_is_read(carrier):
    """Mappings, ASGI headers, Kafka headers and Redis fields, text or bytes, names in any case."""
    assert ids(extract(carrier)) == (TRACE, PARENT)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "garbage",
        VALID.upper(),
        VALID + "-extra",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-0",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        VALID + "-" + "x" * 100_000,
        "\ud800",
    ],
)
def test_a_malformed_traceparent_is_none(value, caplog):
    """What the specification refuses is ignored without an error."""
    with caplog.at_level(logging.ERROR):
        assert ids(extract({"traceparent": value})) is None
    assert caplog.records == []


def test_a_later_version_is_read_as_this_one():
    """A higher version with further fields is understood as far as it is known."""
    assert ids(extract({"traceparent": f"cc-{TRACE}-{PARENT}-01-what-comes-later"})) == (TRACE, PARENT)


def test_two_traceparents_are_none():
    """More than one traceparent is no valid one."""
    assert ids(extract([("traceparent", VALID), ("TRACEPARENT", VALID)])) is None


def test_several_tracestates_are_one():
    """The members of several tracestate fields are combined in order."""
    context = extract([("traceparent", VALID), ("tracestate", "a=1"), ("tracestate", "b=2")])
    assert dict(api.get_current_span(context).get_span_context().trace_state) == {"a": "1", "b": "2"}


@pytest.mark.parametrize("state", ["a=1,a=2", "=", "a=" + "x" * 9000, "é=1"])
def test_a_malformed_tracestate_costs_the_state_alone(state, caplog):
    """The trace goes on without its state."""
    with caplog.at_level(logging.CRITICAL):
        context = extract({"traceparent": VALID, "tracestate": state})
    assert ids(context) == (TRACE, PARENT)
    assert dict(api.get_current_span(context).get_span_context().trace_state or {}) == {}


def test_baggage_is_read_and_not_forwarded(runtime, exporter):
    """Baggage of the caller can be read; it does not leave with our own requests."""
    context = extract({"traceparent": VALID, "baggage": "tenant=acme"})
    assert baggage.get_baggage("tenant", context) == "acme"
    with span("work", context=context):
        assert set(inject({})) == {"traceparent"}


@pytest.mark.parametrize("carrier", [None, 5, [], {}, "text", [1, 2], [("a",)], {"x": object()}])
def test_anything_else_is_an_empty_context(carrier):
    """Whatever is passed for headers, reading never raises."""
    assert ids(extract(carrier)) is None


@given(st.dictionaries(st.sampled_from(["traceparent", "tracestate", "baggage"]), st.text() | st.binary()))
def test_no_header_whatsoever_raises(headers):
    """Text and bytes of any content are read without raising."""
    logging.disable(logging.CRITICAL)
    try:
        extract(headers)
    finally:
        logging.disable(logging.NOTSET)


def test_inject_and_extract_are_inverse(runtime, exporter):
    """What leaves through a mapping or a list comes in with the same ids, and a child keeps the trace."""
    with span("send") as sending:
        fields, pairs = inject({}), inject([])
    assert all(isinstance(value, bytes) for _, value in pairs)
    sent = sending.get_span_context()
    assert ids(extract(fields)) == ids(extract(pairs)) == (f"{sent.trace_id:032x}", f"{sent.span_id:016x}")
    with span("receive", context=extract(pairs)) as receiving:
        assert receiving.get_span_context().trace_id == sent.trace_id


def test_inject_replaces_and_keeps_the_rest(runtime, exporter):
    """Old trace fields in any case are replaced, other headers stay."""
    headers = {"Traceparent": VALID, "accept": "*/*"}
    pairs = [(b"traceparent", VALID.encode()), ("key", b"1")]
    with span("send"):
        assert inject(headers) is headers
        assert inject(pairs) is pairs
    assert sorted(headers) == ["accept", "traceparent"]
    assert [name for name, _ in pairs] == ["key", "traceparent"]
    assert headers["traceparent"] != VALID


def test_without_a_span_nothing_is_written():
    """A carrier passes untouched where no span is current."""
    assert inject({"traceparent": VALID}) == {"traceparent": VALID}
    assert inject([]) == []
