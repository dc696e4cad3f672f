"""What servers hold of a cache, for people: their figures, their keys, one value; blocks, and changes nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from smw.cache.levels.level import run_blocking
from smw.cache.naming.names import is_full_key
from smw.cache.ports import Lister, Measurer, StoreFailedError
from smw.cache.values.codec import JSON, MSGPACK, PICKLE, RAW, Codec, CorruptError
from smw.cache.values.typed import Classes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smw.cache.levels.level import Level
    from smw.cache.part import Cache
    from smw.cache.values.envelope import Letter

__all__ = ["LevelFigures", "Plain", "Stored", "figures", "stored", "unlisted", "value_of"]

_ENCODINGS = {RAW: "bytes", MSGPACK: "msgpack", PICKLE: "pickle", JSON: "json"}
_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class LevelFigures:
    """What one server says of itself; it may serve others too.

    Attributes:
        level: ``l2`` or ``l3``.
        server: Which one.
        state: ``answers``, or what was wrong.
        entries: Keys that it holds.
        bytes: Memory that it uses.
        hits: Reads that found something, since it was started.
        misses: Reads that found nothing.
        evictions: Keys that it removed for room.
        note: What else matters: version, what a full server does.
    """

    level: str
    server: str
    state: str
    entries: int | None = None
    bytes: int | None = None
    hits: int | None = None
    misses: int | None = None
    evictions: int | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Stored:
    """One value as a server holds it.

    Attributes:
        key: Full key.
        level: ``l2`` or ``l3``.
        server: Which one.
        size_bytes: What it takes.
        age_s: Seconds since it was stored; None where it does not open with the keys of this cache.
        remaining_s: Seconds that it still has to live.
        encoding: ``msgpack``, ``bytes``, ``pickle`` or ``json``; "" where it does not open.
    """

    key: str
    level: str
    server: str
    size_bytes: int
    age_s: float | None = None
    remaining_s: float | None = None
    encoding: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, repr=False)
class Plain:
    """An object of a class that is not known here.

    Attributes:
        cls: ``module:qualname`` of its class.
        fields: What it holds, by name.
    """

    cls: str
    fields: dict[str, Any]

    def __repr__(self) -> str:
        """Render it as its class would be called."""
        return f"{_name(self.cls)}({', '.join(f'{_name(name)}={value!r}' for name, value in self.fields.items())})"


def _name(stored: object) -> str:
    """Return a name as it reads where it is one: whoever writes to the server chooses it."""
    name = str(stored)
    return name if name.isprintable() else ascii(name)


class _Anything(Classes):
    """Shows objects of every class without making one."""

    def make(self, name: str, names: list[str], parts: list[Any]) -> Any:
        """Return what an object holds, by name."""
        held = parts[-len(names) :] if names else parts
        return Plain(name, dict(zip(names or ["name"], held, strict=False)))


def figures(cache: Cache) -> list[LevelFigures]:
    """Return what every server behind memory says of itself; a node of a cluster once for all parts that it has."""
    rows: list[LevelFigures] = []
    nodes: dict[str, list[str]] = {}
    for level in cache.engine.remote.servers:
        store = level.store
        try:
            store.probe()
            node = str(getattr(store, "where", ""))
            parts = nodes.setdefault(node, [])
            if node:
                parts.append(store.name.split()[-1])
            if len(parts) > 1:
                continue
            told = store.figures() if isinstance(store, Measurer) else {}
        except StoreFailedError as error:
            rows.append(LevelFigures(level.name, store.name, error.kind, note=error.remedy))
        else:
            rows.append(LevelFigures(level.name, f"redis {node}" if node else store.name, "answers", **told))
    of_node = {f"redis {node}": ", ".join(parts) for node, parts in nodes.items() if node}
    return [
        replace(row, note=f"shards {of_node[row.server]}; {row.note}") if row.server in of_node else row for row in rows
    ]


def unlisted(cache: Cache) -> list[str]:
    """Return the servers that cannot say which keys they hold."""
    return [level.store.name for level in cache.engine.remote.servers if not isinstance(level.store, Lister)]


def stored(cache: Cache, most: int) -> Iterator[Stored]:
    """Yield up to `most` values of the cache's namespace, from the servers that can list what they hold.

    Raises:
        StoreFailedError: A server does not answer.
    """
    left, prefix, listed = most, cache.prefix, set[tuple[str, str]]()
    for level in cache.engine.remote.servers:
        if left <= 0 or not isinstance(level.store, Lister):
            continue
        for key in level.store.keys(prefix, left):
            if not is_full_key(key, prefix) or (level.name, key) in listed:
                continue  # a counter, what others have put there, or once more: a scan may come by twice
            listed.add((level.name, key))
            seen = _seen(cache, level, key)
            if seen is not None:
                left -= 1
                yield seen[0]
            if left <= 0:
                break


def value_of(cache: Cache, key: str, codec: Codec | None = None) -> tuple[Stored, Any] | None:
    """Return the value that a server holds under a key, whether or not its tags still stand; None where none does.

    Args:
        cache: The cache.
        key: Full key.
        codec: Its function's; without one, objects come as `Plain`. Nothing is unpickled that is not sealed.

    Raises:
        StoreFailedError: A server does not answer, and no other has it.
        CorruptError: What is there is no value of this cache.
    """
    failed: StoreFailedError | None = None
    for tier in cache.engine.remote.tiers:
        try:
            seen = _seen(cache, tier.of(key), key)
        except StoreFailedError as error:
            failed = error
            continue
        if seen is not None:
            row, letter = seen
            if letter is None:
                raise CorruptError("it does not open with the keys of this cache")
            codec = codec or Codec(_Anything(), allow_pickle=cache.settings.allow_pickle)
            return row, codec.unpack(letter.encoding, letter.payload)
    if failed is not None:
        raise failed
    return None


def _seen(cache: Cache, level: Level, key: str) -> tuple[Stored, Letter | None] | None:
    found = run_blocking(level.store.read(key, (), mode="sync", timeout_s=_TIMEOUT_S))
    if found.blob is None:
        return None
    row = Stored(key, level.name, level.store.name, len(found.blob))
    try:
        letter = cache.engine.remote.envelope.open(found.blob, key.encode())
    except (CorruptError, TypeError):
        return row, None
    at = cache.engine.remote.time_of(key).now()
    age_s, left_s = max(0.0, at - letter.created_ms / 1000), letter.remaining_s(at)
    encoding = _ENCODINGS.get(letter.encoding, str(letter.encoding))
    return Stored(key, row.level, row.server, row.size_bytes, age_s, left_s, encoding), letter
