"""What is stored comes back equal and of the same type, or is refused; foreign bytes never pass for a value."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from fractions import Fraction
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Generic, NamedTuple, NewType, TypedDict, TypeVar
from unittest.mock import MagicMock

import msgpack
import pytest
import wrapt
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, PrivateAttr, RootModel

from smw._kernel.clock import SystemEntropy
from smw.cache.values import codec as codec_module
from smw.cache.values import copies
from smw.cache.values.codec import MSGPACK, PICKLE, RAW, Codec, CorruptError, UnstorableError
from smw.cache.values.envelope import Dependency, Envelope, Letter
from smw.cache.values.seal import Seal
from smw.cache.values.typed import Classes, declared_classes


class Genre(enum.Enum):
    ROCK = "rock"
    JAZZ = "jazz"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Size(NamedTuple):
    width: int
    height: int


@dataclass(slots=True)
class Artist:
    name: str
    genre: Genre


@dataclass(frozen=True)
class Track:
    title: str
    artists: tuple[Artist, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


class Playlist(BaseModel):
    id: uuid.UUID
    tracks: list[Track]
    created: dt.datetime
    cover: Size | None = None


class Guarded(BaseModel):
    x: int
    _secret: str = PrivateAttr("s")


class Slotted(Track):
    __slots__ = ("z",)


class SlottedModel(BaseModel):
    __slots__ = ("z",)
    x: int = 1


class Unset(BaseModel):
    x: int
    _secret: str = PrivateAttr()


class Numbers(RootModel[list[int]]):
    pass


T = TypeVar("T")


@dataclass
class Page(Generic[T]):
    first: T
    after: Page[T] | None = None


class Listing(BaseModel, Generic[T]):
    items: list[T]


class Cover(TypedDict):
    artist: Artist


Anonymous = NewType("Anonymous", Track)


def filled(value: Any) -> Any:
    """Fill the slot that is no field."""
    object.__setattr__(value, "z", 1)
    return value


def source() -> dict[str, Playlist | Rights | Guarded | Slotted | SlottedModel] | None: ...


CODEC = Codec(Classes(declared_classes(source)))
zones = st.one_of(
    st.none(), st.just(dt.UTC), st.just(zoneinfo.ZoneInfo("Europe/Paris")),
    st.builds(dt.timezone, st.timedeltas(dt.timedelta(hours=-20), dt.timedelta(hours=20))),
    st.just(dt.timezone(dt.timedelta(hours=2), "CEST")),
)  # fmt: skip
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.binary(),
    st.text(st.characters()), st.decimals(allow_nan=False), st.uuids(), st.dates(), st.datetimes(timezones=zones),
    st.times(), st.timedeltas(), st.complex_numbers(allow_nan=False), st.sampled_from(Genre),
    st.builds(Size, st.integers(), st.integers()),
)  # fmt: skip
hashable = st.recursive(scalars, lambda inner: st.tuples(inner) | st.frozensets(inner, max_size=2), max_leaves=4)
artists = st.builds(Artist, st.text(), st.sampled_from(Genre))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.tuples(inner, inner), st.dictionaries(hashable, inner, max_size=4),
        st.sets(hashable, max_size=3), st.builds(Track, st.text(), st.lists(artists, max_size=2).map(tuple)),
    ),
    max_leaves=12,
)  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same type all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            same(a, c) and same(b, d) for (a, b), (c, d) in zip(one.items(), other.items(), strict=True)
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dt.datetime | dt.time):
        return (one.isoformat(), one.fold, one.tzname()) == (other.isoformat(), other.fold, other.tzname())
    if isinstance(one, float | complex):
        return repr(one) == repr(other)
    return one == other


@settings(max_examples=400, deadline=None)
@given(values)
def test_values_come_back_as_they_were(value):
    """Every value of the documented types comes back equal, of the same type, in the same order."""
    assert same(value, CODEC.unpack(*CODEC.pack(value)))


def test_annotated_classes_come_back_whole():
    """Models, dataclasses, enums and named tuples that the return annotation names come back equal, however nested."""
    list_ = Playlist(
        id=uuid.uuid4(),
        tracks=[Track("a", (Artist("b", Genre.JAZZ),), {"k": (1, {2})})],
        created=dt.datetime(2024, 5, 1, 12, tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
        cover=Size(1, 2),
    )
    back = CODEC.unpack(*CODEC.pack({"x": list_}))["x"]
    assert back == list_
    assert back.model_fields_set == list_.model_fields_set
    assert type(back.tracks[0].artists[0]) is Artist
    assert back.model_copy(update={"cover": None}).cover is None


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Zone(dt.tzinfo):
    def utcoffset(self, _at):
        return None


@dataclass
class Undeclared:
    x: int = 1


class OwnZone(zoneinfo.ZoneInfo):
    pass


@pytest.mark.parametrize(
    "value",
    [
        Text("a"), Number(1), OrderedDict(a=1), bytearray(b"a"), memoryview(b"a"),
        Counter("a"), defaultdict(int), deque([1]), range(3), Fraction(1), Path("a"), dt.UTC, ip_address("::1"),
        msgpack.Timestamp(1), object(),
        Undeclared(), Rights.READ | Rights.WRITE, Guarded(x=1), dt.datetime(2024, 1, 1, tzinfo=Zone()),
        dt.datetime(2024, 1, 1, tzinfo=OwnZone("Europe/Paris")),
        iter([1]), Exception("x"), msgpack.ExtType(1, b""), filled(Slotted("a")), filled(SlottedModel()),
        wrapt.ObjectProxy({"a": 1}), wrapt.ObjectProxy(1), MagicMock(spec=dict), MagicMock(spec=str),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
@pytest.mark.parametrize(
    "wrap", [lambda v: v, lambda v: [v], lambda v: {"k": (v,)}, lambda v: Track("t", extra={"k": v})]
)
def test_what_would_come_back_different_is_refused(value, wrap):
    """Subclasses, look-alikes and undeclared classes are refused wherever they sit, never stored as something else."""
    with pytest.raises(UnstorableError):
        CODEC.pack(wrap(value))


@pytest.mark.parametrize("value", [bytearray(b"a"), memoryview(b"a"), msgpack.Timestamp(1), msgpack.ExtType(5, b"x")])
def test_what_would_come_back_different_is_refused_however_deep(value):
    """Look-alikes are refused below the depth to which values are looked at, too."""
    for _ in range(250):
        value = [value]
    with pytest.raises(UnstorableError):
        CODEC.pack(value)


def test_value_that_unfolds_without_end_is_refused(monkeypatch):
    """Lists that hold one another twice over are refused before they are written out."""
    monkeypatch.setattr(copies, "MOST_NODES", 20_000)
    value: list = []
    for _ in range(60):
        value = [value, value]
    with pytest.raises(UnstorableError):
        CODEC.pack(value)


def test_cycles_and_depth_are_refused():
    """A cycle and a nesting beyond the format's depth are refused, not followed."""
    loop: list = []
    loop.append(loop)
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    for value in (loop, deep):
        with pytest.raises(UnstorableError):
            CODEC.pack(value)


def nested(kind: str, levels: int) -> Any:
    """Return so many of one kind within each other."""
    value: Any = None
    for _ in range(levels):
        value = (value,) if kind == "tuple" else frozenset([value]) if kind == "frozenset" else Page(1, value)
    return value


def paged() -> Page[int]: ...


@pytest.mark.parametrize("kind", ["tuple", "frozenset", "dataclass"])
def test_what_is_nested_as_deeply_as_may_be_comes_back(kind):
    """Values as deep as is stored open, without using up a thread's stack; deeper ones stay."""
    codec = Codec(Classes(declared_classes(paged)))
    deepest = nested(kind, 201)
    assert repr(codec.unpack(*codec.pack(deepest))) == repr(deepest)
    with pytest.raises(UnstorableError) as refused:
        codec.pack(nested(kind, 202))
    assert refused.value.reason == "deep-result"


@pytest.mark.parametrize("levels", [199, 202, 2000])
def test_a_small_entry_cannot_use_up_the_stack(levels):
    """Forged bytes with one extension within the other are corrupt, however many there are."""
    payload = b"\xc0"
    for _ in range(levels):  # a set that holds the one before: sets cannot be in sets
        payload = b"\xc9" + (len(payload) + 1).to_bytes(4, "big") + b"\x02\x91" + payload
    with pytest.raises(CorruptError):
        CODEC.unpack(MSGPACK, payload)
    with pytest.raises(CorruptError):  # what comes after it is no part of it
        CODEC.unpack(MSGPACK, nested_tuples(payload=b"\xc0\xc0"))


def nested_tuples(payload: bytes) -> bytes:
    """Return the form of six tuples within each other, with `payload` in the place of the innermost one's list."""
    for _ in range(6):
        payload = b"\x91\xc9" + len(payload).to_bytes(4, "big") + b"\x01" + payload
    return payload[1:]


def test_a_small_entry_cannot_become_more_than_any_value_has(monkeypatch):
    """A megabyte of bytes makes no more lists, dictionaries and extensions than a value has, nor many of itself."""
    monkeypatch.setattr(codec_module, "_MOST_CONTAINERS", 20_000)
    monkeypatch.setattr(codec_module, "_MOST_HELD", 2**23)
    blank, many = bytes(2**21), 2**20
    for value in ([{"a": 1}] * 9_000 + [blank], [(1, (2,))] * 4_000 + [blank], ((((blank,),),),)[0]):
        assert CODEC.unpack(*CODEC.pack(value)) == value
    for part in (b"\x90", b"\x80", b"\xc7\x01\x02\x90"):
        with pytest.raises(CorruptError):
            CODEC.unpack(MSGPACK, b"\xdd" + many.to_bytes(4, "big") + part * many)
    with pytest.raises(CorruptError):
        CODEC.unpack(*CODEC.pack(((((blank,),),),)))


@pytest.mark.parametrize("value", [Unset(x=1), Numbers([1, 2])], ids=["private", "root"])
def test_models_come_back_with_what_lies_beside_their_fields(value):
    """A model without private attributes yet, and one that is a root alone, come back equal, to be stored again."""

    def answer() -> Unset | Numbers: ...

    codec = Codec(Classes(declared_classes(answer)))
    back = codec.unpack(*codec.pack(value))
    assert (back, back.__dict__, back.__pydantic_private__) == (value, value.__dict__, value.__pydantic_private__)
    assert codec.pack(back) == codec.pack(value)


def pages() -> dict[str, Page[Artist]]: ...


def listings() -> Listing[Listing[Guarded]] | Listing[list[int]] | Listing[int | None]: ...


def test_what_is_made_of_classes_is_named_by_their_modules():
    """pydantic gives what is made of two classes of one name that name too, to that which comes first in a process."""
    assert f"{__name__}:Listing[{__name__}:Guarded]" in declared_classes(listings)


def test_what_is_made_of_local_classes_has_no_name():
    """A class within a function may exist twice, and so may what is made of it."""

    class Local(BaseModel):
        x: int

    class Made(BaseModel, Generic[T]):
        x: T

    for made in (Listing[Local], Listing[list[Local]], Made[int]):

        def answer(): ...

        answer.__annotations__ = {"return": made}
        assert declared_classes(answer).keys() <= {f"{__name__}:Listing"}


def anonymous() -> list[Anonymous]: ...


def covers() -> list[Cover]: ...


@pytest.mark.parametrize(
    ("source", "value"),
    [
        (pages, {"a": Page(Artist("b", Genre.JAZZ))}),
        (listings, lambda: Listing[Listing[Guarded]](items=[Listing[Guarded](items=[])])),
        (listings, lambda: Listing[list[int]](items=[[1]])),
        (listings, lambda: Listing[int | None](items=[None])),
        (listings, lambda: Listing(items=[])),
        (anonymous, [Track("a")]),
        (covers, [{"artist": Artist("b", Genre.ROCK)}]),
    ],
    ids=["generic", "model of models", "model of lists", "model of a union", "model of any", "new type", "typed dict"],
)
def test_annotations_name_classes_by_other_names_too(source, value):
    """A class is named by its generic form, by a new type of it, and by the fields of a typed dictionary."""
    value = value() if callable(value) else value
    codec = Codec(Classes(declared_classes(source)))
    assert same(value, codec.unpack(*codec.pack(value)))


def test_stored_bytes_cannot_choose_a_class():
    """A payload that names a class the function does not return is corrupt, and so is one whose fields have changed."""
    packed = CODEC.pack(Track("a"))
    with pytest.raises(CorruptError):
        Codec().unpack(*packed)
    renamed = MSGPACK, packed[1].replace(b"title", b"titel")
    with pytest.raises(CorruptError):
        CODEC.unpack(*renamed)


def test_pickle_needs_to_be_allowed():
    """A pickled payload is corrupt for a codec that does not allow it, and a value for one that does."""
    encoding, payload = Codec(allow_pickle=True).pack(OrderedDict(a=1))
    assert encoding == PICKLE
    assert Codec(allow_pickle=True).unpack(encoding, payload) == OrderedDict(a=1)
    with pytest.raises(CorruptError):
        Codec().unpack(encoding, payload)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 255), st.binary(max_size=200))
def test_any_payload_is_a_value_or_corrupt(encoding, payload):
    """Whatever the bytes are, decoding gives a value or `CorruptError`, never another exception."""
    try:
        CODEC.unpack(encoding, payload)
    except CorruptError:
        assert encoding != RAW


SEAL = Seal({"k1": b"1" * 32, "k2": b"2" * 32}, SystemEntropy())
ENVELOPES = {
    "plain": Envelope(compress_from=None, seal=None),
    "compressed": Envelope(compress_from=10, seal=None),
    "sealed": Envelope(compress_from=10, seal=SEAL),
}
names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=200)
counters = st.integers(0, 2**63)
dependencies = st.builds(Dependency, names, counters, st.lists(st.tuples(names, counters), max_size=2).map(tuple))
letters = st.builds(
    Letter, st.integers(0, 2), st.binary(max_size=300), st.integers(0, 2**62), st.integers(0, 2**62),
    st.integers(0, 2**62), st.lists(counters, max_size=5).map(tuple), st.integers(0, 2),
    st.integers(0, 2**62), st.integers(0, 2**32 - 1), st.lists(dependencies, max_size=2).map(tuple),
)  # fmt: skip


@pytest.mark.parametrize("how", ENVELOPES)
@settings(max_examples=150, deadline=None)
@given(letter=letters, key=st.binary(min_size=1, max_size=40))
def test_letters_open_as_they_were_closed(how, letter, key):
    """Every letter comes out of its envelope as it went in."""
    assert ENVELOPES[how].open(ENVELOPES[how].close(letter, key), key) == letter


@pytest.mark.parametrize("how", ENVELOPES)
@settings(max_examples=300, deadline=None)
@given(letter=letters, place=st.floats(0, 0.999), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_unnoticed(how, letter, place, bit):
    """An entry with any one bit changed does not open."""
    stored = bytearray(ENVELOPES[how].close(letter, b"key"))
    stored[int(place * len(stored))] ^= 1 << bit
    with pytest.raises(CorruptError):
        ENVELOPES[how].open(bytes(stored), b"key")


@pytest.mark.parametrize("how", ENVELOPES)
@settings(max_examples=200, deadline=None)
@given(letter=letters, junk=st.binary(max_size=300), cut=st.integers(0, 400))
def test_foreign_cut_and_moved_bytes_do_not_open(how, letter, junk, cut):
    """Random bytes, a cut entry and an entry moved to another key are corrupt."""
    envelope = ENVELOPES[how]
    stored = envelope.close(letter, b"key")
    for bad, key in ((junk, b"key"), (stored[: min(cut, len(stored) - 1)], b"key"), (stored, b"other")):
        with pytest.raises(CorruptError):
            envelope.open(bad, key)


def test_ring_of_keys_opens_what_any_of_them_sealed():
    """After a new first key old entries open, and without their key they do not."""
    letter = Letter(RAW, b"x" * 50, 1, 2, 3, (4,))
    old = Envelope(compress_from=None, seal=Seal({"k1": b"1" * 32}, SystemEntropy())).close(letter, b"key")
    rotated = Envelope(compress_from=None, seal=Seal({"k9": b"9" * 32, "k1": b"1" * 32}, SystemEntropy()))
    assert rotated.open(old, b"key") == letter
    retired = Envelope(compress_from=None, seal=Seal({"k9": b"9" * 32}, SystemEntropy()))
    with pytest.raises(CorruptError):
        retired.open(old, b"key")


def test_settings_decide_what_is_accepted_not_the_entry():
    """A cache that seals takes nothing unsealed, and one that does not takes nothing sealed."""
    letter = Letter(RAW, b"x", 1, 2, 3, ())
    for writer, reader in (("plain", "sealed"), ("sealed", "plain")):
        with pytest.raises(CorruptError):
            ENVELOPES[reader].open(ENVELOPES[writer].close(letter, b"key"), b"key")


@pytest.mark.parametrize("foreign", [-5, 2**64 - 1, 2**64 + 5, 10**30])
@pytest.mark.parametrize("name", ["plain", "sealed"])
def test_what_carries_a_foreign_counter_never_opens(name, foreign):
    """A counter that somebody else has set fails nobody, and what is stored under it is valid for nobody."""
    for letter in (Letter(RAW, b"x", 1, 2, foreign, (4,)), Letter(RAW, b"x", 1, 2, 3, (4, foreign))):
        stored = ENVELOPES[name].close(letter, b"key")
        with pytest.raises(CorruptError):
            ENVELOPES[name].open(stored, b"key")


def test_a_small_entry_cannot_unfold_into_a_huge_one():
    """A compressed entry that would grow beyond the largest value is corrupt, and memory is not spent on it."""
    letter = Letter(RAW, b"\0" * (65 * 2**20), 1, 2, 3, ())
    stored = ENVELOPES["compressed"].close(letter, b"key")
    assert len(stored) < 2**20
    with pytest.raises(CorruptError):
        ENVELOPES["compressed"].open(stored, b"key")
