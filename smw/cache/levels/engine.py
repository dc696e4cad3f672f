"""Finds a value in the levels or loads it, keeps it in them, and drops; the same for functions and regions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from smw._kernel.guard import Allowance
from smw.cache.coherence.backplane import NEVER
from smw.cache.coherence.bookmark import READING
from smw.cache.coherence.depending import Basis, Origin, lasting, scopes_of
from smw.cache.coherence.planes import backplane_of
from smw.cache.levels.entry import ENTRY_BYTES, Terms
from smw.cache.loading.refresh import ahead_of
from smw.cache.naming.place import OF_INSTANCE, Look, Place
from smw.cache.ports import Versions
from smw.cache.sight.records import dropped
from smw.cache.sight.spread import Watch
from smw.cache.values.codec import CorruptError
from smw.cache.values.envelope import Letter
from smw.cache.values.forms import Finding, Forms, Packing, Policy, forms_of, held_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from smw._kernel.call import Mode
    from smw._kernel.guard import Budget
    from smw._kernel.host import Host
    from smw.cache.coherence.fence import Fence
    from smw.cache.levels.entry import Entry
    from smw.cache.levels.memory import Memory
    from smw.cache.levels.remote import Ahead, Remote, Sight
    from smw.cache.loading.fleet import Fleet
    from smw.cache.strategies.behind import WriteBehind
    from smw.cache.values.copies import Held

__all__ = ["OF_INSTANCE", "Engine", "Look", "Place"]

_UNDATED_S = 1.0
"""How long memory keeps what a server has while the time there is not known."""
_SCOPE_BYTES = 100
"""What it costs to find an entry by one more tag or key."""


class Engine:
    """The levels of one cache and what they share.

    Args:
        host: Clock and bus.
        memory: The first level.
        remote: The levels behind it.
        fence: What this process invalidated.
        budget_s: What the servers may add to one call.
        trust_s: How long memory answers before the servers are asked what others invalidated.
        l1_ttl_s: The longest that memory keeps anything.
        jitter: The largest share by which the life of a value is shortened.
    """

    def __init__(
        self,
        host: Host,
        *,
        memory: Memory,
        remote: Remote,
        fence: Fence,
        budget_s: float,
        trust_s: float,
        l1_ttl_s: float,
        jitter: float = 0.0,
    ) -> None:
        self.host = host
        self.memory = memory
        self.remote = remote
        self.fence = fence
        self.jitter = jitter
        self.watch = Watch()
        self.behind: WriteBehind | None = None
        self._now = host.clock.now
        self._budget_s, self._l1_ttl_s = budget_s, l1_ttl_s
        self.trust_s = trust_s
        self.backplane = backplane_of(remote, self.heard, self.missed)
        self.fleet: Fleet | None = None

    def budget(self) -> Budget:
        """Return how long servers may keep one call."""
        return Allowance(self.host.clock, self._budget_s)

    def fresh(self, place: Place) -> Entry | None:
        """Return the entry of `place` if memory may hand it out without looking further."""
        entry = place.home.get(place.key)
        if entry is None:
            return None
        reading, now = READING.get(), self._now()
        if reading is not None and reading.bars(self, entry):
            return None
        if entry.deadline <= now and not self._is_current(entry, now):
            return None
        entry.touched = 1
        return entry

    def _is_current(self, entry: Entry, now: float) -> bool:
        """Prolong the trust in an entry, without asking, where all that others have dropped was heard."""
        scopes = entry.scopes
        if entry.expires <= now or not scopes:  # dropped meanwhile by another thread
            return False
        self.backplane.want(now)
        if entry.trusted <= now:
            heard = self.backplane.of(scopes[0]) if entry.basis is None else self.backplane
            until = min(entry.expires, heard.current(entry.asked) + self.trust_s)
            if until <= now:
                return False
            entry.trust(until)
        return True

    async def look(self, place: Place, policy: Policy, mode: Mode, *, ahead: Ahead | None = None) -> Look:
        """Look for a value in the levels behind memory, filling those before the one that has it.

        Args:
            place: Where it belongs.
            policy: How it is kept.
            mode: The caller's mode.
            ahead: What the first server was just asked of it together with others; None asks.
        """
        if ahead is None:
            epoch, budget = self.fence.epoch, self.budget()
        else:
            epoch, budget = ahead.epoch, ahead.budget
        self.backplane.want(self._now())
        text = place.text or ""
        sight = await self.remote.look(text, place.tags, policy.names, budget=budget, mode=mode, ahead=ahead)
        found = None
        if place.key in place.home:
            await self.verify(place, sight, budget=budget, mode=mode)
            found = self.confirmed(place, sight)
        if found is None and sight.letter is not None:
            found = await self.unpacked(place, policy, sight, epoch=epoch, budget=budget, mode=mode)
        return Look(found, sight, budget, epoch)

    async def obtain(
        self, place: Place, policy: Policy, load: Callable[[], Awaitable[Any]], mode: Mode, *, look: Look | None = None
    ) -> Finding:
        """Return the value of `place` from the first level that has it, else from `load`, keeping it.

        Args:
            place: Where it belongs.
            policy: How it is kept.
            load: Calls the function.
            mode: The caller's mode.
            look: What a look just now has shown; None looks.

        Raises:
            BaseException: What `load` raises, and nothing else.
        """
        epoch = self.fence.epoch
        entry = self.fresh(place)
        if entry is not None:
            return Finding("l1", copy=entry.copy, origin=entry)
        if place.text is None or not self.remote.tiers:
            return await self.load_here(place, policy, load)
        look = look or await self.look(place, policy, mode)
        found, sight, budget, epoch = look
        if found is not None:
            return found
        if policy.is_of_fleet and self.fleet is not None:
            return await self.fleet.load(place, policy, load, mode, look=look)
        return await self.load(place, policy, load, mode, sight=sight, epoch=epoch, budget=budget)

    async def load_here(self, place: Place, policy: Policy, load: Callable[[], Awaitable[Any]]) -> Finding:
        """Return what `load` returns, keeping it in memory."""
        epoch, began = self.fence.epoch, self._now()
        value = await load()
        took_s, ttl_s = self._now() - began, lasting(place, policy.lasts(place.key, value), self._now())
        forms = forms_of(value, policy, for_servers=False)
        return self._loaded(place, policy, value, forms, ttl_s=ttl_s, took_s=took_s, epoch=epoch)

    async def load(
        self,
        place: Place,
        policy: Policy,
        load: Callable[[], Awaitable[Any]],
        mode: Mode,
        *,
        sight: Sight,
        epoch: int,
        budget: Budget,
    ) -> Finding:
        """Return what `load` returns, keeping it in memory and in every level that `sight` saw without it."""
        longest_s = policy.ttl_s + policy.stale_s
        await self.remote.prepare(sight, place.text or "", place.tags, longest_s, budget=budget, mode=mode)
        began = self._now()
        value = await load()
        took_s = self._now() - began
        return await self.keep(place, policy, value, sight, epoch=epoch, budget=budget, mode=mode, took_s=took_s)

    async def verify(self, place: Place, sight: Sight, *, budget: Budget, mode: Mode) -> None:
        """Forget what memory has beyond its trust if something that it was made from was dropped."""
        entry = place.home.get(place.key)
        if entry is None or entry.basis is None or sight.versions is None or sight.versions != entry.ticket:
            return
        depends = entry.basis.depends  # where they are not known nobody can judge it
        if entry.basis.lacks or (depends and not await self.remote.stand(depends, None, budget=budget, mode=mode)):
            self.memory.abandon(entry)

    def confirmed(self, place: Place, sight: Sight) -> Finding | None:
        """Return what memory has beyond its trust, unless the servers contradict it."""
        entry = place.home.get(place.key)
        now = self._now()
        if entry is None or entry.expires <= now or sight.versions not in (None, entry.ticket):
            return None
        if sight.versions is not None:
            if not sight.versions.is_whole:
                return None
            entry.asked = sight.asked
        entry.trust(self._trusted_until(sight, entry.expires))
        entry.touched = 1
        return Finding("l1", copy=entry.copy, origin=entry)

    def _trusted_until(self, sight: Sight | None, expires: float) -> float:
        """Return until when memory may answer alone, counted from the question: a drop may be older than the answer."""
        since = self._now() if sight is None or sight.versions is None else sight.asked
        return min(expires, since + self.trust_s)

    async def unpacked(
        self, place: Place, policy: Policy, sight: Sight, *, epoch: int, budget: Budget, mode: Mode
    ) -> Finding | None:
        """Return what a server has, filling the levels before it."""
        letter, codec = sight.letter, policy.codec
        if letter is None or place.text is None:
            return None
        try:
            value = codec.unpack(letter.encoding, letter.payload)
        except CorruptError:
            self.remote.corrupt[sight.level] += 1
            sight.missed.append(sight.level)
            return None
        if letter.depends:
            basis = Basis.of_letter(self, letter.depends, sight.asked)
            place = Place(place.home, place.key, place.text, place.tags, place.scopes, basis)
        age_s = self.remote.time_of(place.text or "").at - letter.created_ms / 1000
        self.watch.ages.add(sight.level, max(0.0, age_s))
        if sight.missed:
            await self.remote.fill_up(sight, place.text or "", place.tags, budget=budget, mode=mode)
        self.remember(place, policy, value, sight, epoch=epoch)
        copy = partial(codec.unpack, letter.encoding, letter.payload)
        missed, origin = tuple(sight.missed), Origin(place, sight.versions, sight.asked)
        return Finding(sight.level, copy=copy, first=(value,), missed=missed, origin=origin)

    def remember(self, place: Place, policy: Policy, value: Any, sight: Sight, *, epoch: int) -> None:
        """Keep in memory what a server had, for the time that it still has."""
        if policy.in_memory and sight.letter is not None:
            letter, time = sight.letter, self.remote.time_of(place.text or "")
            held, left_s = held_of(value, letter, policy), letter.remaining_s(time.at)
            if not time.is_known:  # nobody can tell how old it is; the server that has it would have ended it
                left_s = min(letter.ttl_ms / 1000, _UNDATED_S)
            spans = {"life_s": letter.ttl_ms / 1000, "took_s": letter.load_ms / 1000}
            self.put(place, policy, held, ttl_s=left_s, epoch=epoch, sight=sight, **spans)

    async def keep(
        self,
        place: Place,
        policy: Policy,
        value: Any,
        sight: Sight,
        *,
        epoch: int,
        budget: Budget,
        mode: Mode,
        took_s: float = 0.0,
    ) -> Finding:
        """Keep a loaded value in the levels; never fails.

        Args:
            place: Where it belongs.
            policy: How it is kept.
            value: The value.
            sight: What the servers showed before it was loaded.
            epoch: The fence's epoch before it was loaded.
            budget: What may still be spent.
            mode: The caller's mode.
            took_s: How long loading it took.
        """
        ttl_s = lasting(place, policy.lasts(place.key, value, packing := Packing(value, policy.codec)), self._now())
        forms = forms_of(value, policy, for_servers=bool(sight.missed) and ttl_s > 0, packing=packing)
        basis, stands = place.basis, True
        if basis is not None and basis.lacks and forms.packed is not None and sight.missed:
            forms = forms._replace(packed=None, refused=forms.refused or basis.refusal)
        if forms.packed is not None and place.text is not None and self.fence.stands(scopes_of(place), epoch):
            fence, generations = sight.versions or Versions(0, ())
            now_ms, ttl_ms = int(self.remote.time_of(place.text).now() * 1000), max(1, int(ttl_s * 1000))
            opened = tuple([number or 0 for number in generations])
            spans_ms = int(policy.stale_s * 1000), int(took_s * 1000)
            depends = () if basis is None else basis.depends
            letter = Letter(*forms.packed, now_ms, ttl_ms, fence or 0, opened, forms.shape, *spans_ms, depends)
            stands = await self.remote.write(sight, place.text, place.tags, letter, budget=budget, mode=mode)
        if not stands:  # invalidated elsewhere while it was loaded: good for this caller, but not to be kept
            forms = forms._replace(held=None, refused=None)
        return self._loaded(place, policy, value, forms, ttl_s=ttl_s, took_s=took_s, epoch=epoch, sight=sight)

    def _loaded(
        self,
        place: Place,
        policy: Policy,
        value: Any,
        forms: Forms,
        *,
        ttl_s: float,
        took_s: float,
        epoch: int,
        sight: Sight | None = None,
    ) -> Finding:
        if place.basis is not None and not place.basis.is_kept:
            forms = forms._replace(held=None, refused=forms.refused or place.basis.refusal)
        held, copy = forms.held, None
        missed = tuple(sight.missed) if sight is not None else ()
        versions, asked = (None, NEVER) if sight is None else (sight.versions, sight.asked)
        if held is not None:
            kept, thaw = held.value, held.thaw
            copy = (lambda: kept) if thaw is None else (lambda: thaw(kept))
            if policy.in_memory:
                self.put(place, policy, held, ttl_s=ttl_s, took_s=took_s, epoch=epoch, sight=sight)
        refused = forms.refused if ttl_s > 0 else None
        origin = Origin(place, versions, asked)
        lives = ttl_s > 0
        return Finding("", copy=copy, first=(value,), missed=missed, refused=refused, origin=origin, lives=lives)

    def put(
        self,
        place: Place,
        policy: Policy,
        held: Held,
        *,
        ttl_s: float,
        epoch: int,
        sight: Sight | None = None,
        life_s: float | None = None,
        took_s: float = 0.0,
    ) -> None:
        """Store in memory what nothing has invalidated since `epoch`.

        Args:
            place: Where it belongs.
            policy: How it is kept.
            held: Its form for memory.
            ttl_s: How long it lives; 0 stores nothing.
            epoch: The fence's epoch before it was loaded.
            sight: What the servers showed before it was loaded.
            life_s: How long its life is, of which `ttl_s` is left; None: all of it.
            took_s: How long loading it took.
        """
        if ttl_s <= 0:
            return
        now = self._now()
        expires = now + min(ttl_s, self._l1_ttl_s, policy.l1_ttl_s)
        shared = place.text is not None and bool(self.remote.tiers)
        basis, scopes = place.basis, scopes_of(place)
        asked = NEVER if sight is None or sight.versions is None else sight.asked
        trusted = self._trusted_until(sight, expires) if shared else expires
        if basis is not None:  # known to be current only as long as everything that it was made from
            asked, trusted = min(asked, basis.asked), min(trusted, basis.asked + self.trust_s) if shared else expires
        ahead = ahead_of(policy.ahead, ends=now + ttl_s, life_s=life_s or ttl_s, took_s=took_s)
        terms = None
        if shared or basis is not None or ahead is not None or policy.stale_s > 0:
            terms = Terms(
                expires,
                trusted,
                stale_until=expires + policy.stale_s,
                ahead=ahead,
                ticket=None if sight is None else sight.versions,
                asked=asked,
                basis=basis,
            )
        deadline = expires if terms is None else terms.deadline
        size = held.size + ENTRY_BYTES + _SCOPE_BYTES * (len(scopes) - len(place.scopes))
        put = self.memory.put
        put(place.home, place.key, held.value, held.thaw, deadline, size, scopes, self.fence, epoch, terms)

    def drop_here(self, scopes: Sequence[str]) -> None:
        """Invalidate in this process; cannot fail."""
        with self.memory.lock:
            self.fence.lift(scopes)
            self.memory.drop(scopes)
        dropped(scopes)

    def heard(self, scopes: Sequence[str]) -> None:
        """Invalidate here what another process has invalidated; cannot fail."""
        with self.memory.lock:
            self.fence.lift(scopes)
            self.memory.drop(scopes)

    def missed(self) -> None:
        """Invalidate all that memory has, as others may have invalidated any of it; cannot fail."""
        with self.memory.lock:
            self.fence.lift_all()
            self.memory.clear()

    async def drop(self, tags: Sequence[str], keys: Sequence[str], mode: Mode) -> None:
        """Invalidate everywhere: here at once, at each server now or, if it does not answer, once it does."""
        owed = self.remote.owe(tags, keys)  # first, or a reader between the two would take the old value from a server
        self.drop_here((*tags, *keys))
        await self.remote.drop(owed, budget=self.budget(), mode=mode)
