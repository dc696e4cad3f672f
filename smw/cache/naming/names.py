"""How keys and tag counters are called on servers: short, safe, in the service's own namespace, telling no argument."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from zlib import crc32

from smw.cache.naming.arguments import DIGEST_BYTES, digest, encode
from smw.errors import ConfigError

__all__ = ["MARK", "Names", "checked", "fence_of", "is_fence", "is_full_key"]

_SAFE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{32}")
_FULL = re.compile(rf"smw:({_SAFE.pattern}):{_DIGEST.pattern}")
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
    return key.rpartition(":")[0] + _ending(crc32(key.encode()) % _FENCES)


@lru_cache(maxsize=_FENCES)
def _ending(number: int) -> str:
    return f":f:{number:x}"


def is_fence(counter: str) -> bool:
    """Tell whether a counter is that of some keys, rather than of a tag."""
    return counter.split(":")[2:-1] == ["f"]


def is_full_key(name: str, prefix: str) -> bool:
    """Tell whether what a server lists under the prefix of a namespace is the key of a value."""
    return name.startswith(prefix) and _DIGEST.fullmatch(name, len(prefix)) is not None


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
        self._begun = hashlib.blake2b(owner, digest_size=DIGEST_BYTES, key=secret)
        self._key_form = f"smw:{safe}:"
        self._tag_form = f"smw:{safe}:t:"
        self._tags: dict[str, str] = {}
        self.everything = self._tag_form + "*"

    @property
    def prefix(self) -> str:
        """What all names of the namespace begin with."""
        return self._key_form

    def key(self, encoded: bytes) -> str:
        """Return the full key of an encoded call."""
        return self._key_form + self._digest(encoded)

    def mark(self, encoded: bytes) -> str:
        """Return what stands for a function beside its keys."""
        return self._digest(encoded)[:MARK]

    def _digest(self, encoded: bytes) -> str:
        state = self._begun.copy()  # half the price of a new one
        state.update(encoded)
        return state.hexdigest()

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

    def text_of(self, counter: str) -> str:
        """Say which tag a counter is that of, as far as this process has named it of late."""
        if counter == self.everything:
            return "everything"
        known = (text for text, name in list(self._tags.items()) if name == counter)
        return next((f"tag {text}" for text in known), "a tag that this process has not named of late")

    def checked(self, key: object) -> str:
        """Return `key` if it can be one of this namespace.

        Raises:
            ConfigError: It cannot; names the namespace that it is of.
        """
        return checked(key, self._key_form)


def checked(
    key: object, prefix: str, *, what: str = "keys= takes full keys", fix: str = "cache.key_for(function, *arguments)"
) -> str:
    """Return `key` if it can be one of a namespace: one of another would be dropped there, and in no memory.

    Args:
        key: What is said to be a full key.
        prefix: What keys of the namespace begin with.
        what: What is said of a text that is no full key.
        fix: Where such a key is to be had.

    Raises:
        ConfigError: It cannot.
    """
    if isinstance(key, str) and is_full_key(key, prefix):
        return str(key)
    other = _FULL.fullmatch(key) if isinstance(key, str) else None
    if other is None:
        raise ConfigError("SMW-C110", what, seen=repr(key), fix=fix)
    what = f"this key is of the namespace {other[1]}, and this cache's is {prefix.split(':')[1]}"
    fix = f"drop it where the service is {other[1]}: SMW_SERVICE={other[1]}, or CACHE_NAMESPACE"
    raise ConfigError("SMW-C110", what, seen=key, fix=fix)
