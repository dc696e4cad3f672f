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
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            raise MissingExtra("encryption of cached values", package="cryptography", extra="crypto") from None
        self._ring: dict[bytes, Any] = {name.encode()[:255]: AESGCM(key) for name, key in keys.items()}
        self.key_id = next(iter(self._ring))
        self._sealing = self._ring[self.key_id]
        self._entropy = entropy

    def seal(self, plain: bytes, bound_to: bytes) -> bytes:
        """Encrypt `plain` so that it opens only together with exactly `bound_to`."""
        nonce = self._entropy.token_bytes(_NONCE_BYTES)
        return nonce + bytes(self._sealing.encrypt(nonce, plain, bound_to))

    def knows(self, key_id: bytes) -> bool:
        """Tell whether a key of the ring has that identifier."""
        return key_id in self._ring

    def open(self, key_id: bytes, sealed: bytes, bound_to: bytes) -> bytes | None:
        """Return what was sealed, or None when the key is not in the ring or anything was changed."""
        cipher = self._ring.get(key_id)
        if cipher is None or len(sealed) < _NONCE_BYTES:
            return None
        from cryptography.exceptions import InvalidTag

        try:
            return bytes(cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to))
        except InvalidTag:
            return None
