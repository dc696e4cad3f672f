"""Holds entries within bounds of count and bytes and decides which goes first; knows no function and no server.

The order of eviction is S3-FIFO: newcomers wait in a small queue, and only those asked for again, or remembered from
before, reach the main one. A hit takes no lock: it sets the entry's `touched` bit, which eviction reads. In the main
queue an entry that was found touched rises in rank, up to a bound, and goes round once more for each rank: what is
asked for often stays longer, although a hit does not count.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from smw._kernel.process import after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from smw.cache.coherence.depending import Basis
    from smw.cache.loading.refresh import Ahead

__all__ = ["ENTRY_BYTES", "SCOPE_BYTES", "Entry", "Memory"]

ENTRY_BYTES, SCOPE_BYTES = 540, 360
"""What an entry costs beside its value (the object, its key, its place in a table and a queue), and each scope that it
alone stands under (text, place in the index, and set), its own key being one of them."""
_NEWCOMERS_SHARE = 10
_BATCH_SHARE = 64
_GHOSTS_SHARE = 3 / 4
"""Of the most entries: so many ghosts are gathered before those that were gathered earlier are forgotten."""
_REMOVED_NEWCOMER, _REMOVED, _NEWCOMER, _MAIN, _HIGHEST = -2, -1, 0, 1, 4

Table = dict[Any, "Entry"]
_NOWHERE: Table = {}
_NEVER = float("-inf")


class Entry:
    """A value in memory.

    Attributes:
        value: What `thaw` takes, or the value itself where `thaw` is None.
        deadline: On the monotonic clock: until when it may be handed out without looking further.
        touched: 1 when it was handed out since eviction last looked, 2 when that has been counted since (`Heat`).
        thaw: Makes the caller's own copy.
        expires: When its time to live ends; `deadline` never lies beyond it.
        trusted: Until when nobody needs to be asked whether it still stands.
        stale_until: Until when it may stand in for a load that fails.
        ahead: When it is to be loaded anew before it expires; None: not at all.
        scopes: Tags and the key text under which it can be dropped.
        ticket: What the remote levels said when it was stored, to ask them whether it still stands.
        asked: When the question was asked to which `ticket` is the newest answer; minus infinity without one.
        basis: The cached results that it was made from, as far as it is dropped with them.
        rank: Where it stands in the order of eviction: removed, a newcomer, or in the main queue, where each time that
            it is found touched lifts it by one.
        ghost: What is remembered of a newcomer that had to go.
    """

    __slots__ = (
        "ahead", "asked", "basis", "bytes", "deadline", "expires", "ghost", "home", "key", "rank", "scopes",
        "stale_until", "thaw", "ticket", "touched", "trusted", "value",
    )  # fmt: skip

    home: Table
    key: Hashable
    rank: int
    ghost: int

    def __init__(  # noqa: PLR0917 - each parameter that is keyword-only costs every entry a look-up
        self,
        value: Any,
        thaw: Callable[[Any], Any] | None,
        expires: float,
        deadline: float,
        size: int,
        scopes: tuple[str, ...] = (),
        ticket: Any = None,
        stale_until: float = 0.0,
        asked: float = _NEVER,
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
        self.trusted = deadline
        self.deadline = deadline if ahead is None else min(deadline, ahead.at)

    @property
    def alive(self) -> bool:
        """Whether memory still has it."""
        return self.rank >= 0

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

    Attributes:
        largest: The most bytes that one entry may have; a larger one is not kept.

    Args:
        most_entries: Bound on entries; 0 keeps nothing.
        most_bytes: Bound on the estimated size of all entries together.
    """

    def __init__(self, most_entries: int, most_bytes: int) -> None:
        self.most_entries = most_entries
        self.most_bytes = most_bytes
        self.evictions = self.evictions_by_bytes = 0
        self.largest = most_bytes // 2 if most_entries else 0
        self._orphans: deque[Entry] = deque()
        self._reset()
        after_fork(self._forked)

    def _reset(self) -> None:
        self.lock = threading.RLock()
        self.entries = self.bytes = 0
        self._newcomers: deque[Entry] = deque()
        self._main: deque[Entry] = deque()
        self._removed = self._removed_newcomers = self._removed_bytes = 0
        self._is_evicting = self._is_disturbed = False
        self._ghosts: set[int] = set()
        self._older_ghosts: set[int] = set()
        self._scopes: dict[str, set[Entry]] = {}

    def _forked(self) -> None:
        # The parent may have been in the middle of a change: start empty rather than trust it.
        for entry in (*self._newcomers, *self._main):
            entry.home.pop(entry.key, None)
        self._orphans.clear()
        self._reset()

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
        if entry.bytes > self.largest:
            return False
        lock = self.lock
        lock.acquire()  # half the price of `with`
        try:
            if self._orphans:
                self._reap()
            if not stands():
                return False
            before = home.get(key)
            if before is not None:
                self._remove(before)
            entry.home = home
            entry.key = key
            entry.ghost = ghost = hash((id(home), key))
            if ghost in self._ghosts or ghost in self._older_ghosts:
                entry.rank = _MAIN
                self._main.append(entry)
            else:
                entry.rank = _NEWCOMER
                self._newcomers.append(entry)
            home[key] = entry
            if entry.scopes:
                self._index(entry)
            self.entries = entries = self.entries + 1
            self.bytes = held = self.bytes + entry.bytes
            if entries > self.most_entries or held > self.most_bytes:
                self._make_room()
            elif self._is_evicting:
                self._is_disturbed = True
        finally:
            lock.release()
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

    def move(self, entry: Entry, home: Table, key: Hashable) -> None:
        """Have `entry` found as ``home[key]`` from now on, unless there is another one by now, which is the newer."""
        with self.lock:
            if entry.rank < 0:
                return
            if key in home:
                self._remove(entry)
                return
            if entry.home.get(entry.key) is entry:
                del entry.home[entry.key]
            entry.home, entry.key, entry.ghost = home, key, hash((id(home), key))
            home[key] = entry

    def abandon(self, entry: Entry) -> None:
        """Remove one entry without the lock, as a finalizer must; its space is reclaimed with the next change."""
        if entry.home.get(entry.key) is entry:
            entry.home.pop(entry.key, None)
        self._orphans.append(entry)

    def clear(self) -> None:
        """Remove everything."""
        with self.lock:
            for entry in (*self._newcomers, *self._main):
                self._remove(entry)
            self._sweep()

    def _reap(self) -> None:
        while self._orphans:
            self._remove(self._orphans.popleft())

    def _index(self, entry: Entry) -> None:
        scopes = self._scopes
        for scope in entry.scopes:
            members = scopes.get(scope)
            if members is None:
                scopes[scope] = {entry}
                entry.bytes += SCOPE_BYTES  # counted until this entry goes, whoever joins it meanwhile
            else:
                members.add(entry)

    def _unindex(self, entry: Entry) -> None:
        for scope in entry.scopes:
            members = self._scopes.get(scope)
            if members is not None:
                members.discard(entry)
                if not members:
                    del self._scopes[scope]

    def _remove(self, entry: Entry) -> None:
        if entry.rank < 0:
            return
        if entry.home.get(entry.key) is entry:
            entry.home.pop(entry.key, None)  # a finalizer may have been there since
        self._unindex(entry)
        self.entries -= 1
        self.bytes -= entry.bytes
        # Its place in a queue stays, with its value; both leave when they are passed, or with the next sweep.
        self._removed += 1
        self._removed_newcomers += entry.rank == _NEWCOMER
        self._removed_bytes += entry.bytes
        entry.rank = _REMOVED_NEWCOMER if entry.rank == _NEWCOMER else _REMOVED
        entry.home, entry.scopes, entry.ticket = _NOWHERE, (), None
        if self._is_evicting:
            self._is_disturbed = True
        elif self._removed > self.entries + 64 or self._removed_bytes > self.most_bytes // 8:
            self._sweep()

    def _sweep(self) -> None:
        if self._is_evicting:
            return
        self._newcomers = deque([entry for entry in self._newcomers if entry.rank >= 0])
        self._main = deque([entry for entry in self._main if entry.rank >= 0])
        self._removed = self._removed_newcomers = self._removed_bytes = 0

    def _make_room(self) -> None:
        """Let entries go, and count anew where the handler of a signal, or a finalizer, has come in between."""
        if self._is_evicting:
            self._is_disturbed = True
            return
        self._is_evicting, self._is_disturbed = True, False
        try:
            self._evict()
        except IndexError:  # the queues hold less than was counted
            self._is_disturbed = True
        except BaseException:
            self._is_disturbed = True
            raise
        finally:
            self._is_evicting = False
            if self._is_disturbed:
                self._sweep()
                kept = (*self._newcomers, *self._main)
                self.entries, self.bytes = len(kept), sum([entry.bytes for entry in kept])

    def _evict(self) -> None:
        """Let entries go until there is room for some more."""
        next_newcomer, next_in_main, stay = self._newcomers.popleft, self._main.popleft, self._main.append
        enough = self.most_entries - self.most_entries // _BATCH_SHARE
        before, held, most_bytes = self.entries, self.bytes, self.most_bytes
        entries, by_bytes, remember = before, 0, self._ghosts.add
        waiting = len(self._newcomers) - self._removed_newcomers
        entry: Entry | None = None
        try:
            while entries > enough or held > most_bytes:
                if waiting * _NEWCOMERS_SHARE > entries:
                    entry = next_newcomer()
                    if entry.touched and entry.rank >= 0:
                        entry.touched = 0
                        entry.rank = _MAIN
                        waiting -= 1
                        stay(entry)
                        continue
                else:
                    entry = next_in_main()
                    rank = entry.rank
                    if entry.touched and rank >= 0:
                        entry.touched = 0
                        entry.rank = rank + (rank < _HIGHEST)
                        stay(entry)
                        continue
                    if rank > _MAIN:
                        entry.rank = rank - 1
                        stay(entry)
                        continue
                found = entry.home.pop(entry.key, None)
                if found is not entry and self._is_passed(entry, found):
                    continue
                if entry.rank == _NEWCOMER:
                    waiting -= 1
                    remember(entry.ghost)
                entry.rank = _REMOVED
                if entry.scopes:
                    self._unindex(entry)
                if entries <= enough:
                    by_bytes += 1
                entries -= 1
                held -= entry.bytes
        except BaseException:
            if entry is not None and entry.rank >= 0 and not (self._main and self._main[-1] is entry):
                stay(entry)  # it was just taken out of its queue
            raise
        self.entries, self.bytes = entries, held
        self.evictions += before - entries
        self.evictions_by_bytes += by_bytes
        self._forget_ghosts()

    def _forget_ghosts(self) -> None:
        """Remember about as many newcomers that have gone as there may be entries, the latest ones."""
        if len(self._ghosts) >= self.most_entries * _GHOSTS_SHARE:
            self._older_ghosts, self._ghosts = self._ghosts, set()

    def _is_passed(self, entry: Entry, found: Entry | None) -> bool:
        """Tell whether an entry that was not where it belongs is removed; else a finalizer has just taken it out."""
        if found is not None:
            entry.home[entry.key] = found
        if entry.rank >= 0:
            return False
        self._removed -= 1
        self._removed_newcomers -= entry.rank == _REMOVED_NEWCOMER
        self._removed_bytes -= entry.bytes
        return True
