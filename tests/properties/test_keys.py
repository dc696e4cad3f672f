"""Keys differ exactly where calls differ, whatever the arguments are."""

from __future__ import annotations

import datetime as dt
import enum
import math
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address
from typing import NamedTuple
from unittest.mock import MagicMock

import pytest
import wrapt
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, PrivateAttr

from smw.cache.naming.arguments import UnkeyableError, digest, encode


class Colour(enum.Enum):
    RED = 1
    BLUE = "1"


class Level(enum.IntEnum):
    LOW = 1


class Flags(enum.Flag):
    A = 1
    B = 2


@dataclass
class Point:
    x: object
    y: object = None


@dataclass(frozen=True)
class Other:
    x: object
    y: object = None


class Model(BaseModel):
    x: int
    y: str = "y"


class Pair(NamedTuple):
    x: object
    y: object


class Declared:
    def __init__(self, name) -> None:
        self.name = name

    def __cache_key__(self):
        return self.name


class Same:
    """Equal to everything, which must not matter."""

    def __eq__(self, other) -> bool:
        return True

    def __hash__(self) -> int:
        return 1


class Slotted(Point):
    __slots__ = ("z",)


@dataclass
class Counts(dict):
    unit: str = ""


@dataclass
class Items(list):
    unit: str = ""


@dataclass
class Failure(Exception):
    code: int = 0


@dataclass(frozen=True)
class Amount(int):
    unit: str = ""


class Loose(tuple):  # noqa: SLOT001 - it is about the attributes that it may have
    _fields = ("x",)


class Triple(Pair):
    pass


class Open(BaseModel, extra="allow"):
    x: int = 1
    _note: str = PrivateAttr("")


class SlottedModel(Model):
    __slots__ = ("z",)


class Renamed(enum.Enum):
    A = 1
    B = 2

    @property
    def name(self) -> str:
        return "same"


class IPv4Host(IPv4Address):
    """May hold anything."""


class Tally(Counter):
    """May hold anything."""


class Summer(dt.tzinfo):
    """Differs from a fixed offset in the months that are not asked about."""

    def utcoffset(self, at):
        return dt.timedelta(hours=2 if at and at.month > 6 else 1)

    def tzname(self, _at):
        return "CET"

    def dst(self, _at):
        return dt.timedelta(0)


def filled(value, **attributes):
    """Set attributes that the constructor does not take."""
    for name, content in attributes.items():
        object.__setattr__(value, name, content)
    return value


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.decimals(allow_nan=False),
    st.uuids(), st.dates(), st.datetimes(timezones=st.none() | st.just(dt.UTC)), st.times(), st.timedeltas(),
    st.sampled_from([*Colour, *Level, *Flags]), st.complex_numbers(),
)  # fmt: skip
hashable = st.recursive(
    scalars.filter(lambda v: v == v),  # noqa: PLR0124 - NaN is equal to nothing, so it tells no key of a dict from another
    lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=3)),
    max_leaves=5,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.tuples(inner), st.dictionaries(hashable, inner, max_size=4),
        st.sets(hashable, max_size=4), st.builds(Point, inner, inner), st.builds(Other, inner),
        st.builds(Pair, inner, inner), st.builds(Model, x=st.integers(), y=st.text()),
    ),
    max_leaves=12,
)  # fmt: skip


def identity(value: object) -> object:  # noqa: PLR0911 - one line for each type
    """Describe a value so that equal descriptions mean the same type and content everywhere, order aside."""
    kind = type(value)
    if kind in (float, complex):
        return kind, repr(value)
    if kind in (list, tuple, Pair):
        return kind, tuple(identity(item) for item in value)
    if kind in (set, frozenset):
        return kind, frozenset(identity(item) for item in value)
    if kind is dict:
        return kind, frozenset((identity(key), identity(item)) for key, item in value.items())
    if kind in (Point, Other):
        return kind, identity(value.x), identity(value.y)
    if kind is Model:
        return kind, value.x, value.y
    if kind is Decimal:
        return kind, value.as_tuple()
    if kind in (dt.datetime, dt.time):
        return kind, value.isoformat(), value.fold, str(value.tzinfo)
    return kind, value


@settings(max_examples=400, deadline=None)
@given(values, values)
def test_keys_are_equal_exactly_where_values_are(one, other):
    """Two values share an encoding if and only if they are the same in type and content, order of sets aside."""
    assert (encode(one) == encode(other)) == (identity(one) == identity(other))


@settings(max_examples=200, deadline=None)
@given(st.lists(values, max_size=3), st.lists(values, max_size=3))
def test_no_shift_between_arguments_collides(one, other):
    """Argument lists share an encoding only if they are the same list: nothing moves from one argument to the next."""
    same = [identity(value) for value in one] == [identity(value) for value in other]
    assert (encode(*one) == encode(*other)) == same


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(hashable, values, max_size=5), st.randoms())
def test_order_of_dictionaries_and_sets_is_free(mapping, random):
    """The same items in another order have the same key."""
    items = list(mapping.items())
    random.shuffle(items)
    assert encode(dict(items)) == encode(mapping)
    assert encode({key for key, _ in items}) == encode(set(mapping))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (zoneinfo.ZoneInfo("UTC"), zoneinfo.ZoneInfo.no_cache("UTC")),
        (dt.UTC, dt.timezone(dt.timedelta(0))),
        (IPv6Address("::1"), IPv6Address("0:0:0:0:0:0:0:1")),
        (IPv4Network("10.0.0.0/255.0.0.0"), IPv4Network("10.0.0.0/8")),
        (Counter("ab"), Counter("ba")),
        (defaultdict(int, a=1, b=2), defaultdict(int, b=2, a=1)),
        (memoryview(b"abcabc")[::2], memoryview(b"acb")),
    ],
    ids=repr,
)
def test_equal_values_of_the_less_common_types_share_a_key(one, other):
    """However they were written and in whatever order, within a container as on their own."""
    assert encode(one) == encode(other)
    assert encode([one]) == encode([other])


@pytest.mark.parametrize(
    "value", [defaultdict(lambda: 0), type("Own", (Counter,), {})(), IPv4Host("10.0.0.1")], ids=repr
)
def test_what_looks_like_them_and_may_be_more_has_no_key(value):
    """A factory without a name, and subclasses, have no key."""
    with pytest.raises(UnkeyableError):
        encode(value)


def at(zone: dt.tzinfo) -> dt.datetime:
    return dt.datetime(2024, 1, 1, tzinfo=zone)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True), (1, 1.0), (1, "1"), (0.0, -0.0), (None, ""), (None, "None"), (b"a", "a"), ([1, 2], (1, 2)),
        ({"a": 1}, {"a": "1"}), ("a b", "a_b"), (("1:b:2", ""), ("1", "2:b:")), (("a b", "c"), ("a", "b c")),
        ((), ((),)), ({}, []), (Colour.RED, 1), (Level.LOW, 1), (Colour.RED, Colour.BLUE), (Point(1), Other(1)),
        (Pair(1, 2), (1, 2)), (Decimal(1), Decimal("1.0")), (dt.date(2024, 1, 1), dt.datetime(2024, 1, 1)),  # noqa: DTZ001
        (uuid.UUID(int=1), uuid.UUID(int=1).bytes), (frozenset({1}), {1}), (OrderedDict(a=1), {"a": 1}),
        (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)), (int, "builtins:int"), (Flags.A, Flags.A | Flags.B),
        (Model(x=1), {"x": 1, "y": "y"}), (range(3), (0, 3, 1)), (math.inf, -math.inf), ("\ud800", "\ud801"),
        (filled(Slotted(1), z=2), filled(Slotted(1), z=3)), (filled(Slotted(1), z=2), Slotted(1)),
        (filled(Point(1), z=2), filled(Point(1), z=3)), (Open(), Open(x=1)), (Open(y=2), Open(y=3)),
        (filled(Open(), _note="a"), filled(Open(), _note="b")), (Renamed.A, Renamed.B),
        (filled(SlottedModel(x=1), z=2), filled(SlottedModel(x=1), z=3)),
        (at(dt.timezone(dt.timedelta(hours=1), "CET")), at(dt.timezone(dt.timedelta(hours=1)))),
        (at(zoneinfo.ZoneInfo("Europe/Paris")), at(dt.timezone(dt.timedelta(hours=1), "CET"))),
        (at(zoneinfo.ZoneInfo("Europe/Paris")), at(zoneinfo.ZoneInfo("Europe/Berlin"))),
        (zoneinfo.ZoneInfo("UTC"), dt.UTC), (zoneinfo.ZoneInfo("UTC"), "UTC"), (dt.UTC, dt.timezone.max),
        (IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")), (IPv4Address("10.0.0.1"), "10.0.0.1"),
        (IPv4Address("0.0.0.1"), IPv6Address("::1")), (IPv6Address("fe80::1"), IPv6Address("fe80::1%eth0")),
        (IPv4Network("10.0.0.0/8"), IPv4Interface("10.0.0.0/8")),
        (IPv4Network("10.0.0.0/8"), IPv4Network("10.0.0.0/9")),
        (Counter("ab"), {"a": 1, "b": 1}), (Counter("ab"), Counter("aab")), (Counter(), defaultdict(None)),
        (defaultdict(int, a=1), {"a": 1}), (defaultdict(int, a=1), defaultdict(list, a=1)),
        (defaultdict(int, a=1), defaultdict(None, a=1)), (deque([1]), [1]), (deque([1]), deque([1], 5)),
        (memoryview(b"ab"), b"ab"), (memoryview(b"ab"), memoryview(b"ac")), (memoryview(b"ab"), bytearray(b"ab")),
        (memoryview(b"abcd"), memoryview(b"abcd").cast("H")),
        (memoryview(b"abcd"), memoryview(b"abcd").cast("B", (2, 2))),
    ],
    ids=repr,
)  # fmt: skip
def test_pairs_that_others_confuse_stay_apart(one, other):
    """Each pair that some cache confuses, or that Python calls equal, has two keys."""
    assert encode(one) != encode(other)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        Decimal("NaN"),
        Decimal("sNaN"),
        2**70,
        -(2**70),
        10**10_000,
        "\ud800",
        b"\x00" * 10**6,
        Declared("a"),
        Colour,
        len,
    ],
    ids=type,
)
def test_unusual_values_have_stable_keys(value):
    """NaN, huge numbers, lone surrogates, classes and declared objects have the same key each time."""
    assert encode(value) == encode(value)
    assert len(digest(encode(value))) == 32


def test_declared_identity_is_what_the_object_says():
    """`__cache_key__` alone decides: equal answers share a key, others do not."""
    assert encode(Declared("a")) == encode(Declared("a"))
    assert encode(Declared("a")) != encode(Declared("b"))


def _cycle() -> list:
    loop: list = []
    loop.append({"loop": (loop,)})
    return loop


def _deep(levels: int) -> list:
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


def _bomb() -> list:
    value: list = []
    for _ in range(80):
        value = [value, value]
    return value


class Failing:
    def __cache_key__(self):
        raise ValueError("broken")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (object(), "unkeyable-argument"), (Same(), "unkeyable-argument"), (iter([1]), "unkeyable-argument"),
        (lambda: 1, "local-function-argument"), (_cycle(), "cyclic-argument"), (_deep(50_000), "deep-argument"),
        (_bomb(), "huge-argument"), (Failing(), "failing-argument"), (type("Local", (), {})(), "unkeyable-argument"),
        (dataclass(type("Local", (), {}))(), "local-class-argument"), (Counts("a"), "unkeyable-argument"),
        (Items("a"), "unkeyable-argument"), (Amount("1"), "unkeyable-argument"), (Failure(1), "unkeyable-argument"),
        (Loose((1,)), "unkeyable-argument"), (Triple(1, 2), "unkeyable-argument"), (at(Summer()), "unkeyable-argument"),
        (dt.time(1, tzinfo=Summer()), "unkeyable-argument"), (MagicMock(spec=dict), "unkeyable-argument"),
        (MagicMock(spec=Point), "unkeyable-argument"), (wrapt.ObjectProxy({"a": 1}), "unkeyable-argument"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_values_without_structure_are_refused(value, reason):
    """An arbitrary object, a cycle, a bomb or a failing identity is refused with a reason; no address becomes a key."""
    with pytest.raises(UnkeyableError) as caught:
        encode([value])
    assert caught.value.reason == reason


def test_key_without_the_secret_tells_nothing():
    """The same arguments have another digest under another secret."""
    assert len({digest(encode("ann@example.org"), key) for key in (b"", b"a" * 32, b"b" * 32)}) == 3
