"""How keys and tag counters are called on servers: short, safe, in the service's own namespace, telling no argument."""

from __future__ import annotations

import re
import zlib

from smw.cache.keys import digest, encode
from smw.errors import ConfigError

__all__ = ["MARK", "Names", "fence_of", "is_fence"]

_SAFE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_KEY = re.compile(r"[!-~]{1,200}")
_REMEMBERED = 4096
MARK = 16
"""Digits of the mark of a function."""
_FENCES = 4096


def fence_of(key: str) -> str:
    """Return the name of the counter that is raised when `key` is dropped.

    Some keys share one, so that a server keeps few of them and has them all: a counter of each key's own would be
    missing both where the key was never dropped and where the server has forgotten that it was.

    Args:
        key: Full key.
    """
    return f"{key.rpartition(':')[0]}:f:{zlib.crc32(key.encode()) % _FENCES:x}"


def is_fence(counter: str) -> bool:
    """Tell whether a counter is that of some keys, rather than of a tag."""
    return counter.split(":")[2:-1] == ["f"]


class Names:
    """Names under one namespace.

    Args:
        namespace: What keeps services apart that share a server.
        secret: With it, nobody who reads the names can test guesses of arguments.
        owner: Keeps keys apart, but not tags, from those of other owners in the namespace.
    """

    def __init__(self, namespace: str, secret: bytes = b"", *, owner: bytes = b"") -> None:
        safe = namespace if _SAFE.fullmatch(namespace) else digest(namespace.encode("utf-8", "surrogatepass"))
        self._namespace = namespace
        self._secret = secret
        self._owner = owner
        self._key_form = f"smw:{safe}:"
        self._tag_form = f"smw:{safe}:t:"
        self._tags: dict[str, str] = {}
        self.everything = self._tag_form + "*"

    def key(self, encoded: bytes) -> str:
        """Return the full key of an encoded call."""
        return self._key_form + digest(self._owner + encoded, self._secret)

    def mark(self, encoded: bytes) -> str:
        """Return what stands for a function beside its keys."""
        return digest(self._owner + encoded, self._secret)[:MARK]

    def owned(self, owner: str) -> Names:
        """Return names whose keys, but not tags, are apart from those of other owners."""
        return Names(self._namespace, self._secret, owner=encode("owner", owner))

    def tag(self, text: str) -> str:
        """Return the name of a tag's counter."""
        name = self._tags.get(text)
        if name is None:
            if len(self._tags) >= _REMEMBERED:
                self._tags = {}
            name = self._tags[text] = self._tag_form + digest(text.encode("utf-8", "surrogatepass"), self._secret)
        return name

    @staticmethod
    def checked(key: object) -> str:
        """Return `key` if it can be a key.

        Raises:
            ConfigError: It cannot.
        """
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise ConfigError(
                "SMW-C110", "keys= takes full keys", seen=repr(key), fix="cache.key_for(function, *arguments)"
            )
        return str(key)
