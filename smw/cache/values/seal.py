"""Encrypts and authenticates stored bytes with AES-256-GCM under a ring of keys; knows nothing of what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smw.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smw._kernel.clock import Entropy

__all__ = ["Seal"]

_NONCE_BYTES = 12


class Seal:
    """A ring of keys: the first one seals, every one opens.

    Args:
        keys: Identifier → 32 bytes.
        entropy: Where nonces come from.

    Raises:
        MissingExtra: The package cryptography is not installed.
    """

    def __init__(self, keys: Mapping[str, bytes], entropy: Entropy) -> None:
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            raise MissingExtra("encryption of cached values", package="cryptography", extra="crypto") from None
        self._ring: dict[bytes, Any] = {name.encode()[:255]: AESGCM(key) for name, key in keys.items()}
        self.key_id = next(iter(self._ring))
        self._sealing = self._ring[self.key_id]
        self._changed: type[Exception] = InvalidTag  # an import with each hit costs as much as the decryption
        self._entropy = entropy

    def seal(self, plain: bytes, bound_to: bytes) -> bytes:
        """Encrypt `plain` so that it opens only together with exactly `bound_to`."""
        nonce = self._entropy.token_bytes(_NONCE_BYTES)
        return nonce + bytes(self._sealing.encrypt(nonce, plain, bound_to))

    def knows(self, key_id: bytes) -> bool:
        """Tell whether a key of the ring has that identifier."""
        return key_id in self._ring

    def open(self, key_id: bytes, stored: bytes, start: int, bound_to: bytes) -> bytes | None:
        """Return what was sealed, or None when the key is not in the ring or anything was changed.

        Args:
            key_id: Of the key that has sealed it.
            stored: Ends with what `seal` has returned.
            start: Where that begins.
            bound_to: As it was sealed.
        """
        cipher, begins = self._ring.get(key_id), start + _NONCE_BYTES
        if cipher is None or len(stored) < begins:
            return None
        try:
            plain: bytes = cipher.decrypt(stored[start:begins], stored[begins:], bound_to)
        except self._changed:
            return None
        return plain
