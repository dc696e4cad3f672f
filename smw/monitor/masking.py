"""What must not appear in logs and health output: values under secret names, credentials in text; bounded and safe."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

__all__ = ["MASK", "mask", "mask_text", "short"]

MASK = "***"
_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)|secret|token|authorization|api[_-]?key|private[_-]?key|credential|cookie|session[_-]?id|csrf",
    re.IGNORECASE,
)
_IN_TEXT = (
    (re.compile(r"(?<=://)[^/\s:@]{0,256}:[^/\s@]{1,256}(?=@)"), MASK),
    (re.compile(r"\b(bearer|basic)\s{1,3}[\w.~+/=-]{6,}", re.IGNORECASE), rf"\1 {MASK}"),
    (
        re.compile(
            r"((?:password|passwd|secret|token|api[_-]?key)[\w-]{0,30}[\"']?\s{0,3}[=:]\s{0,3})"
            r"(\"[^\"]*\"|'[^']*'|[^\s,;&}\"']+)",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
)
_DEPTH = 6
_VALUES = 1000
_TEXT = 8192
_REPR = 256
_CUT = "…"


def mask_text(text: str) -> str:
    """Return `text`, cut at 8 KB, without the credentials that URLs, headers and assignments in it show."""
    text = text if len(text) <= _TEXT else text[: _TEXT - 1] + _CUT
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


def mask(value: Any, *, name: str = "") -> Any:
    """Return a copy of `value` that JSON can carry, with the values of secret names masked; never raises.

    Six levels and a thousand values at most, so cycles end. NaN and infinity become null, and objects that JSON
    does not know their short `repr`.

    Args:
        value: Anything.
        name: The key it was found under.
    """
    return _Copy().of(value, name, _DEPTH)


def short(value: object) -> str:
    """Return a short `repr` without credentials; never raises."""
    try:
        text = mask_text(repr(value))
    except Exception:  # noqa: BLE001 - a repr of the user's may do anything
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _REPR else text[: _REPR - 1] + _CUT


class _Copy:
    """One masked copy; counts its values."""

    def __init__(self) -> None:
        self._left = _VALUES

    def of(self, value: Any, name: str, depth: int) -> Any:
        self._left -= 1
        if name and _SECRET_NAME.search(name):
            return MASK
        if isinstance(value, Mapping | list | tuple | AbstractSet):
            return self._container(value, depth - 1)
        return _scalar(value)

    def _container(self, value: Any, depth: int) -> Any:
        if depth <= 0:
            return _CUT
        try:
            if isinstance(value, Mapping):
                names = {key if isinstance(key, str) else short(key): key for key in self._some(value)}
                return {name: self.of(value[key], name, depth) for name, key in names.items()}
            return [self.of(item, "", depth) for item in self._some(value)]
        except Exception:  # noqa: BLE001 - a container of the user's may do anything
            return f"<{type(value).__name__}>"

    def _some(self, values: Any) -> Any:
        for value in values:
            if self._left <= 0:
                return
            yield value


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and value.bit_length() <= 64:
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return mask_text(value[:_TEXT]) if isinstance(value, str) else short(value)
