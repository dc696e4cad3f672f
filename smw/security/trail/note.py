"""The text form of a checkpoint (C2SP tlog-checkpoint, signed note): write it, read it; knows no files."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from smw.security.trail.merkle import Tree

__all__ = ["Checkpoint", "Signature", "Signer", "key_id", "parse", "parse_all", "render"]

_ED25519 = b"\x01"
_FRONTIER = "frontier"
_CLOSED = "closed\n"
_NOTE = re.compile(
    r"(?P<body>(?P<origin>[^\n\s]+)\n(?P<size>\d{1,18})\n(?P<root>[A-Za-z0-9+/=]{44})\n"
    r"frontier(?P<frontier>(?: [A-Za-z0-9+/=]{44})*)\n(?P<closed>closed\n)?)"
    r"(?:\n\N{EM DASH} (?P<name>[^\n\s+]+) (?P<sig>[A-Za-z0-9+/=]+)\n)?"
)


class Signer(Protocol):
    """Signs checkpoints; its private half never comes near the log."""

    public: bytes

    def sign(self, text: bytes) -> bytes:
        """Return the Ed25519 signature of `text`."""
        ...


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line of a note.

    Args:
        name: Name of the key.
        key_id: First four bytes of the hash of name and public key.
        signature: The 64 bytes.
    """

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log commits to: who it is, how many lines it has, and the root over them.

    Args:
        origin: Name of the log, `service/log-id`.
        size: Lines covered.
        root: Root hash of those lines.
        frontier: Roots of the complete subtrees, so that a log can be continued without reading it all; an
            extension line, which hashes to `root` and so adds nothing that could be forged.
        closed: The writer ended here of its own accord, so there is nothing behind these lines; an extension line too.
        signature: None where no key signs.
        body: The signed text, exactly.
    """

    origin: str
    size: int
    root: bytes
    frontier: tuple[bytes, ...]
    closed: bool
    signature: Signature | None
    body: str

    def tree(self) -> Tree:
        """Return the tree at this checkpoint.

        Raises:
            ValueError: The frontier does not hash to the root.
        """
        tree = Tree(self.size, self.frontier)
        if tree.root() != self.root:
            msg = "the checkpoint's frontier does not hash to its root"
            raise ValueError(msg)
        return tree


def key_id(name: str, public: bytes) -> bytes:
    """Return the four bytes by which a note names an Ed25519 key."""
    return sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


def render(origin: str, tree: Tree, signer: Signer | None, *, closed: bool = False) -> str:
    """Return the checkpoint of `tree` as text, signed under the log's own name where a signer is given."""
    hashes = "".join(f" {_encode(node)}" for node in tree.frontier)
    body = f"{origin}\n{tree.size}\n{_encode(tree.root())}\n{_FRONTIER}{hashes}\n{_CLOSED if closed else ''}"
    if signer is None:
        return body
    signature = key_id(origin, signer.public) + signer.sign(body.encode())
    return f"{body}\n\N{EM DASH} {origin} {_encode(signature)}\n"


def parse(text: str) -> Checkpoint:
    """Read one checkpoint; every byte of the text must be as it would be written.

    Raises:
        ValueError: The text is not exactly one checkpoint.
    """
    found = parse_all(text)
    if len(found) != 1:
        msg = f"{len(found)} checkpoints where one belongs"
        raise ValueError(msg)
    return found[0]


def parse_all(text: str) -> list[Checkpoint]:
    """Read checkpoints that were written one after the other (`cat */checkpoint`).

    Raises:
        ValueError: Anything in the text is not part of a checkpoint, or there is none.
    """
    found: list[Checkpoint] = []
    position = 0
    while position < len(text):
        match = _NOTE.match(text, position)
        if match is None:
            msg = "not a checkpoint"
            raise ValueError(msg)
        found.append(_read(match))
        position = match.end()
    if not found:
        msg = "empty"
        raise ValueError(msg)
    return found


def _read(match: re.Match[str]) -> Checkpoint:
    signature = None
    if match["sig"] is not None:
        raw = _decode(match["sig"])
        if len(raw) != 4 + 64:
            msg = "the signature has another length than Ed25519's"
            raise ValueError(msg)
        signature = Signature(match["name"], raw[:4], raw[4:])
    if match["size"] != str(int(match["size"])):
        msg = "the size is not written in its shortest form"
        raise ValueError(msg)
    frontier = tuple(_decode(node) for node in match["frontier"].split())
    return Checkpoint(
        origin=match["origin"],
        size=int(match["size"]),
        root=_decode(match["root"]),
        frontier=frontier,
        closed=match["closed"] is not None,
        signature=signature,
        body=match["body"],
    )


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if _encode(data) != text:  # unused bits of the last character must not hide a flipped bit
        msg = "not canonical base64"
        raise ValueError(msg)
    return data
