"""One form of a name for all spellings that people read as the same; it knows no name."""

from __future__ import annotations

import functools
import unicodedata

__all__ = ["fold"]

_INVISIBLE = frozenset({"Cf", "Cc"})


@functools.lru_cache(maxsize=4096)
def fold(name: str) -> str:
    """Return `name` without case, surrounding space, invisible characters and compatibility forms of letters."""
    text = unicodedata.normalize("NFKC", name)
    text = "".join(char for char in text if unicodedata.category(char) not in _INVISIBLE)
    return unicodedata.normalize("NFKC", text.casefold()).strip()
