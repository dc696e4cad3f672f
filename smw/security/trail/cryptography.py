"""Ed25519 for checkpoints through the `cryptography` package: load keys, sign, check; knows no log."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path
from typing import TYPE_CHECKING

from smw.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["Ed25519Signer", "load_public", "load_signer", "verify_signature"]

_PUBLIC_BYTES = 32
_PEM = "-----BEGIN"
_VERIFIER_KEY = re.compile(r"^[^\s+]+\+[0-9a-f]{8}\+")
_FIX = "write one with: openssl pkey -in audit.key -pubout -out audit.pub"


class Ed25519Signer:
    """Signs with one private key held in memory.

    Args:
        private: The key.
    """

    __slots__ = ("_private", "public")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()

    def sign(self, text: bytes) -> bytes:
        """Return the signature of `text`."""
        return self._private.sign(text)


def load_signer(path: Path) -> Ed25519Signer:
    """Read an Ed25519 private key (PEM, PKCS #8, unencrypted).

    Raises:
        ConfigError: The file cannot be read or holds another kind of key.
        MissingExtra: `cryptography` is not installed.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError:
        raise MissingExtra("signing the audit log", package="cryptography", extra="crypto") from None
    fix = "name a file made with: openssl genpkey -algorithm ed25519 -out audit.key"
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ConfigError("SMW-A110", f"security.signing_key cannot be read: {error.strerror}", fix=fix) from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError("SMW-A110", "security.signing_key holds no unencrypted PEM private key", fix=fix) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("SMW-A110", "security.signing_key is not an Ed25519 key", seen=type(key).__name__, fix=fix)
    return Ed25519Signer(key)


def load_public(key: str | Path | bytes) -> bytes:
    """Return the 32 bytes of a public key.

    Args:
        key: The bytes, PEM text, a C2SP verifier key (``name+hash+base64``), or a file of one of the last two.

    Raises:
        ConfigError: It is none of them.
        MissingExtra: `cryptography` is not installed and the key is PEM.
    """
    if isinstance(key, bytes):
        text = base64.b64encode(b"\x01" + key).decode() if len(key) == _PUBLIC_BYTES else key.decode("ascii", "replace")
    elif isinstance(key, str) and (_PEM in key or _VERIFIER_KEY.match(key)):
        text = key
    else:
        try:
            text = Path(key).read_text("ascii", "replace")
        except OSError as error:
            raise ConfigError("SMW-A111", f"the public key cannot be read: {error.strerror}", seen=key) from None
    if _PEM in text:
        return _load_pem(text)
    try:
        raw = base64.b64decode(_VERIFIER_KEY.sub("", text.strip()), validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != 1 + _PUBLIC_BYTES or raw[0] != 1:
        raise ConfigError("SMW-A111", "the public key is neither PEM nor a verifier key", fix=_FIX)
    return raw[1:]


def _load_pem(text: str) -> bytes:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        raise MissingExtra("checking a signed audit log", package="cryptography", extra="crypto") from None
    try:
        loaded = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        loaded = None
    if not isinstance(loaded, Ed25519PublicKey):
        raise ConfigError("SMW-A111", "this is not the PEM text of an Ed25519 public key", fix=_FIX)
    return loaded.public_bytes_raw()


def verify_signature(public: bytes, signature: bytes, text: bytes) -> bool:
    """Tell whether `signature` is that of `text` under the public key.

    Raises:
        MissingExtra: `cryptography` is not installed.
    """
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise MissingExtra("checking a signed audit log", package="cryptography", extra="crypto") from None
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
    except InvalidSignature:
        return False
    return True
