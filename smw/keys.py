"""How keys are written in settings; no message of it shows one, and it knows not what they are for."""

from __future__ import annotations

import base64
from collections.abc import Mapping

__all__ = ["key_file", "key_ring"]

_KEY_BYTES = 32
_KEY_FORM = "write id:KEY, several with commas, KEY being 32 bytes in base64 as of: openssl rand -base64 32"
_SIZES = {32, 48, 64, 72, 96}
"""Bytes of a seed, a PKCS #8 file or a pair of Ed25519 in base64, and of the same in hexadecimal read as base64."""


def key_ring(value: object) -> object:
    """Take a ring of keys, as id to 32 bytes.

    Raises:
        ValueError: Something is wrong; it is told by its place, for id and key may have been mixed up.
    """
    given: list[tuple[object, object]]
    if isinstance(value, str):
        items = [item.partition(":") for item in value.split(",") if item.strip()]
        for number, (_, colon, _) in enumerate(items, 1):
            if not colon:
                raise _wrong_key(number, len(items), "has no id: in front")
        given = [(name.strip(), text.strip()) for name, _, text in items]
    elif isinstance(value, Mapping):
        given = list(value.items())
    else:
        msg = f"keys are given as text or as a mapping, not as {type(value).__name__}; {_KEY_FORM}"
        raise ValueError(msg)  # noqa: TRY004 - pydantic takes no other
    keys: dict[str, bytes] = {}
    for number, (name, raw) in enumerate(given, 1):
        why = "has no id" if not isinstance(name, str) or not name else "has the id of another" if name in keys else ""
        if why:
            raise _wrong_key(number, len(given), why)
        keys[str(name)] = _key(raw, number, len(given))
    return keys


def _key(raw: object, number: int, total: int) -> bytes:
    if not isinstance(raw, str | bytes):
        raise _wrong_key(number, total, f"is neither base64 nor bytes, but of type {type(raw).__name__}")
    try:
        key = raw if isinstance(raw, bytes) else base64.b64decode(raw, validate=True)
    except ValueError:  # binascii.Error, or letters beyond ASCII
        raise _wrong_key(number, total, "is not base64") from None
    if len(key) != _KEY_BYTES:
        raise _wrong_key(number, total, f"has {len(key)} bytes instead of {_KEY_BYTES}")
    return key


def _wrong_key(number: int, total: int, why: str) -> ValueError:
    which = "the key" if total == 1 else f"key {number} of {total}"
    return ValueError(f"{which} {why}; {_KEY_FORM}")


def key_file(value: object) -> object:
    """Take the path of a key's file.

    Raises:
        ValueError: It is a key itself; the message does not have it.
    """
    if isinstance(value, str) and ("-----BEGIN" in value or not value.isprintable() or _is_bare_key(value)):
        msg = "it names the file of a key, and is not the key itself"
        raise ValueError(msg)
    return value


def _is_bare_key(text: str) -> bool:
    """Tell whether a text is no path but an Ed25519 key as JSON, base64 or hexadecimal, which decodes as base64 too."""
    plain = text.strip().rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        size = len(base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True))
    except ValueError:
        return plain.startswith("{")
    return size in _SIZES and (text[0] != "/" or text.endswith("="))
