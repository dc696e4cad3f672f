"""A full key that still knows whose it is, so that tools can say more of it than of its text; does no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smw.cache.values.codec import Codec

__all__ = ["Key"]


class Key(str):
    """What `smw.cache.key_for` returns: the text of a full key, with what is known of its function.

    Attributes:
        fn: ``module:qualname``; None for a key of which only the text is known.
        tags: Names of the counters of its tags, that of everything first.
        labels: Its tags as they were written, filled in; None where they are not known.
        names: Levels behind memory that may keep it; None where they are not known.
        codec: The form of its values as bytes.
    """

    __slots__ = ("codec", "fn", "labels", "names", "tags")

    fn: str | None
    tags: tuple[str, ...]
    labels: tuple[str, ...] | None
    names: tuple[str, ...] | None
    codec: Codec | None

    @classmethod
    def of(
        cls,
        text: str,
        tags: tuple[str, ...],
        *,
        fn: str | None = None,
        labels: tuple[str, ...] | None = None,
        names: tuple[str, ...] | None = None,
        codec: Codec | None = None,
    ) -> Key:
        """Return the key with that text."""
        key = cls(text)
        key.fn, key.tags, key.labels, key.names, key.codec = fn, tags, labels, names, codec
        return key

    @property
    def scopes(self) -> tuple[str, ...]:
        """All under which its value can be dropped."""
        return (str(self), *self.tags)
