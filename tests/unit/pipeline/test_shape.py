"""The annotation decides what a handler gets; what does not fit is dead at once and names the field."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from smw import pipeline
from smw.errors import ConfigError, RecordError


class Event(BaseModel):
    user_id: int
    kind: str = "play"


@dataclasses.dataclass
class Plain:
    user_id: int
    at: dt.datetime


class Typed(TypedDict):
    user_id: int


async def first_of(annotation, value):
    """Run one value through a handler with this annotation; return what it got, or its dead letter."""
    own = pipeline.Pipeline()
    got = []

    def handler(event):
        got.append(event)

    handler.__annotations__["event"] = annotation
    own.stream_process("s")(handler)
    summary = await own.run_over("s", [value])
    return got[0] if got else summary.dead[0]


@pytest.mark.parametrize(
    ("annotation", "value", "got"),
    [
        (Event, b'{"user_id": "7"}', Event(user_id=7)),
        (Event, {"user_id": 7, "kind": "skip"}, Event(user_id=7, kind="skip")),
        (Event, Event(user_id=1), Event(user_id=1)),
        ("Event", b'{"user_id": 7}', Event(user_id=7)),
        (Plain, b'{"user_id": 7, "at": "2026-01-02T03:04:05"}', Plain(7, dt.datetime(2026, 1, 2, 3, 4, 5))),  # noqa: DTZ001
        (Typed, b'{"user_id": 7}', {"user_id": 7}),
        (dict, b'{"a": [1, null]}', {"a": [1, None]}),
        (dict[str, Any], b'{"a": 1}', {"a": 1}),
        (dict[str, int], b'{"a": 1}', {"a": 1}),
        (Mapping, b"{}", {}),
        (bytes, b"\xff\x00", b"\xff\x00"),
        (str, b'"text"', "text"),
        (int | None, b"null", None),
        (Any, b"[1, 2]", [1, 2]),
        (list[Event], b'{"user_id": 7}', [Event(user_id=7)]),
        (list, b'{"user_id": 7}', [{"user_id": 7}]),
        (Sequence[int], b"5", [5]),
    ],
)
async def test_what_a_handler_gets(annotation, value, got):
    """Bytes are decoded and converted; objects are converted; a list gathers records."""
    assert await first_of(annotation, value) == got


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (Event, b'{"user_id": "x"}', "user_id: Input should be a valid integer"),
        (Event, b"{}", "user_id: Field required"),
        (Event, b"{", "Invalid JSON"),
        (list[Event], b"{}", "user_id: Field required"),
        (dict[str, dict[str, int]], b'{"a": {"b": "no"}}', "a.b: "),
        (dict, b"[1]", "takes a JSON object, not list"),
        (dict, b"null", "takes a JSON object, not NoneType"),
        (bytes, {"a": 1}, "takes bytes, not dict"),
        (Any, b'{"a": NaN}', "no JSON"),
        (Any, b"\xff", "no JSON"),
        (Any, b"[" * 100_000, "no JSON"),
    ],
)
async def test_what_does_not_fit_is_dead_after_one_look(annotation, value, said):
    """No retry, the field's path in the error, and the content of the record not in it."""
    letter = await first_of(annotation, value)
    assert (letter.reason, letter.attempts, letter.value) == ("refused", 1, value)
    assert said in letter.error
    assert "'x'" not in letter.error


async def test_the_context_of_a_record():
    """A parameter named `ctx` knows stream, key, position, headers and attempt."""
    own = pipeline.Pipeline()
    seen = []

    @own.stream_process("s", retry=pipeline.Retry(first=0.001))
    def handler(event, *, ctx: pipeline.RecordContext):
        seen.append(ctx)
        if ctx.attempt == 1:
            raise ValueError

    await own.emit("s", {}, key="k", headers={"h": "1"})
    await own.serve("s", until_empty=True)
    assert [ctx.attempt for ctx in seen] == [1, 2]
    assert {(ctx.stream, ctx.key, ctx.headers["h"], ctx.idempotency_id) for ctx in seen} == {("s", "k", "1", "s/1")}
    assert seen[0].at > 0


async def test_the_contexts_of_a_batch():
    """A handler of many records gets a context for each."""
    own = pipeline.Pipeline()
    seen = []

    @own.stream_process("s")
    async def handler(events: list, ctx):
        seen.append([(event, one.position) for event, one in zip(events, ctx, strict=True)])

    for number in range(3):
        await own.emit("s", number)
    await own.serve("s", until_empty=True)
    assert seen == [[(0, "1"), (1, "2"), (2, "3")]]


async def test_a_local_annotation_is_found_in_the_closure():
    """A type of an enclosing function resolves where the handler closes over it; otherwise the error says so."""

    class Local(BaseModel):
        n: int

    own = pipeline.Pipeline()

    @own.stream_process("known")
    def known(event: Local):
        assert type(event) is Local

    @own.stream_process("unknown")
    def unknown(event: Local): ...

    assert (await own.run_over("known", [{"n": 1}])).done == 1
    with pytest.raises(ConfigError, match="cannot be resolved"):
        await own.run_over("unknown", [{"n": 1}])


async def test_an_annotation_that_nothing_can_convert_to():
    """A class without a schema is named before anything runs."""

    class Opaque:
        pass

    own = pipeline.Pipeline()

    def handler(event): ...

    handler.__annotations__["event"] = Opaque
    own.stream_process("s")(handler)
    with pytest.raises(ConfigError, match="cannot be converted"):
        await own.run_over("s", [1])


@pytest.mark.parametrize("value", [float("nan"), {"a": float("inf")}, object()])
async def test_what_cannot_be_emitted(value):
    """A value without a JSON form is refused by emit, with a way out."""
    own = pipeline.Pipeline()
    own.stream_process("s")(lambda event: None)
    with pytest.raises(RecordError) as caught:
        await own.emit("s", value)
    assert caught.value.code == "SMW-P120"


async def test_values_keep_their_text():
    """Words that look like NaN inside strings are just text."""
    own = pipeline.Pipeline()
    got = []
    own.stream_process("s")(got.append)
    await own.emit("s", {"said": "NaN Infinity"})
    await own.serve("s", until_empty=True)
    assert got == [{"said": "NaN Infinity"}]
