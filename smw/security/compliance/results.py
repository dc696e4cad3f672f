"""Which named fields a result has, by looking through it; it neither changes the result nor judges it."""

from __future__ import annotations

import json
import re
from typing import Any

from smw.security.compliance.shapes import NODES_MAX, inside, is_leaf

__all__ = ["field_names"]

# A name before a colon, as JSON has it: also inside other text, on lines of its own, and encoded twice.
_JSON_NAME = re.compile(r'"((?:[^"\\]|\\u[0-9a-fA-F]{4}){1,128})\\*"\s*:')


def field_names(result: object) -> tuple[frozenset[str], bool]:
    """Return the names of all fields in a result, and whether all of it could be seen.

    Mappings, sequences, sets, dataclasses, named tuples, models, responses, exceptions and objects with attributes
    are looked into, and JSON in texts and bytes; iterators and other opaque things are not, and neither is more
    than twenty thousand values.

    Args:
        result: What the function returned.
    """
    names: set[str] = set()
    seen: dict[int, object] = {}  # the objects too: a number of a forgotten one may be another's
    pending: list[Any] = [result]
    complete = True
    while pending:
        value = pending.pop()
        if isinstance(value, str | bytes | bytearray | memoryview):
            names.update(_json_names(value))
        if is_leaf(value) or isinstance(value, memoryview) or id(value) in seen:
            continue
        if len(seen) >= NODES_MAX:
            return frozenset(names), False
        seen[id(value)] = value
        try:
            parts = inside(value)
        except Exception:  # noqa: BLE001 - its own code fails while it is looked at: it was not seen
            parts = None
        if parts is None:
            complete = False
            continue
        for named, child in parts:
            names.update(named)
            pending.append(child)
    return frozenset(names), complete


def _json_names(value: str | bytes | bytearray | memoryview) -> list[str]:
    text = value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")
    if ":" not in text:
        return []
    return [json.loads(f'"{name}"', strict=False) for name in _JSON_NAME.findall(text)]
