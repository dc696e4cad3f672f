"""How values become the bytes of a record and back; knows neither streams nor what a handler expects."""

from __future__ import annotations

import json
import re
from typing import Any

from smw.errors import RecordError

__all__ = ["decode", "encode", "plain"]

_TOO_LARGE = re.compile(rb"[eE]\+?\d{3}|\d{300}")


def encode(value: Any) -> bytes:
    """Return the bytes of a value: bytes as they are, everything else as JSON.

    Raises:
        RecordError: The value has no JSON form (or holds NaN or an infinity, which JSON does not know).
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    from pydantic_core import PydanticSerializationError, to_json

    try:
        data = to_json(value)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise _unwritable(value, str(error)) from None
    if b"NaN" in data or b"Infinity" in data:
        try:
            decode(data)
        except RecordError:
            raise _unwritable(value, "it holds NaN or an infinity") from None
    return data


def decode(data: bytes) -> Any:
    """Return the value of JSON bytes; NaN and infinities are refused.

    Raises:
        RecordError: It is no JSON.
    """
    from pydantic_core import from_json

    try:
        value = from_json(data, allow_inf_nan=False)
        if _TOO_LARGE.search(data):  # such a number is read as an infinity without a word
            json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise RecordError("SMW-P121", f"the record is no JSON: {error}") from None
    return value


def plain(value: Any) -> Any:
    """Return a value in terms of JSON types, for files.

    Raises:
        RecordError: It has no such form.
    """
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    try:
        return to_jsonable_python(value)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise _unwritable(value, str(error)) from None


def _unwritable(value: Any, why: str) -> RecordError:
    return RecordError(
        "SMW-P120",
        f"a value of type {type(value).__name__} cannot be written as JSON: {why}",
        fix="emit a dict, a dataclass, a pydantic model, or bytes that you have encoded yourself",
    )
