"""The hash tree and its proofs against slow references written straight from RFC 6962."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smw.security.trail.merkle import Tree, leaf_hash
from smw.security.trail.proofs import consistency, inclusion, verify_consistency, verify_inclusion

lines = st.lists(st.binary(max_size=8), max_size=70)


def reference_root(items: list[bytes]) -> bytes:
    if not items:
        return sha256(b"").digest()
    if len(items) == 1:
        return sha256(b"\x00" + items[0]).digest()
    k = 1
    while k * 2 < len(items):
        k *= 2
    return sha256(b"\x01" + reference_root(items[:k]) + reference_root(items[k:])).digest()


@given(lines)
def test_frontier_root_is_the_reference_root(items):
    """The incremental tree has the root that the recursive definition gives, at every size on the way."""
    tree = Tree()
    for count, item in enumerate(items):
        assert tree.root() == reference_root(items[:count])
        tree.append(item)
    assert tree.root() == reference_root(items)
    assert Tree(tree.size, tree.frontier).root() == tree.root()


@given(lines, lines)
def test_tree_continues_from_its_frontier(before, after):
    """A tree rebuilt from size and frontier grows like the one that saw every line."""
    whole, first = Tree(), Tree()
    whole.extend(before + after)
    first.extend(before)
    resumed = Tree(first.size, first.frontier)
    resumed.extend(after)
    assert resumed.root() == whole.root()


@given(lines.filter(bool), st.data())
def test_inclusion_proof_holds_only_for_its_leaf(items, data):
    """A leaf is proven at its own place under the root, and nowhere else, and no other leaf is."""
    leaves = [leaf_hash(item) for item in items]
    index = data.draw(st.integers(0, len(items) - 1))
    root, proof = reference_root(items), inclusion(leaves, index)
    assert verify_inclusion(leaves[index], index, len(items), proof, root)
    assert not verify_inclusion(leaf_hash(b"another line"), index, len(items), proof, root)
    assert not verify_inclusion(leaves[index], index, len(items), [*proof, root], root)
    assert not verify_inclusion(leaves[index], len(items), len(items), proof, root)
    if proof:
        assert not verify_inclusion(leaves[index], index, len(items), proof[:-1], root)


@given(lines.filter(bool), st.data())
def test_consistency_proof_holds_only_for_a_prefix(items, data):
    """An earlier root is proven to be a prefix; a root over changed lines is not."""
    leaves = [leaf_hash(item) for item in items]
    old_size = data.draw(st.integers(1, len(items)))
    old, new = reference_root(items[:old_size]), reference_root(items)
    proof = consistency(leaves, old_size)
    assert verify_consistency(old_size, old, len(items), new, proof)
    forged = reference_root([*items[: old_size - 1], items[old_size - 1] + b"!"])
    assert not verify_consistency(old_size, forged, len(items), new, proof)
    assert not verify_consistency(old_size, old, len(items), forged, proof)
    assert not verify_consistency(len(items) + 1, old, len(items), new, proof)
    assert not verify_consistency(old_size, old, len(items), new, [*proof, old])


KNOWN_LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
KNOWN_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_known_answers_of_certificate_transparency():
    """The roots over the leaves that certificate transparency tests with are those that it publishes."""
    tree = Tree()
    assert tree.root().hex() == KNOWN_ROOTS[0]
    for leaf, root in zip(KNOWN_LEAVES, KNOWN_ROOTS[1:], strict=True):
        tree.append(bytes.fromhex(leaf))
        assert tree.root().hex() == root


@pytest.mark.parametrize(("size", "frontier"), [(1, []), (2, [b"x" * 32, b"y" * 32]), (-1, []), (1, [b"short"])])
def test_frontier_must_fit_the_size(size, frontier):
    """A frontier that does not belong to the size is refused instead of giving some root."""
    with pytest.raises(ValueError, match="frontier"):
        Tree(size, frontier)


@pytest.mark.parametrize("index", [-1, 3])
def test_no_proof_for_what_is_not_there(index):
    """Asking for a leaf or a size outside the log is an error, not an empty proof."""
    leaves = [leaf_hash(b"a"), leaf_hash(b"b"), leaf_hash(b"c")]
    with pytest.raises(IndexError):
        inclusion(leaves, index)
    with pytest.raises(IndexError):
        consistency(leaves, 4 if index == 3 else 0)
