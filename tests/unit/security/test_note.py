"""Checkpoints as text, keys, signatures and what `verify` says about signed logs."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from smw import errors, security
from smw.security import Security
from smw.security.trail import note
from smw.security.trail.cryptography import load_public, load_signer, verify_signature
from smw.security.trail.merkle import Tree

PRIVATE = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
PUBLIC = PRIVATE.public_key().public_bytes_raw()


def pem(key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "audit.key"
    path.write_bytes(pem(PRIVATE))
    (tmp_path / "audit.pub").write_bytes(public_pem(PRIVATE))
    return path


def tree(count: int) -> Tree:
    made = Tree()
    made.extend(str(n).encode() for n in range(count))
    return made


@pytest.mark.parametrize("count", [0, 1, 6, 1000])
def test_text_reads_back(count):
    """A checkpoint says origin, size and root as the specification lays them out, and reads back as written."""
    text = note.render("svc/0001", tree(count), None)
    read = note.parse(text)
    assert text.splitlines()[:3] == ["svc/0001", str(count), base64.b64encode(tree(count).root()).decode()]
    assert (read.origin, read.size, read.root, read.signature) == ("svc/0001", count, tree(count).root(), None)
    assert read.tree().root() == tree(count).root()


def test_signature_follows_the_note_format(key_file):
    """The signature line names the key, its id and signs exactly the text above the blank line."""
    text = note.render("svc/0001", tree(3), load_signer(key_file))
    body, line = text.split("\n\n")
    dash, name, payload = line.strip().split(" ")
    raw = base64.b64decode(payload)
    assert (dash, name) == ("\N{EM DASH}", "svc/0001")
    assert raw[:4] == note.key_id("svc/0001", PUBLIC)
    PRIVATE.public_key().verify(raw[4:], (body + "\n").encode())
    assert verify_signature(PUBLIC, raw[4:], (body + "\n").encode())
    assert not verify_signature(PUBLIC, raw[4:], body.encode())


def test_several_checkpoints_in_one_text(key_file):
    """Checkpoints of several logs may be kept in one file, signed or not."""
    texts = [note.render("svc/0001", tree(3), load_signer(key_file)), note.render("svc/0002", tree(1), None)]
    assert [c.origin for c in note.parse_all("".join(texts))] == ["svc/0001", "svc/0002"]
    with pytest.raises(ValueError, match="2 checkpoints"):
        note.parse("".join(texts))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text + "\n",
        lambda text: text.replace("\n3\n", "\n03\n"),
        lambda text: text.replace("=\n", "\n", 1),
        lambda text: text.replace("frontier", "Frontier"),
        lambda text: text + "\n\N{EM DASH} svc/0001 " + base64.b64encode(b"short").decode() + "\n",
    ],
)
def test_anything_else_is_no_checkpoint(spoil):
    """A text that is not exactly as written is refused."""
    with pytest.raises(ValueError, match=r"."):
        note.parse(spoil(note.render("svc/0001", tree(3), None)))


def test_frontier_must_hash_to_the_root():
    """A checkpoint whose frontier is another tree's is refused when it is used."""
    good, other = (note.render("svc/0001", tree(count), None).splitlines(keepends=True) for count in (3, 5))
    with pytest.raises(ValueError, match="frontier"):
        note.parse("".join([*good[:3], other[3]])).tree()


def signed_log(path: Path, key: Path) -> str:
    part = Security(trail_dir=path, signing_key=str(key))
    part.trail.put({"kind": "outcome"})
    text = part.trail.checkpoint()
    part.close()
    return text


def test_signed_log_verifies_with_its_key_only(tmp_path, key_file):
    """The right key makes a signed log ok, however it is given; another key, or an unsigned log, is tampering."""
    signed_log(tmp_path / "trail", key_file)
    vkey = "svc+00000000+" + base64.b64encode(b"\x01" + PUBLIC).decode()
    for key in (
        tmp_path / "audit.pub",
        str(tmp_path / "audit.pub"),
        public_pem(PRIVATE),
        public_pem(PRIVATE).decode(),
        PUBLIC,
        vkey,
    ):
        found = security.verify(tmp_path / "trail", key=key)
        assert found.status == "ok", str(found)
        assert found.logs[0].signed
    other = Ed25519PrivateKey.generate()
    assert security.verify(tmp_path / "trail", key=public_pem(other)).status == "tampered"
    plain = Security(trail_dir=tmp_path / "plain")
    plain.trail.put({"kind": "outcome"})
    plain.close()
    assert security.verify(tmp_path / "plain", key=PUBLIC).status == "tampered"


def test_without_a_key_the_recorded_one_is_used(tmp_path, key_file):
    """Without `key` the signature is checked against the key that the log names, and the verdict says so."""
    signed_log(tmp_path / "trail", key_file)
    found = security.verify(tmp_path / "trail")
    assert found.status == "ok"
    assert "pass the key" in str(found)


def test_stripped_signature_is_found(tmp_path, key_file):
    """Taking the signature off a signed log is found without knowing the key."""
    signed_log(tmp_path / "trail", key_file)
    checkpoint = next((tmp_path / "trail").rglob("checkpoint"))
    checkpoint.write_text(checkpoint.read_text().partition("\n\n")[0] + "\n")
    assert security.verify(tmp_path / "trail").status == "tampered"


def test_key_may_change_between_runs(tmp_path, key_file):
    """A new key begins a new log, for continuing one would sign all of it; each verifies with its own key."""
    signed_log(tmp_path / "trail", key_file)
    second = Ed25519PrivateKey.generate()
    (tmp_path / "second.key").write_bytes(pem(second))
    signed_log(tmp_path / "trail", tmp_path / "second.key")
    old, new = sorted((tmp_path / "trail").iterdir())
    assert security.verify(old, key=public_pem(PRIVATE)).status == "ok"
    assert security.verify(new, key=public_pem(second)).status == "ok"
    assert security.verify(tmp_path / "trail").status == "ok"


def test_a_restart_signs_no_checkpoint_that_lost_its_signature(tmp_path, key_file):
    """Whoever rewrites a signed log cannot have it signed again by a restart of the service."""
    signed_log(tmp_path / "trail", key_file)
    (log,) = (tmp_path / "trail").iterdir()
    body = (log / "checkpoint").read_text().partition("\n\n")[0].removesuffix("\nclosed") + "\n"
    (log / "checkpoint").write_text(body)
    with max(log.glob("*.jsonl")).open("rb+") as segment:
        lines = segment.read().splitlines()
        forged = {"kind": "outcome", "log": log.name, "seq": len(lines), "actor": "innocent"}
        segment.write(json.dumps(forged).encode() + b"\n")
    signed_log(tmp_path / "trail", key_file)
    assert security.verify(tmp_path / "trail", key=public_pem(PRIVATE)).status == "tampered"
    assert (log / "checkpoint").read_text() == body


def test_private_key_never_lies_beside_the_log(tmp_path, key_file):
    """A signing key inside the trail folder is refused, and no file of the log holds the key."""
    signed_log(tmp_path / "trail", key_file)
    with pytest.raises(errors.ConfigError, match="lies in"):
        Security(trail_dir=tmp_path, signing_key=str(key_file))
    secrets = (b"\x01" * 32, base64.b64encode(b"\x01" * 32), pem(PRIVATE).splitlines()[1])
    for path in (tmp_path / "trail").rglob("*"):
        assert path.is_dir() or not any(secret in path.read_bytes() for secret in secrets)


@pytest.mark.parametrize("content", [None, b"no key", pem(generate_private_key(SECP256R1()))])
def test_wrong_signing_key_is_a_configuration_error(tmp_path, content):
    """A signing key that is missing, garbage or of another kind is named when the log opens."""
    path = tmp_path / "x.key"
    if content is not None:
        path.write_bytes(content)
    part = Security(trail_dir=tmp_path / "trail", signing_key=str(path))
    with pytest.raises(errors.ConfigError, match=r"security\.signing_key"):
        part.trail.put({"kind": "outcome"})
    part.close()


@pytest.mark.parametrize(
    "key",
    [
        "/nowhere/audit.pub",
        b"-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n",
        "svc+00000000+AAAA",
        public_pem(generate_private_key(SECP256R1())),
    ],
)
def test_wrong_public_key_is_a_configuration_error(key):
    """A public key that cannot be read is an error, never a verdict."""
    with pytest.raises(errors.ConfigError, match="key"):
        load_public(key)


def test_missing_package_names_the_extra(tmp_path, key_file, monkeypatch):
    """Without the crypto extra, signing and checking say what to install."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for step in (
        lambda: load_signer(key_file),
        lambda: load_public(tmp_path / "audit.pub"),
        lambda: verify_signature(PUBLIC, b"x" * 64, b""),
    ):
        with pytest.raises(errors.MissingExtra, match="crypto"):
            step()


def test_verdicts_of_odd_folders(tmp_path):
    """No folder, an empty one and a log without records are incomplete; one log alone can be verified."""
    assert security.verify(tmp_path / "none").exit_code == 2
    assert security.verify(tmp_path).exit_code == 2
    part = Security(trail_dir=tmp_path / "trail")
    log = part.trail.log_id
    part.close()
    assert security.verify(tmp_path / "trail" / log).status == "ok"
    (tmp_path / "other" / "0001-0123456789ab").mkdir(parents=True)
    assert security.verify(tmp_path / "other").exit_code == 2


def test_since_must_be_a_checkpoint(tmp_path):
    """A `since` that is no checkpoint is an error, never a verdict."""
    with pytest.raises(errors.ConfigError, match="since"):
        security.verify(tmp_path, since="nonsense\n")
    with pytest.raises(errors.ConfigError, match="since"):
        security.verify(tmp_path, since=tmp_path / "none")


def test_since_finds_a_log_that_is_gone(tmp_path):
    """A kept checkpoint of a log that is not there any more is tampering, also when nothing else is left."""
    part = Security(trail_dir=tmp_path / "trail")
    text = part.trail.checkpoint()
    part.close()
    for path in sorted((tmp_path / "trail").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    found = security.verify(tmp_path / "trail", since=text)
    assert found.status == "tampered"
    assert "is gone" in str(found)
    file = tmp_path / "kept"
    file.write_text(text)
    assert security.verify(tmp_path / "trail", since=str(file)).exit_code == 1


def test_calls_without_outcome_are_pointed_out(tmp_path):
    """A call that began and never ended is a remark of the verdict."""
    part = Security(trail_dir=tmp_path)
    part.trail.put({"kind": "intent"})
    done = part.trail.put({"kind": "intent"})
    part.trail.put({"kind": "outcome", "intent_seq": done})
    part.close()
    found = security.verify(tmp_path)
    assert found
    assert "1 calls began and have no outcome" in str(found)


def test_a_clock_that_steps_back_is_pointed_out(tmp_path):
    """Records are in order of their numbers; a wall clock that went back is a remark."""
    from smw._kernel.host import Host
    from smw.testing import FakeClock

    clock = FakeClock()
    part = Security(trail_dir=tmp_path, host=Host(clock=clock))
    part.trail.put({"kind": "outcome"})
    clock.step_wall(-3600)
    part.trail.put({"kind": "outcome"})
    part.close()
    found = security.verify(tmp_path)
    assert found.status == "ok"
    assert "stepped back before record 2" in str(found)


def test_unreadable_log_is_incomplete(tmp_path, monkeypatch):
    """A log whose files cannot be read is not called ok."""
    part = Security(trail_dir=tmp_path)
    part.trail.put({"kind": "outcome"})
    part.close()

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    found = security.verify(tmp_path)
    assert found.exit_code == 2
    assert "cannot be read" in str(found)
