"""Inclusion and consistency proofs of RFC 9162, made from leaf hashes and checked without the log; knows no files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smw.security.trail.merkle import EMPTY_ROOT, node_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["consistency", "inclusion", "verify_consistency", "verify_inclusion"]


def _split(size: int) -> int:
    """Return the largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def _root(leaves: Sequence[bytes]) -> bytes:
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    k = _split(len(leaves))
    return node_hash(_root(leaves[:k]), _root(leaves[k:]))


def inclusion(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the hashes that lead from leaf `index` to the root.

    Args:
        leaves: Leaf hashes of the whole log.
        index: Which leaf; from 0.

    Raises:
        IndexError: There is no such leaf.
    """
    if not 0 <= index < len(leaves):
        msg = f"no leaf {index} among {len(leaves)}"
        raise IndexError(msg)
    if len(leaves) == 1:
        return []
    k = _split(len(leaves))
    if index < k:
        return [*inclusion(leaves[:k], index), _root(leaves[k:])]
    return [*inclusion(leaves[k:], index - k), _root(leaves[:k])]


def consistency(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """Return the hashes that show the first `old_size` leaves to be a prefix of the log.

    Args:
        leaves: Leaf hashes of the whole log.
        old_size: Size of the earlier log; at least 1.

    Raises:
        IndexError: `old_size` is not within the log.
    """
    if not 0 < old_size <= len(leaves):
        msg = f"size {old_size} is not within 1..{len(leaves)}"
        raise IndexError(msg)
    return _subproof(leaves, old_size, whole=True)


def _subproof(leaves: Sequence[bytes], old_size: int, *, whole: bool) -> list[bytes]:
    if old_size == len(leaves):
        return [] if whole else [_root(leaves)]
    k = _split(len(leaves))
    if old_size <= k:
        return [*_subproof(leaves[:k], old_size, whole=whole), _root(leaves[k:])]
    return [*_subproof(leaves[k:], old_size - k, whole=False), _root(leaves[:k])]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Tell whether `proof` leads from `leaf` at `index` to the root of a tree of `size` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last = leaf, size - 1
    for other in proof:
        if not last:
            return False
        if index & 1 or index == last:
            node = node_hash(other, node)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            node = node_hash(node, other)
        index, last = index >> 1, last >> 1
    return not last and node == root


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Tell whether `proof` shows the tree of `old_size` to be a prefix of that of `new_size` (RFC 9162, 2.1.4.2)."""
    if not 0 < old_size <= new_size:
        return False
    if old_size == new_size:
        return not proof and old_root == new_root
    path = list(proof)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    old, new = old_size - 1, new_size - 1
    while old & 1:
        old, new = old >> 1, new >> 1
    old_node = new_node = path[0]
    for node in path[1:]:
        if not new:
            return False
        if old & 1 or old == new:
            old_node, new_node = node_hash(node, old_node), node_hash(node, new_node)
            while not old & 1 and old:
                old, new = old >> 1, new >> 1
        else:
            new_node = node_hash(new_node, node)
        old, new = old >> 1, new >> 1
    return not new and old_node == old_root and new_node == new_root
