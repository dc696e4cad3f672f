"""What is kept of a record that could not be handled: all of it, and why; knows no store."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from smw.errors import RecordError
from smw.pipeline.ports import NO_HEADERS
from smw.pipeline.values import decode, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SUFFIX", "DeadLetter"]

SUFFIX = ".dlq"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was given up, with everything needed to handle it again.

    Args:
        stream: Name of the stream.
        position: Its place there.
        value: Its original bytes (for `run_over`, the object itself).
        reason: ``refused`` (it does not fit the handler, or the handler raised `RecordError`), ``failed`` (every
            attempt raised), or ``crashed`` (every attempt ended with the death of its worker).
        error: Type and message of the last error, with the path of the field for refused records.
        attempts: Attempts that were made.
        at: When it was given up, seconds since the epoch.
        key: Its key.
        headers: Its headers.
    """

    stream: str
    position: str
    value: Any = field(repr=False)
    reason: str
    error: str
    attempts: int
    at: float
    key: str | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)

    def to_bytes(self) -> bytes:
        """Return the letter as JSON: the value as text where it is text, in base64 otherwise."""
        letter: dict[str, Any] = {
            "stream": self.stream, "position": self.position, "key": self.key, "headers": dict(self.headers),
            "reason": self.reason, "error": self.error, "attempts": self.attempts, "at": self.at,
        }  # fmt: skip
        value = encode(self.value)
        try:
            letter["value"] = value.decode()
        except UnicodeDecodeError:
            letter["value_base64"] = base64.b64encode(value).decode("ascii")
        return encode(letter)

    @classmethod
    def from_bytes(cls, data: bytes) -> DeadLetter:
        """Read a letter back.

        Raises:
            RecordError: It is none.
        """
        letter = decode(data)
        try:
            if "value_base64" in letter:
                value = base64.b64decode(letter.pop("value_base64"), validate=True)
            else:
                value = letter.pop("value").encode()
            return cls(value=value, **letter)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise RecordError("SMW-P122", f"not a dead letter: {type(error).__name__}") from None
