"""Whatever is done to the files of an audit log, `verify` does not call it ok."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smw._kernel.host import Host
from smw.security.trail.files import open_store
from smw.security.trail.log import Trail
from smw.security.trail.verify import verify

Files = dict[str, bytes]


def written(*, signed: bool, records: int = 9) -> Files:
    """Write a log of several segments and return its files by path below the trail folder."""
    signer = None
    if signed:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        from smw.security.trail.cryptography import Ed25519Signer

        signer = Ed25519Signer(Ed25519PrivateKey.from_private_bytes(b"\x07" * 32))
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        trail = Trail(
            lambda: open_store(base, lambda: os.urandom(6), segment_bytes=500), host=Host("svc"), signer=lambda: signer
        )
        for number in range(records):
            trail.put({"kind": "outcome", "action": "read", "n": number})
            trail.checkpoint()
        trail.close()
        return {str(path.relative_to(base)): path.read_bytes() for path in base.rglob("*") if path.is_file()}


UNSIGNED, SIGNED = written(signed=False), written(signed=True)
either = st.sampled_from([UNSIGNED, SIGNED])


def verdict(files: Files, since: str | None = None):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        return verify(folder, since=since)


def lines_of(files: Files) -> list[bytes]:
    return b"".join(files[name] for name in sorted(files) if name.endswith(".jsonl")).splitlines(keepends=True)


def relaid(files: Files, lines: list[bytes]) -> Files:
    """Lay lines into segments of the old lengths, so that file names still look right."""
    laid: Files = {}
    names = sorted(name for name in files if name.endswith(".jsonl"))
    starts = [int(Path(name).stem) for name in names]
    for name, start, end in zip(names, starts, [*starts[1:], max(len(lines), starts[-1])], strict=True):
        laid[name] = b"".join(lines[start:end])
    return files | laid


@pytest.mark.parametrize("files", [UNSIGNED, SIGNED], ids=["unsigned", "signed"])
def test_untouched_log_is_ok(files):
    """The log as it was written is ok, has several segments, and verifies without opening it."""
    found = verdict(files)
    assert (found.status, found.exit_code, found.records) == ("ok", 0, 11), str(found)
    assert sum(name.endswith(".jsonl") for name in files) > 2


@pytest.mark.parametrize("files", [UNSIGNED, SIGNED], ids=["unsigned", "signed"])
def test_every_byte_of_every_file_counts(files):
    """Flipping a bit of any one byte, file after file, is found each time."""
    for name, content in files.items():
        for at in range(len(content)):
            changed = bytearray(content)
            changed[at] ^= 1 << (at % 8)
            assert verdict(files | {name: bytes(changed)}).status != "ok", (name, at)


@given(either, st.data())
def test_any_bit_counts(files, data):
    """Flipping any bits of a file is found and is named tampering."""
    name = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[name])
    for at in data.draw(st.sets(st.integers(0, len(content) * 8 - 1), min_size=1, max_size=4)):
        content[at // 8] ^= 1 << (at % 8)
    found = verdict(files | {name: bytes(content)})
    assert found.status == "tampered", str(found)
    assert found.exit_code == 1


@given(either, st.data())
def test_a_dropped_line_is_found(files, data):
    """Any line that is taken out, the last one too, is missed."""
    lines = lines_of(files)
    del lines[data.draw(st.integers(0, len(lines) - 1))]
    assert verdict(relaid(files, lines)).status == "tampered"


@given(either, st.data())
def test_an_added_line_is_found(files, data):
    """A line put anywhere, also behind the last one, keeps the log from being ok."""
    lines = lines_of(files)
    at = data.draw(st.integers(0, len(lines)))
    lines.insert(at, data.draw(st.sampled_from([*lines, b"{}\n", b"\n"])))
    assert verdict(relaid(files, lines)).status != "ok"


@given(either, st.data())
def test_reordered_lines_are_found(files, data):
    """Two exchanged lines are found."""
    lines = lines_of(files)
    one, other = data.draw(st.lists(st.integers(0, len(lines) - 1), min_size=2, max_size=2, unique=True))
    lines[one], lines[other] = lines[other], lines[one]
    assert verdict(relaid(files, lines)).status == "tampered"


@given(either, st.data())
def test_a_missing_or_strange_file_is_found(files, data):
    """Each file belongs: one that is gone, renamed or added is found."""
    name = data.draw(st.sampled_from(sorted(files)))
    without = {other: content for other, content in files.items() if other != name}
    assert verdict(without).status == "tampered"
    assert verdict(without | {name + "x": files[name]}).status == "tampered"
    assert verdict(files | {"note.txt": b"hello"}).status == "tampered"


@given(st.sampled_from([False, True]), st.integers(1, 8))
def test_rolling_back_log_and_checkpoint_is_found_by_a_kept_checkpoint(signed, records):
    """A log cut back together with its checkpoint looks ok, and is found against a checkpoint kept elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        trail = Trail(lambda: open_store(base, lambda: os.urandom(6)), host=Host("svc"))
        trail.put({"kind": "outcome"})
        early = trail.checkpoint()
        old = {path: path.read_bytes() for path in base.rglob("*") if path.is_file()}
        for _ in range(records):
            trail.put({"kind": "outcome"})
        kept = trail.checkpoint()
        trail.close()
        assert verify(base, since=early).status == "ok"
        assert verify(base, since=kept).status == "ok"
        for path, content in old.items():
            path.write_bytes(content)
        assert verify(base).status == "ok"
        assert verify(base, since=kept).status == "tampered"
