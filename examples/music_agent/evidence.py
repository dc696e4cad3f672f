"""What an auditor would do with the demo's audit log: verify it, change copies of it, and see each change found."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smw import security


@dataclass(frozen=True, slots=True)
class Tampering:
    """One way of changing a log behind its back.

    Args:
        what: What was done to the copy.
        found: The first thing that verification said about it; "" means that it saw nothing wrong.
    """

    what: str
    found: str


def make_keys(home: Path) -> tuple[Path | None, Path | None]:
    """Write a key that signs checkpoints and one that checks them; none without the extra `crypto`."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        return None, None
    key = Ed25519PrivateKey.generate()
    pem, pkcs8, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private, public = home / "audit.key", home / "audit.pub"
    private.write_bytes(key.private_bytes(pem, pkcs8, plain))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def kinds(trail: Path) -> Counter[str]:
    """Count the records of a log by kind."""
    return Counter(json.loads(line)["kind"] for segment in _segments(trail) for line in segment.open("rb"))


def tamper(trail: Path, earlier: Path, scratch: Path, key: Path | None) -> list[Tampering]:
    """Change copies of a log in three ways and verify each.

    Args:
        trail: The log; it stays untouched.
        earlier: A copy of the log and its checkpoint, taken earlier.
        scratch: Folder for the copies.
        key: Public key of the checkpoints, if they are signed.
    """
    kept = "".join(path.read_text() for path in trail.glob("*/checkpoint"))
    return [
        Tampering("one bit flipped", _changed(trail, scratch / "flipped", key, _flip)),
        Tampering("its last record dropped", _changed(trail, scratch / "dropped", key, _drop_last)),
        Tampering("log and checkpoint rolled back", _said(security.verify(earlier, key=key, since=kept))),
    ]


def _changed(trail: Path, copy: Path, key: Path | None, change: Callable[[Path], None]) -> str:
    shutil.copytree(trail, copy)
    change(_segments(copy)[-1])
    return _said(security.verify(copy, key=key))


def _said(verification: security.Verification) -> str:
    if verification.status == "ok":
        return ""
    return next(text for log in verification.logs for text in (*log.tampered, *log.incomplete))


def _flip(segment: Path) -> None:
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)


def _drop_last(segment: Path) -> None:
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(lines[:-1]))


def _segments(trail: Path) -> list[Path]:
    return sorted(trail.glob("*/*.jsonl"))
