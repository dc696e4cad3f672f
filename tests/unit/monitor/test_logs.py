"""JSON logs: five fields, whatever is logged; secrets masked; installed with the monitor and gone with it."""

from __future__ import annotations

import json
import logging

import pytest

from smw.monitor import JsonFormatter, Monitor, span
from smw.monitor.masking import mask, mask_text


def line(message="hello", *args, exc_info=None, **extra):
    record = logging.getLogger("smw.cache").makeRecord(
        "smw.cache", logging.INFO, __file__, 1, message, args, exc_info, extra=extra or None
    )
    record.created = 1705314600.123
    text = JsonFormatter().format(record)
    assert "\n" not in text
    assert text.isascii()
    return json.loads(text)


def test_a_line_has_exactly_five_fields():
    """The format is a promise: timestamp in UTC, level, component, message, metadata."""
    assert line("Cache hit", cache_level="L1", ttl=3600) == {
        "timestamp": "2024-01-15T10:30:00.123Z",
        "level": "INFO",
        "component": "smw.cache",
        "message": "Cache hit",
        "metadata": {"cache_level": "L1", "ttl": 3600},
    }


def test_the_component_can_be_named():
    """An extra `component` stands in its field."""
    assert line(component="cache_middleware")["component"] == "cache_middleware"
    assert "component" not in line(component="cache_middleware")["metadata"]


def test_ids_of_the_current_span_are_there(exporter):
    """While a span is current its ids are in the metadata, and not after."""
    with Monitor().span("work") as opened:
        metadata = line()["metadata"]
    context = opened.get_span_context()
    assert metadata == {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
    assert line()["metadata"] == {}


def test_an_exception_is_in_the_metadata():
    """Type and traceback go to the metadata, on the same line."""
    try:
        int("odd")
    except ValueError as error:
        metadata = line(exc_info=(ValueError, error, error.__traceback__))["metadata"]
    assert metadata["exception"] == "ValueError"
    assert "ValueError: invalid literal" in metadata["traceback"]


class Hostile:
    def __repr__(self):
        raise RuntimeError

    __str__ = __repr__


CYCLE: list = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        (float("-inf"), None),
        (Hostile(), "<Hostile>"),
        (b"raw", "b'raw'"),
        (10**40, str(10**40)),
        ({1: {2}, None: (1,)}, {"1": [2], "None": [1]}),
        ("\ud800 ü 😀", "? ü 😀"),
        (True, True),
    ],
)
def test_what_json_does_not_know_becomes_something_it_does(value, expected):
    """NaN becomes null, an unknown object its short text; nothing raises."""
    assert line(value=value)["metadata"]["value"] == expected


def test_cycles_and_huge_values_end():
    """A cycle, a deep and a huge structure are cut."""
    huge = [[[[[[[list(range(1000))]]]]]]] * 100
    metadata = line(cycle=CYCLE, huge=huge, text="x" * 10**6)["metadata"]
    assert len(json.dumps(metadata)) < 50_000


@pytest.mark.parametrize(("message", "args"), [("%d", ("x",)), ("%s %s", (1,)), (Hostile(), ()), ("%s", (Hostile(),))])
def test_a_message_that_cannot_be_formatted_is_kept(message, args):
    """Arguments that do not fit lose nothing but themselves."""
    assert isinstance(line(message, *args)["message"], str)


@pytest.mark.parametrize(
    "name", ["password", "db_password", "X-Api-Key", "authorization", "Set-Cookie", "access_token", "clientSecret"]
)
def test_values_under_secret_names_are_masked(name):
    """However deep, a value under a secret name never shows."""
    text = json.dumps(line(**{name.replace("-", "_"): "s3cr3t"}, request={"headers": [{name: "s3cr3t"}]}))
    assert "s3cr3t" not in text
    assert "***" in text


@pytest.mark.parametrize(
    "text",
    [
        "redis://user:s3cr3t@host:6379/0",
        "Authorization: Bearer s3cr3ts3cr3t",
        "password=s3cr3t&x=1",
        '{"api_key": "s3cr3t"}',
        "token: s3cr3t, next",
    ],
)
def test_credentials_in_text_are_masked(text):
    """URLs, headers and assignments in a message lose their credentials, and only those."""
    assert "s3cr3t" not in line(text)["message"]
    assert "s3cr3t" not in line("%s", text)["message"]
    assert mask_text("redis://host:6379/0 took 3 s") == "redis://host:6379/0 took 3 s"


def test_masking_copies():
    """What is logged is not changed."""
    value = {"password": "x", "n": [1]}
    assert mask(value) == {"password": "***", "n": [1]}
    assert value == {"password": "x", "n": [1]}


def test_masking_long_text_is_quick():
    """Text made to slow a pattern down takes no longer than its length."""
    for text in ("token" * 2000, "a-" * 5000, "://" * 3000, "bearer " * 1200):
        mask_text(text)


def test_the_handler_comes_with_the_monitor_and_goes_with_it(capsys):
    """`logs="json"` adds one handler to the logger `smw` on opening; two monitors share it; the last takes it away."""
    logger = logging.getLogger("smw")
    before = list(logger.handlers)
    one, two = Monitor(logs="json"), Monitor(logs="json")
    assert logger.handlers == before
    one.open()
    one.open()
    two.open()
    logging.getLogger("smw.test").warning("once", extra={"token": "x"})
    one.close()
    one.close()
    assert len(logger.handlers) == len(before) + 1
    two.close()
    assert logger.handlers == before
    (written,) = capsys.readouterr().err.splitlines()
    assert json.loads(written)["metadata"] == {"token": "***"}


def test_logging_inside_a_span_of_the_runtime(runtime, exporter, capsys):
    """Through the runtime's own functions the ids agree with the span."""
    with Monitor(logs="json"), span("work") as opened:
        logging.getLogger("smw.test").warning("inside")
    written = json.loads(capsys.readouterr().err)
    assert written["metadata"]["trace_id"] == f"{opened.get_span_context().trace_id:032x}"
