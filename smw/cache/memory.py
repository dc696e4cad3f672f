"""Holds entries within bounds of count and bytes and decides which goes first; knows no function and no server.

The order of eviction is S3-FIFO: newcomers wait in a small queue, and only those asked for again, or remembered from
before, reach the main one. A hit takes no lock: it sets the entry's `touched` bit, which eviction reads.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from smw._kernel.process import after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from smw.cache.depending import Basis
    from smw.cache.refresh import Ahead

__all__ = ["Entry", "Memory"]

ENTRY_BYTES = 400
"""What an entry costs beside its value: the object, its place in a table, a queue and the indexes."""
_SMALL_SHARE = 10
_BATCH_SHARE = 128

Table = dict[Any, "Entry"]


class Entry:
    """A value in memory.

    Attributes:
        value: What `thaw` takes, or the value itself where `thaw` is None.
        deadline: On the monotonic clock: until when it may be handed out without looking further.
        touched: 1 when it was handed out since eviction last looked.
        thaw: Makes the caller's own copy.
        expires: When its time to live ends; `deadline` never lies beyond it.
        trusted: Until when nobody needs to be asked whether it still stands.
        stale_until: Until when it may stand in for a load that fails.
        ahead: When it is to be loaded anew before it expires; None: not at all.
        scopes: Tags and the key text under which it can be dropped.
        ticket: What the remote levels said when it was stored, to ask them whether it still stands.
        asked: When the question was asked to which `ticket` is the newest answer; minus infinity without one.
        basis: The cached results that it was made from, as far as it is dropped with them.
    """

    __slots__ = (
        "ahead", "alive", "asked", "basis", "bytes", "deadline", "expires", "home", "in_main", "key", "scopes",
        "stale_until", "thaw", "ticket", "touched", "trusted", "value",
    )  # fmt: skip

    def __init__(
        self,
        value: Any,
        thaw: Callable[[Any], Any] | None,
        *,
        expires: float,
        deadline: float,
        size: int,
        scopes: tuple[str, ...] = (),
        ticket: Any = None,
        stale_until: float = 0.0,
        asked: float = float("-inf"),
        ahead: Ahead | None = None,
        basis: Basis | None = None,
    ) -> None:
        self.value = value
        self.thaw = thaw
        self.expires = expires
        self.stale_until = stale_until
        self.touched = 0
        self.bytes = size + ENTRY_BYTES
        self.scopes = scopes
        self.ticket = ticket
        self.asked = asked
        self.ahead = ahead
        self.basis = basis
        self.trust(deadline)
        self.home: Table = {}
        self.key: Hashable = None
        self.alive = False
        self.in_main = False

    def trust(self, until: float) -> None:
        """Let it be handed out until then, without looking further than whether it is to be loaded anew."""
        self.trusted = until
        self.deadline = until if self.ahead is None else min(until, self.ahead.at)

    def postpone(self, at: float) -> None:
        """Do not have it loaded anew before then."""
        if self.ahead is not None:
            self.ahead = self.ahead._replace(at=max(at, self.ahead.at))
            self.trust(self.trusted)

    @property
    def tags(self) -> tuple[str, ...]:
        """Its own tags, without those of what it was made from."""
        if self.ticket is not None:
            return self.scopes[1 : 1 + len(self.ticket.generations)]
        return (
            self.scopes[1:]
            if self.basis is None
            else tuple([tag for tag in self.scopes[1:] if tag not in self.basis.scopes])
        )

    def copy(self) -> Any:
        """Return the value for one more caller."""
        return self.value if self.thaw is None else self.thaw(self.value)


class Memory:
    """The first level: every entry of one cache, whatever table it is found in.

    Args:
        most_entries: Bound on entries; 0 keeps nothing.
        most_bytes: Bound on the estimated size of all entries together.
    """

    def __init__(self, most_entries: int, most_bytes: int) -> None:
        self.most_entries = most_entries
        self.most_bytes = most_bytes
        self.entries = 0
        self.bytes = 0
        self.evictions = self.evictions_by_bytes = 0
        self.lock = threading.RLock()
        self._small: deque[Entry] = deque()
        self._main: deque[Entry] = deque()
        self._small_alive = 0
        self._dead_bytes = 0
        self._ghosts: dict[int, None] = {}
        self._scopes: dict[str, set[Entry]] = {}
        self._orphans: deque[Entry] = deque()
        after_fork(self._forked)

    def _forked(self) -> None:
        # The parent may have been in the middle of a change: start empty rather than trust it.
        self.lock = threading.RLock()
        for entry in (*self._small, *self._main):
            entry.home.pop(entry.key, None)
        self._small, self._main, self._orphans = deque(), deque(), deque()
        self._ghosts, self._scopes = {}, {}
        self.entries = self.bytes = self._small_alive = self._dead_bytes = 0

    def put(self, entry: Entry, home: Table, key: Hashable, stands: Callable[[], bool]) -> bool:
        """Store `entry` as ``home[key]``.

        Args:
            entry: A new entry; it is never changed again except for `deadline`, `asked` and `touched`.
            home: The table in which it is looked up.
            key: Its key there.
            stands: Asked under the lock; False means that it was invalidated meanwhile.

        Returns:
            Whether it was stored.
        """
        if entry.bytes > self.most_bytes // 2 or not self.most_entries:
            return False
        with self.lock:
            self._reap()
            if not stands():
                return False
            before = home.get(key)
            if before is not None:
                self._remove(before)
            entry.home, entry.key, entry.alive = home, key, True
            home[key] = entry
            for scope in entry.scopes:
                self._scopes.setdefault(scope, set()).add(entry)
            entry.in_main = self._ghosts.pop(_ghost(entry), 0) is None
            (self._main if entry.in_main else self._small).append(entry)
            self._small_alive += not entry.in_main
            self.entries += 1
            self.bytes += entry.bytes
            self._shrink()
        return True

    def drop(self, scopes: Iterable[str]) -> int:
        """Remove every entry under any of `scopes`; returns how many. Call it holding `lock`, after raising fences."""
        found = [entry for scope in scopes for entry in self._scopes.get(scope, ())]
        for entry in found:
            self._remove(entry)
        return len(found)

    def held(self, key: str) -> list[Entry]:
        """Return what is held under a full key of its own, expired or not; not what was made from that."""
        with self.lock:
            return [entry for entry in self._scopes.get(key, ()) if entry.scopes[0] == key]

    def abandon(self, entry: Entry) -> None:
        """Remove one entry without the lock, as a finalizer must; its space is reclaimed with the next change."""
        if entry.home.get(entry.key) is entry:
            entry.home.pop(entry.key, None)
        self._orphans.append(entry)

    def clear(self) -> None:
        """Remove everything."""
        with self.lock:
            for entry in (*self._small, *self._main):
                self._remove(entry)
            self._small.clear()
            self._main.clear()

    def _reap(self) -> None:
        while self._orphans:
            self._remove(self._orphans.popleft())

    def _remove(self, entry: Entry) -> None:
        if not entry.alive:
            return
        entry.alive = False
        if entry.home.get(entry.key) is entry:
            del entry.home[entry.key]
        for scope in entry.scopes:
            members = self._scopes.get(scope)
            if members is not None:
                members.discard(entry)
                if not members:
                    del self._scopes[scope]
        self.entries -= 1
        self.bytes -= entry.bytes
        self._small_alive -= not entry.in_main
        # Its value stays, as a hit may be reading it at this moment; both leave with the next sweep of the queues.
        self._dead_bytes += entry.bytes
        entry.home, entry.scopes, entry.ticket = {}, (), None

    def _shrink(self) -> None:
        if self.entries > self.most_entries or self.bytes > self.most_bytes:
            enough = self.most_entries - self.most_entries // _BATCH_SHARE
            while self.entries > enough or self.bytes > self.most_bytes:
                self._evict(by_bytes=self.entries <= enough)
        crowded = len(self._small) + len(self._main) > 2 * self.entries + 64
        if crowded or self._dead_bytes > self.most_bytes // 8:
            self._dead_bytes = 0
            self._small = deque(entry for entry in self._small if entry.alive)
            self._main = deque(entry for entry in self._main if entry.alive)

    def _evict(self, *, by_bytes: bool) -> None:
        """Look at one entry and let it go, or let it stay once more because it was used."""
        from_small = self._small_alive * _SMALL_SHARE > self.entries or self._small_alive == self.entries
        queue = self._small if from_small else self._main
        entry = queue.popleft()
        if not entry.alive:
            return
        if entry.touched:
            entry.touched = 0
            self._main.append(entry)
            if from_small:
                entry.in_main = True
                self._small_alive -= 1
            return
        ghost = _ghost(entry)
        self._remove(entry)
        self.evictions += 1
        self.evictions_by_bytes += by_bytes
        if from_small:
            self._ghosts[ghost] = None
            while len(self._ghosts) > self.most_entries:
                del self._ghosts[next(iter(self._ghosts))]


def _ghost(entry: Entry) -> int:
    return hash((id(entry.home), entry.key))
