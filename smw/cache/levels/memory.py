"""Holds entries within bounds of count and bytes and decides which goes first; knows no function and no server.

The order of eviction is that of S3-FIFO: newcomers wait in a small queue, and only those asked for again, or remembered
from before, reach the main one. A hit takes no lock: it sets the entry's `touched` bit, which eviction reads. In the
main queue an entry that was found touched rises in rank, up to a bound, and goes round once more for each rank: what is
asked for often stays longer, although a hit does not count.

Storing takes no lock either, but for one in many: that one enters in the books what has arrived since, and makes room
for as many again.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from smw._kernel.process import after_fork
from smw.cache.levels.entry import ENTRY_BYTES, MAIN, NEWCOMER, REMOVED, SCOPE_BYTES, Entry, Table, Terms

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from smw.cache.coherence.fence import Fence

__all__ = ["ENTRY_BYTES", "SCOPE_BYTES", "Entry", "Memory", "Table", "Terms"]

_BATCH_SHARE = 16
"""Of the most entries and bytes: for so many there is room again once any had to go."""
_NEWCOMERS_SHARE = 100
"""Of the entries: so many newcomers stay, the latest ones."""
_HIGHEST = 4
_NEVER = float("-inf")


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
        self._batch = most_entries // _BATCH_SHARE
        self._orphans: deque[Entry] = deque()
        self._reset()
        after_fork(self._forked)

    def _reset(self) -> None:
        self.lock = threading.RLock()
        self._newcomers: list[Entry] = []  # changed in place alone: who stores appends to it without the lock
        self._settled = 0  # so many of them are in the books
        self._main: list[Entry] = []
        self._entries = self._bytes = 0
        self._removed = self._removed_bytes = 0
        self._is_settling = self._is_disturbed = False
        self._ghosts: set[int] = set()
        self._older_ghosts: set[int] = set()
        self._scopes: dict[str, set[Entry]] = {}
        self._plan()

    def _forked(self) -> None:
        # The parent may have been in the middle of a change: start empty rather than trust it.
        for entry in (*self._newcomers, *self._main):
            entry.home.pop(entry.key, None)
        self._orphans.clear()
        self._reset()

    @property
    def entries(self) -> int:
        """How many there are."""
        with self.lock:
            self._settle()
            return self._entries

    @property
    def bytes(self) -> int:
        """What all of them are estimated to take."""
        with self.lock:
            self._settle()
            return self._bytes

    def put(  # noqa: PLR0917 - each parameter that is keyword-only costs every entry a look-up
        self,
        home: Table,
        key: Hashable,
        value: Any,
        thaw: Callable[[Any], Any] | None,
        deadline: float,
        size: int,
        scopes: tuple[str, ...],
        fence: Fence,
        epoch: int,
        terms: Terms | None,
    ) -> bool:
        """Store ``home[key]`` unless it was invalidated after `epoch`; returns whether it was stored.

        It is handed out only after the fence was looked at, and the fence is looked at only after it has joined the
        newcomers. So a drop, which raises the fence before it looks at the newcomers, is seen here or sees it.

        Arguments are called as in `Entry`; `size` is in bytes, with `ENTRY_BYTES` and without what its scopes take.
        """
        if size > self.largest:
            return False
        entry = Entry()
        entry.home, entry.key = home, key
        entry.value, entry.thaw = value, thaw
        entry.bytes, entry.scopes = size, scopes
        entry.rank = entry.touched = NEWCOMER
        entry.terms, entry.deadline = None, _NEVER
        newcomers = self._newcomers
        newcomers.append(entry)
        is_usual = home.setdefault(key, entry) is entry and fence.epoch == epoch and entry.rank >= NEWCOMER
        if not is_usual and not (fence.stands(scopes, epoch) and self._replace(home, key, entry, size)):
            self._withdraw(home, key, entry)
            return False
        entry.terms, entry.deadline = terms, deadline
        if len(newcomers) > self._full or size > self._small:
            with self.lock:
                self._settle()
        return True

    def drop(self, scopes: Iterable[str]) -> int:
        """Remove every entry under any of `scopes`; returns how many. Call it holding `lock`, after raising fences."""
        if self._settle():
            found = [entry for scope in scopes for entry in self._scopes.get(scope, ())]
        else:  # called from within: what has arrived may not be in the index yet
            wanted = set(scopes)
            found = [entry for entry in (*self._newcomers, *self._main) if not wanted.isdisjoint(entry.scopes)]
        for entry in found:
            self._remove(entry)
        return len(found)

    def held(self, key: str) -> list[Entry]:
        """Return what is held under a full key of its own, expired or not; not what was made from that."""
        with self.lock:
            self._settle()
            return [entry for entry in self._scopes.get(key, ()) if entry.scopes[0] == key]

    def move(self, entry: Entry, home: Table, key: Hashable) -> None:
        """Have `entry` found as ``home[key]`` from now on, unless there is another one by now, which is the newer."""
        with self.lock:
            self._settle()
            if entry.rank < NEWCOMER:
                return
            if home.setdefault(key, entry) is not entry:
                self._remove(entry)
                return
            if entry.home.get(entry.key) is entry:
                del entry.home[entry.key]
            entry.home, entry.key = home, key

    def abandon(self, entry: Entry) -> None:
        """Remove one entry without the lock, as a finalizer must; its space is reclaimed later on."""
        if entry.home.get(entry.key) is entry:
            entry.home.pop(entry.key, None)
        self._orphans.append(entry)

    def clear(self) -> None:
        """Remove everything."""
        with self.lock:
            self._settle()
            for entry in (*self._newcomers[: self._settled], *self._main):
                self._remove(entry)
            self._sweep()

    def _replace(self, home: Table, key: Hashable, entry: Entry, size: int) -> bool:
        """Have `entry` found in the place of another, unless it is removed by now; returns whether it is found."""
        if home.get(key) is entry:
            return entry.rank >= NEWCOMER
        with self.lock:
            self._settle()
            while entry.rank >= NEWCOMER and (before := home.setdefault(key, entry)) is not entry:
                self._settle()  # so that it is in the books
                self._remove(before)
                if home.get(key) is before:
                    home.pop(key, None)
            if entry.rank < NEWCOMER:
                return False
            self._unindex(entry)  # it may be alone now under what they have shared
            self._bytes -= entry.bytes
            entry.bytes = size
            self._index(entry)
            self._bytes += entry.bytes
        return True

    def _withdraw(self, home: Table, key: Hashable, entry: Entry) -> None:
        """Remove what has just arrived, and was perhaps removed before it could be found."""
        with self.lock:
            self._settle()
            self._remove(entry)
            if home.get(key) is entry:
                home.pop(key, None)

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
        if entry.rank < NEWCOMER:
            return
        if entry.home.get(entry.key) is entry:
            entry.home.pop(entry.key, None)  # a finalizer may have been there since
        self._unindex(entry)
        self._entries -= 1
        self._bytes -= entry.bytes
        # Its place in a queue stays, with its value; both leave when they are passed, or with the next sweep.
        self._removed += 1
        self._removed_bytes += entry.bytes
        entry.leave()
        if self._removed > self._entries + 64 or self._removed_bytes > self.most_bytes // 8:
            self._sweep()

    def _sweep(self) -> None:
        if self._is_settling:
            return
        kept = [entry for entry in self._newcomers[: self._settled] if entry.rank == NEWCOMER]
        self._newcomers[: self._settled] = kept
        self._settled = len(kept)
        self._main = [
            entry for entry in dict.fromkeys(self._main) if entry.rank >= MAIN
        ]  # each once, whatever broke off
        self._removed = self._removed_bytes = 0
        self._plan()

    def _plan(self) -> None:
        """Say how many may arrive, and of which size, until the next one has to settle."""
        room_bytes = max(0, self.most_bytes - self._bytes)
        usual_bytes = 1 + self._bytes // (self._entries or 1)
        # Half of the room is left for what the index takes.
        count = max(0, min(self._batch, self.most_entries - self._entries, room_bytes // (4 * usual_bytes)))
        self._small = room_bytes // (2 * count) if count else 0
        self._full = self._settled + count

    def _settle(self) -> bool:
        """Enter in the books what has arrived, and make room; returns False where that is being done further up.

        All is counted anew where the handler of a signal, or a finalizer, has come in between.
        """
        if self._is_settling:
            self._is_disturbed = True
            return False
        orphans = len(self._orphans)
        self._is_settling, self._is_disturbed = True, False
        try:
            self._enter()
            for _ in range(orphans):
                self._remove(self._orphans.popleft())
            if self._entries > self.most_entries or self._bytes > self.most_bytes:
                self._evict()
        except BaseException:
            self._is_disturbed = True
            raise
        finally:
            self._is_settling = False
            if self._is_disturbed:
                self._sweep()
                kept = (*self._newcomers[: self._settled], *self._main)
                self._entries, self._bytes = len(kept), sum([entry.bytes for entry in kept])
            self._plan()
        return True

    def _enter(self) -> None:
        arrived = self._newcomers[self._settled :]
        for entry in arrived:
            if entry.scopes:
                self._index(entry)
        sizes = [entry.bytes for entry in arrived if entry.rank >= NEWCOMER]
        self._settled += len(arrived)
        self._entries += len(sizes)
        self._bytes += sum(sizes)

    def _evict(self) -> None:
        """Let entries go until there is room for some more."""
        entries = before = self._entries
        held, most, most_bytes = self._bytes, self.most_entries, self.most_bytes
        if entries > most:
            most -= self._batch
        if held > most_bytes:
            most_bytes -= most_bytes // _BATCH_SHARE
        staying = 1 + entries // _NEWCOMERS_SHARE
        while entries > most or held > most_bytes:
            wanted = max(1, entries - most, (held - most_bytes) * entries // (2 * held + 1))
            leaving = self._settled - (staying if self._main else 0)
            if leaving > 0:
                gone, freed = self._pass_newcomers(min(leaving, wanted))
            elif self._main:
                gone, freed = self._pass_main(wanted)
            else:  # the queues hold less than was counted
                self._is_disturbed = True
                break
            entries -= gone
            held -= freed
        self._entries, self._bytes = entries, held
        self.evictions += before - entries
        self.evictions_by_bytes += max(0, min(before, most) - entries)
        if len(self._ghosts) >= self.most_entries:
            self._older_ghosts, self._ghosts = self._ghosts, set()

    def _pass_newcomers(self, count: int) -> tuple[int, int]:
        """Let so many newcomers go, or stay in the main queue; returns how many have gone, and their bytes."""
        ghosts, older_ghosts, stay = self._ghosts, self._older_ghosts, self._main.append
        gone, freed, salt = count, 0, 0
        salted: Table | None = None
        for entry in self._newcomers[:count]:
            if entry.touched:
                gone -= 1
                if entry.rank < NEWCOMER:
                    self._passed(entry)
                    continue
                entry.touched = 0
                stay(entry)
                entry.rank = MAIN
                continue
            home, key = entry.home, entry.key
            if home is not salted:
                salted, salt = home, id(home)
            ghost = hash(key) ^ salt
            if ghost in ghosts or ghost in older_ghosts:
                gone -= 1
                stay(entry)
                entry.rank = MAIN
                continue
            ghosts.add(ghost)
            found = home.pop(key, None)
            if found is not entry:
                _give_back(home, key, found)
            entry.rank = REMOVED
            freed += entry.bytes
            if entry.scopes:
                self._unindex(entry)
        del self._newcomers[:count]
        self._settled -= count
        return gone, freed

    def _pass_main(self, wanted: int) -> tuple[int, int]:
        """Let so many of the main queue go; returns how many have gone, and their bytes."""
        main, stay, count, gone, freed = self._main, self._main.append, 0, 0, 0
        for entry in main:
            if gone >= wanted:
                break
            count += 1
            rank = entry.rank
            if entry.touched:
                if rank < NEWCOMER:
                    self._passed(entry)
                    continue
                entry.touched = 0
                entry.rank = rank + (rank < _HIGHEST)
                stay(entry)
                continue
            if rank > MAIN:
                entry.rank = rank - 1
                stay(entry)
                continue
            found = entry.home.pop(entry.key, None)
            if found is not entry:
                _give_back(entry.home, entry.key, found)
            entry.rank = REMOVED
            gone += 1
            freed += entry.bytes
            if entry.scopes:
                self._unindex(entry)
        del main[:count]
        return gone, freed

    def _passed(self, entry: Entry) -> None:
        """Count no longer what was removed, now that its place in a queue is free."""
        self._removed -= 1
        self._removed_bytes -= entry.bytes


def _give_back(home: Table, key: Hashable, found: Entry | None) -> None:
    """Put back what has come after an entry that a finalizer had taken out, unless there is something newer by now."""
    if found is not None:
        home.setdefault(key, found)
