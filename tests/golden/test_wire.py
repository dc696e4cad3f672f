"""What servers hold, pinned: entries of every version and form open for ever, and calls keep their keys.

Each entry is a file of hexadecimal digits, named by the version of the format that wrote it. Files are added and never
changed: ``SMW_UPDATE_SNAPSHOTS=1`` writes those that are missing, after the version was raised or a form was added. A
changed key costs every user a cold cache with the next release, so `keys.txt` is not written anew but edited by hand.
"""

from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path
from typing import Any

import pytest

from smw._kernel.host import Host
from smw.cache import Cache, key_for
from smw.cache.naming.names import Names, fence_of
from smw.cache.values import envelope
from smw.cache.values.codec import JSON, MSGPACK, PICKLE, RAW, Codec, CorruptError
from smw.cache.values.envelope import FLAT, NESTED, SHARED, Dependency, Envelope, Letter
from smw.cache.values.seal import Seal
from smw.cache.values.typed import Classes, declared_classes
from tests.golden import wire_shapes as shapes
from tests.services.locate import option

FOLDER = Path(__file__).parent / "wire"
KEY = b"smw:shop:0123456789abcdef0123456789abcdef"
OLD, NEW = {"k1": b"1" * 32}, {"k2": b"2" * 32}
CREATED_MS, TTL_MS, FENCE = 1_700_000_000_000, 60_000, 7
WIDE = 2**64 - 2


class Fixed:
    """Entropy that repeats, so that sealed bytes can be compared."""

    def token_bytes(self, count: int) -> bytes:
        return bytes(range(count))


@dataclasses.dataclass(frozen=True)
class Form:
    """One way in which an entry may look."""

    value: Any = dataclasses.field(default_factory=lambda: shapes.PLAIN)
    encoding: int = MSGPACK
    compress_from: int | None = None
    keys: dict[str, bytes] | None = None
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    is_repeatable: bool = True

    def envelope(self, keys: dict[str, bytes] | None) -> Envelope:
        seal = None if keys is None else Seal(keys, Fixed())
        return Envelope(compress_from=self.compress_from, seal=seal)

    @property
    def codec(self) -> Codec:
        classes = Classes(declared_classes(shapes.playlists))
        return Codec(classes, allow_pickle=self.encoding == PICKLE, as_json=self.encoding == JSON)

    def letter(self, version: int) -> Letter:
        """Return what was written, as far as that version could."""
        encoding, payload = self.codec.pack(self.value)
        assert encoding == self.encoding
        times = {"stale_ms": 5_000, "load_ms": 250} if version > 1 else {}
        whole = {"fence": FENCE, "generations": (9,), "shape": SHARED, **times, **self.fields}
        return Letter(encoding, payload, CREATED_MS, TTL_MS, **whole)


DEPENDS = (
    Dependency("smw:shop:" + "a" * 32, 11, (("smw:shop:t:" + "b" * 32, 12), ("smw:shop:t:*", WIDE))),
    Dependency("smw:shop:" + "c" * 32, 0, ()),
)
FORMS = {
    "plain": Form(),
    "no-tags": Form(fields={"generations": ()}),
    "many-tags": Form(fields={"generations": (0, 1, 2**32, WIDE), "fence": WIDE}),
    "flat": Form([1, 2], fields={"shape": FLAT}),
    "nested": Form([[1], [2]], fields={"shape": NESTED}),
    "longest-times": Form(fields={"stale_ms": 2**63, "load_ms": 2**32 - 1}),
    "raw": Form(b"\0bytes\xff", RAW),
    "json": Form({"name": "Zoë", "plays": [1, 2.5, True, None]}, JSON, fields={"shape": NESTED}),
    "extensions": Form(shapes.EXTENDED, fields={"shape": NESTED}),
    "classes": Form(shapes.TYPED, fields={"shape": NESTED}),
    "compressed": Form({"a": "b" * 2000}, compress_from=1024, is_repeatable=False),
    "incompressible": Form(b"\0\x01\x02", RAW, compress_from=1),
    "sealed": Form(keys=OLD),
    "sealed-compressed": Form({"a": "b" * 2000}, compress_from=1024, keys=OLD, is_repeatable=False),
    "sealed-raw": Form(b"", RAW, keys=OLD),
    "sealed-pickle": Form(shapes.Point(3), PICKLE, keys=OLD, fields={"shape": NESTED}, is_repeatable=False),
    "depends": Form(fields={"depends": DEPENDS}),
    "depends-sealed": Form(keys=OLD, fields={"depends": DEPENDS}),
}


def version_of(form: Form) -> int:
    return envelope.VERSION_DEPENDING if "depends" in form.fields else envelope.VERSION


def read(path: Path) -> bytes:
    return bytes.fromhex(path.read_text(encoding="ascii"))


def written(form: Form) -> bytes:
    return form.envelope(form.keys).close(form.letter(version_of(form)), KEY)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_pinned_in_the_version_that_is_written(name):
    """Where bytes change the version must be raised: processes of two releases share their servers."""
    form = FORMS[name]
    path = FOLDER / f"{version_of(form)}-{name}.hex"
    if option("SMW_UPDATE_SNAPSHOTS") and not path.exists():
        digits = written(form).hex()
        lines = [digits[start : start + 96] for start in range(0, len(digits), 96)]
        path.write_text("\n".join(lines) + "\n", encoding="ascii")
    stored, now = read(path), written(form)
    assert stored[2] == version_of(form)
    if form.is_repeatable:
        assert now == stored, (
            "raise VERSION in smw/cache/values/envelope.py, and have the new files written beside the old"
        )
    else:  # what zlib and pickle write differs from one release of theirs to the next
        assert now[:5] == stored[:5]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.hex")), ids=lambda path: path.stem)
def test_entries_of_every_version_open(path):
    """Whatever a release has ever written, the value comes back equal and with what readers must know of it."""
    version, _, name = path.stem.partition("-")
    form, stored = FORMS[name], read(path)
    assert stored[2] == int(version)
    opened = form.envelope(form.keys).open(stored, KEY)
    wanted = form.letter(int(version))
    if form.encoding == PICKLE:
        wanted = wanted._replace(payload=opened.payload)
    assert opened == wanted
    value = form.codec.unpack(opened.encoding, opened.payload)
    assert type(value) is type(form.value)
    assert repr(value) == repr(form.value) or value == form.value


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.hex")), ids=lambda path: path.stem)
def test_entries_open_nowhere_else(path):
    """Under another key, with a bit changed, or with another setting of seal or ring, none of them opens."""
    form, stored = FORMS[path.stem.partition("-")[2]], read(path)
    assert len(stored) > 30
    hurt = [(stored, KEY + b"0"), (stored[:-1], KEY), *((flipped(stored, place), KEY) for place in range(len(stored)))]
    for bad, key in hurt:
        with pytest.raises(CorruptError):
            form.envelope(form.keys).open(bad, key)
    with pytest.raises(CorruptError):
        form.envelope(NEW if form.keys else OLD).open(stored, KEY)
    if form.keys:
        assert form.envelope(NEW | OLD).open(stored, KEY) == form.envelope(OLD).open(stored, KEY)


def flipped(stored: bytes, place: int) -> bytes:
    """Return the bytes with one bit changed, a different one at each place."""
    changed = bytearray(stored)
    changed[place] ^= 1 << place % 8
    return bytes(changed)


def test_no_version_was_forgotten():
    """There are entries of each version that was ever released."""
    assert {path.name[0] for path in FOLDER.glob("*.hex")} == {
        str(version) for version in range(1, max(envelope.VERSION, envelope.VERSION_DEPENDING) + 1)
    }


def test_the_bytes_are_as_the_module_says():
    """The layout that the first lines of the module describe is the one that is written."""
    letter = Letter(MSGPACK, b"value", 1, 2, 3, (4, 5), FLAT, 6, 7, (Dependency("k", 8, (("t", 9),)),))
    head = b"\xa5m" + bytes((3, MSGPACK, FLAT << 2, 2))
    head += b"".join(number.to_bytes(8, "big") for number in (1, 2, 3, 6)) + (7).to_bytes(4, "big")
    head += (4).to_bytes(8, "big") + (5).to_bytes(8, "big")
    head += (1).to_bytes(2, "big") + b"\1k" + (8).to_bytes(8, "big") + b"\1" + b"\1t" + (9).to_bytes(8, "big")
    check = zlib.crc32(KEY + head + b"value").to_bytes(4, "big")
    assert Envelope(compress_from=None, seal=None).close(letter, KEY) == head + check + b"value"


# --- keys --------------------------------------------------------------------------------------------------------


def cache(service: str = "shop", **options: Any) -> Cache:
    return Cache(host=Host(service), **options)


def keys() -> dict[str, str]:
    """Return what each call, tag and counter is called on servers."""
    here, sealed = cache(), cache(encryption_keys=NEW | OLD)
    user = here.cached(60)(shapes.user)
    calls = {
        "one integer": key_for(user, 1),
        "one text": key_for(user, "1"),
        "true": key_for(user, True),
        "a float": key_for(user, 1.0),
        "nothing": key_for(user, None),
        "more arguments": key_for(user, 1, 2, "x", lang="fr", b=1, a=b"\0"),
        "containers": key_for(user, [1, (2, {3}), frozenset({"x"})], other={"b": 1, "a": None}),
        "moments": key_for(user, shapes.WHEN, *shapes.EXTENDED[4:12]),
        "an enum": key_for(user, shapes.Genre.JAZZ),
        "a dataclass": key_for(user, shapes.TRACK),
        "a model": key_for(user, shapes.TYPED["list"]),
        "a class": key_for(user, shapes.Service),
        "a function": key_for(user, shapes.later),
        "an object with an identity": key_for(user, shapes.Service("a")),
        "a coroutine function": key_for(here.cached(60)(shapes.later), 1),
        "a method": key_for(here.cached(60)(shapes.Service.load), shapes.Service("a"), 1),
        "another version": key_for(here.cached(60, version="2")(shapes.user), 1),
        "a key of its own": key_for(here.cached(60, key=lambda text: ("by", text))(shapes.by_text), "A"),
        "with tags": key_for(here.cached(60, tags=["user:{user_id}"])(shapes.user), 1),
        "another namespace": key_for(cache(namespace="bank").cached(60)(shapes.user), 1),
        "a namespace that is not safe": key_for(cache(namespace="my shop ü").cached(60)(shapes.user), 1),
        "no namespace": key_for(cache("").cached(60)(shapes.user), 1),
        "with a secret": key_for(sealed.cached(60)(shapes.user), 1),
    }
    names = Names("shop")
    calls["counter of a key"] = fence_of(calls["one integer"])
    calls["counter of a tag"] = names.tag("user:1")
    calls["counter of everything"] = names.everything
    return {name: str(key) for name, key in calls.items()}


def test_calls_keep_their_keys():
    """The same call has the same key in every release and on every Python."""
    pinned = dict(line.split("\t") for line in (FOLDER / "keys.txt").read_text(encoding="ascii").splitlines())
    assert keys() == pinned
