"""Every schedule of processes, servers, time and faults, and the promises checked on each.

A request is three steps: it is made, the server carries it out, the reply arrives; anything may happen between them.
A reader has two obligations, noted when it begins: it returns nothing older than what its own process had invalidated
by then, whatever failed; and nothing older than what any process had invalidated, with no debt left, more than the
trust before. The second is put off by each question to the authority that this process got no answer to.

Where one process loads for all, two of them never load under the same counters at once, and nobody waits for ever, as
long as nothing goes wrong.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from tests.properties.coherence_fleet import flawed
from tests.properties.coherence_process import (
    COUNTERS,
    KEY,
    TRUST_S,
    TTL_S,
    Process,
    Setup,
    Steps,
    process_of,
    stored_first,
)
from tests.properties.coherence_servers import BEGAN, FAILED, Server, memcached_does, redis_does, text_of

IDLE, ASKED, ANSWERED, DONE = range(4)
ORPHANED_S = 60.0
NEVER = float("-inf")


class Actor(NamedTuple):
    """One coroutine: where it is, what it asks or was told, and what is known about it since it began."""

    phase: int = IDLE
    what: Any = None
    began: Any = None


class World(NamedTuple):
    """Everything at one moment."""

    processes: tuple[int, ...]
    actors: tuple[Actor, ...]
    l2: Server
    l3: Server
    other: Server  # the shard of L2 that has not the key
    down: frozenset[str]
    now: float
    source: int
    returned: tuple[tuple[int, int], ...]  # (version, process) whose invalidation has returned
    settled: tuple[tuple[int, float], ...]  # (version, when no server was owed it any more)
    deaf: tuple[float, ...]  # when each process was last not answered by the authority
    left: tuple[tuple[str, Any], ...]  # events that may still happen
    inbox: tuple[tuple[Any, ...], ...] = ()  # what was told to each process and not heard yet, oldest first
    behind: Any = None  # what the replica of L2 has once it gets no more, and what was settled then
    undone: tuple[int, ...] | None = None  # versions whose invalidation a fail-over may have lost, until it is noticed


class Outcome(NamedTuple):
    """What a search has found.

    Attributes:
        states: Distinct states of everything.
        steps: Steps between them.
        schedules: Ways from the beginning to an end.
        broken: What was promised and not kept, each with the steps that lead there.
        processes: Distinct states of one process.
    """

    states: int
    steps: int
    schedules: int
    broken: list[tuple[str, list[str]]]
    processes: int

    def check_kept(self) -> None:
        """Fail with the steps to a promise that was not kept, or where nothing was searched."""
        assert not self.broken, "\n".join((self.broken[0][0], *self.broken[0][1]))
        assert self.schedules > 0, "no way leads to an end"
        print(f"{self.states:,} states, {self.steps:,} steps, {self.schedules:.3g} schedules")

    def check_caught(self, promise: str) -> None:
        """Fail unless a promise that begins so was not kept, and no other one was found first."""
        assert self.broken, "no schedule shows the flaw"
        assert self.broken[0][0].startswith(promise), self.broken[0][0]


class Search:
    """All schedules of one set-up.

    Args:
        setup: What the processes do.
        events: What may happen once each: ``("tick", seconds)``, ``("lose" | "fail" | "restart" | "down" | "gone",
            level)``, ``("evict", (level, key))``, ``("pulse" | "raise", process)``, ``("twice" | "cut" | "miss",
            process)`` of a message, ``("failover", "l2")`` to a replica that misses everything since the beginning, or
            since ``("lag", "l2")``.
    """

    def __init__(self, setup: Setup, events: tuple[tuple[str, Any], ...] = ()) -> None:
        self.setup = setup
        self.events = events
        self.kinds: list[tuple[int, str]] = []
        for process, (readers, writers) in enumerate(zip(setup.readers, setup.writers, strict=True)):
            self.kinds += [(process, f"reader{number}") for number in range(readers)]
            self.kinds += [(process, f"writer{number}") for number in range(writers)]
            self.kinds.append((process, "payer"))
            if process in setup.hears:
                self.kinds.append((process, "pulser"))
        self.readers = [index for index, (_, name) in enumerate(self.kinds) if name.startswith("reader")]
        self.steps = [Steps(partial(Process, number, setup)) for number in range(len(setup.readers))]
        self.authority = setup.levels[0]

    def run(self, *, traced: bool = True) -> Outcome:
        """Search to the end, or until a promise is broken.

        Args:
            traced: Remember how each state was reached, which takes most of the memory.
        """
        count = len(self.setup.readers)
        first = "l2" if self.authority == "l2" else "l3"
        counters = {name: (b"%016x" % n if first == "l3" else b"%d" % n, n, 1e9) for n, name in enumerate(COUNTERS, 1)}
        if self.setup.hears or self.setup.leases:
            counters |= {name: (value, None, 1e9) for name, value in BEGAN.items()}
        if self.setup.starts or self.setup.stocked:
            counters |= {KEY: (stored_first(), None, TTL_S)}
        servers = {first: Server().kept(counters if self.setup.warm else {})}
        if self.setup.stocked:
            servers["l3"] = Server().kept({KEY: (stored_first(), 1, TTL_S)})
        start = World(
            (0,) * count,
            (Actor(),) * len(self.kinds),
            servers.get("l2", Server()),
            servers.get("l3", Server()),
            servers[first],
            frozenset(),
            0.0,
            1,
            (),
            (),
            (NEVER,) * count,
            self.events,
            ((),) * count,
            (servers.get("l2"), ()),
        )
        layer: dict[World, int] = {start: 1}
        parents: dict[World, tuple[World, str]] = {}
        outcome = Outcome(0, 0, 0, [], 0)
        states = steps = schedules = 0
        broken: list[tuple[str, list[str]]] = []
        while layer and not broken:
            following: dict[World, int] = {}
            for world, ways in layer.items():
                states += 1
                ended = True
                for label, after, complaint in self.after(world):
                    ended = False
                    steps += 1
                    if complaint:
                        broken.append((complaint, [*_path(parents, world), label]))
                        continue
                    following[after] = following.get(after, 0) + ways
                    if traced:
                        parents.setdefault(after, (world, label))
                if ended and world.left == self.events and self._waits(world):
                    broken.append(("together: somebody waits for ever", _path(parents, world)))
                schedules += ways if ended else 0
            layer = following
        return outcome._replace(
            states=states,
            steps=steps,
            schedules=schedules,
            broken=broken,
            processes=max(map(len, self.steps)),
        )

    def after(self, world: World):
        """Yield (what happens, the world after it, the promise it breaks)."""
        if self._is_over(world):
            return  # nobody is left to see anything
        for index, (process, name) in enumerate(self.kinds):
            actor = world.actors[index]
            if actor.phase == IDLE and self._may_begin(world, index, process, name):
                began = world.now, self._floor(world, process), world.settled
                label, after, complaint = self._fed(world, index, None, began)
                if name == "pulser":
                    after = _spent(after, world.left.index(("pulse", process)))
                if after.actors[index].what == ("source", None):  # nobody notices that it has begun before
                    label, after, complaint = next(self._carried_out(after, index, process, name))
                yield self._at_once(label, after, complaint, index)
            elif actor.phase == ANSWERED:
                yield self._at_once(*self._fed(world, index, actor.what, actor.began), index)
            elif actor.phase == ASKED:
                yield from self._carried_out(world, index, process, name)
        yield from self._hearing(world)
        yield from self._events(world)

    def _is_over(self, world: World) -> bool:
        return all(world.actors[index].phase == DONE for index in self.readers)

    def _at_once(self, label: str, world: World, complaint: str, index: int) -> tuple[str, World, str]:
        """Have the other shard drop once it is asked, where nothing can go wrong: it might as well be asked later."""
        what = world.actors[index].what
        asked = world.actors[index].phase == ASKED and what[:2] == ("other", "drop")
        if complaint or not asked or any(how == "other" for _, how in world.left):
            return label, world, complaint
        _, after, _ = next(self._carried_out(world, index, *self.kinds[index]))
        return f"{label}, {what!r}", after, ""

    def _may_begin(self, world: World, index: int, process: int, name: str) -> bool:
        if name == "pulser":
            return ("pulse", process) in world.left
        if name == "payer":
            return self._owes(world, process) and not world.down  # trying in vain changes nothing, for ever
        if name.startswith("writer") and self.setup.awaited and not self._waits(world):
            return False
        if name.startswith("reader") and not self._may_read(world, index, process):
            return False
        same = self.kinds[index - 1] if index else None
        twin = same is not None and same[0] == process and same[1][:6] == name[:6]
        return not twin or world.actors[index - 1].phase != IDLE

    def _may_read(self, world: World, index: int, process: int) -> bool:
        first = self.kinds.index((process, "reader0"))
        if index - first < self.setup.readers[process] - self.setup.late[process]:
            return True
        before = world.actors[first:index]
        are_calm = all(actor.phase == DONE or (actor.phase == ASKED and actor.what[0] == "wait") for actor in before)
        return bool(world.returned) and (are_calm or not self.setup.awaited)

    def _owes(self, world: World, process: int) -> bool:
        return self.steps[process].owing.get(world.processes[process], False)

    @staticmethod
    def _floor(world: World, process: int) -> int:
        return max((version for version, where in world.returned if where == process), default=0)

    def _fed(self, world: World, index: int, reply: Any, began: Any) -> tuple[str, World, str]:
        process, name = self.kinds[index]
        number, (verb, what), owes = self.steps[process].take(world.processes[process], name, reply, world.now)
        label = f"{world.now:g}s p{process}.{name} <- {reply!r}"
        complaint = ""
        returned = world.returned
        if verb == "asks":
            actor = Actor(ANSWERED, None, began) if what == ("pause",) else Actor(ASKED, what, began)
            if what[0] == "load" and what[1:] and world.left == self.events and self._loads(world, process, what):
                complaint = "together: two processes load under the same counters"
        else:
            actor = Actor() if name in ("payer", "pulser") else Actor(DONE)
            if name.startswith("reader"):
                label += f" returns {what}"
                complaint = self._complaint(world, process, began, *what)
            elif name.startswith("writer"):
                returned = (*returned, (began[3], process))
        known = {version for version, _ in world.settled}.union(world.undone or ())
        fresh = () if owes else tuple((v, world.now) for v, p in returned if p == process and v not in known)
        undone = world.undone
        if undone is not None:
            undone, fresh = (*undone, *(version for version, _ in fresh)), ()
        processes = (*world.processes[:process], number, *world.processes[process + 1 :])
        actors = (*world.actors[:index], actor, *world.actors[index + 1 :])
        settled = tuple(sorted((*world.settled, *fresh)))
        after = world._replace(processes=processes, actors=actors, returned=returned, settled=settled, undone=undone)
        return label, after, complaint

    @staticmethod
    def _waits(world: World) -> bool:
        return any(actor.phase == ASKED and actor.what[0] == "wait" for actor in world.actors)

    def _loads(self, world: World, process: int, what: tuple[Any, ...]) -> bool:
        """Tell whether another process loads under the same counters."""
        others = zip(self.kinds, world.actors, strict=True)
        return any(actor.phase == ASKED and actor.what == what for (other, _), actor in others if other != process)

    def _complaint(self, world: World, process: int, began: Any, level: str, version: int) -> str:
        at, floor, settled = began[:3]
        if level == "error":
            return ""
        if version < floor:
            return f"here: version {version} from {level or 'the loader'} after {floor} was invalidated"
        known = dict(world.settled)
        for newer, before in settled:
            if version >= newer or newer not in known:  # dropped in vain, and nobody has noticed yet
                continue
            since = max(before, known[newer])
            if at - max(since, world.deaf[process]) > TRUST_S:
                return f"elsewhere: version {version} from {level or 'the loader'} {at - since:g} s after {newer}"
            if level == "l3" and at - since > ORPHANED_S:
                return f"orphan: version {version} from {level} {at - since:g} s after {newer}"
        return ""

    def _carried_out(self, world: World, index: int, process: int, name: str):
        actor = world.actors[index]
        where, *what = actor.what
        label = f"{world.now:g}s p{process}.{name} {actor.what!r}"
        if where == "load":
            yield label, self._told(world, index, world.source), ""
            if ("raise", process) in world.left:
                spent = _spent(world, world.left.index(("raise", process)))
                yield label + " RAISES", self._told(spent, index, None), ""
        elif where == "wait":
            woken = name in self.steps[process].woken.get(world.processes[process], ())
            if woken or world.now >= what[0]:
                yield self._fed(world, index, None, actor.began)
        elif where == "source":
            version = world.source + 1
            reply = version if self.setup.by == "put" else None
            told = self._told(world._replace(source=version), index, reply, (*actor.began, version))
            yield label, told, ""
        elif where in world.down:
            yield label + " DOWN", self._unanswered(world, index, process, where), ""
        else:
            server: Server = getattr(world, where)
            before, what = flawed(server, tuple(what), self.setup.flaw) if self.setup.flaw else (server, what)
            done, reply = (memcached_does if where == "l3" else redis_does)(before, world.now, tuple(what))
            if self.setup.naive and what[0] == "write":
                done, reply = redis_does(server, world.now, (what[0], what[1][:1], *what[2:5]))
            carried = world._replace(**{where: done})
            carried = carried if where == "l3" else self._spread(carried, where, tuple(what))
            yield label, self._told(carried, index, reply), ""
            for number, event in enumerate(world.left):
                if event == ("lose", where) and event not in world.left[:number]:
                    yield label + " LOST", self._unanswered(_spent(carried, number), index, process, where), ""
                if event == ("fail", where) and event not in world.left[:number]:
                    yield label + " FAILED", self._unanswered(_spent(world, number), index, process, where), ""

    def _spread(self, world: World, where: str, what: tuple[Any, ...]) -> World:
        """Put what Redis has told into every inbox."""
        if what[0] == "pulse" and where == "l2" and world.undone is not None:  # the fail-over has been noticed
            settled = tuple(sorted((*world.settled, *((version, world.now) for version in world.undone))))
            world = world._replace(settled=settled, undone=None)
        number = getattr(world, where).told if self.setup.hears else None
        world = self._posted(world, where)
        if number is None:
            return world
        message = (number, *text_of(what).split(" "))
        hears = self.setup.hears
        return world._replace(inbox=tuple((*m, message) if p in hears else m for p, m in enumerate(world.inbox)))

    def _posted(self, world: World, where: str) -> World:
        """Put what Redis has sent to single processes into their inboxes."""
        server: Server = getattr(world, where)
        if not server.mail:
            return world
        part = where if len(self.setup.shards) > 1 else ""
        inbox = world.inbox
        for name, message in server.mail:
            if name:
                process = process_of(name)
                inbox = _put(inbox, process, (*inbox[process], ("mail", f"@{part}", message)))
        return world._replace(inbox=inbox, **{where: server._replace(mail=())})

    def _hearing(self, world: World):
        """Yield the first message of each inbox heard, and those that a lost connection takes along."""
        for process, messages in enumerate(world.inbox):
            if not messages:
                continue
            for at, message in enumerate(messages):
                if all(_part(earlier) != _part(message) for earlier in messages[:at]):  # nodes send each for itself
                    yield from self._heard(world, process, at)

    def _heard(self, world: World, process: int, at: int):
        messages = world.inbox[process]
        rest = _put(world.inbox, process, messages[:at] + messages[at + 1 :])
        number, *_ = self.steps[process].take(world.processes[process], "ear", messages[at], world.now)
        processes = _put(world.processes, process, number)
        label = f"{world.now:g}s p{process} hears {messages[at]!r}"
        yield label, world._replace(processes=processes, inbox=rest), ""
        for spent, event in enumerate(world.left):
            if event == ("twice", process):
                yield label + " TWICE", _spent(world, spent)._replace(processes=processes), ""
            elif event == ("cut", process):
                yield label + " NOT", self._cut(_spent(world, spent), process), ""
            elif event == ("miss", process):
                yield label + " MISSED", _spent(world, spent)._replace(inbox=rest), ""

    def _cut(self, world: World, process: int) -> World:
        world = world._replace(inbox=_put(world.inbox, process, ()))
        if not self.setup.leases:
            return world
        number, *_ = self.steps[process].take(world.processes[process], "ear", "cut", world.now)
        return world._replace(processes=_put(world.processes, process, number))

    def _unanswered(self, world: World, index: int, process: int, where: str) -> World:
        if where == self.authority and world.actors[index].what[1] in ("MGET", "gets_many"):
            world = world._replace(deaf=(*world.deaf[:process], world.now, *world.deaf[process + 1 :]))
        return self._told(world, index, FAILED)

    @staticmethod
    def _told(world: World, index: int, reply: Any, began: Any = None) -> World:
        actor = Actor(ANSWERED, reply, began or world.actors[index].began)
        return world._replace(actors=(*world.actors[:index], actor, *world.actors[index + 1 :]))

    @staticmethod
    def _events(world: World):
        for number, (what, how) in enumerate(world.left):
            if (what, how) in world.left[:number]:
                continue
            spent = _spent(world, number)
            label = f"{what} {how}"
            if what == "tick":
                yield label, spent._replace(now=world.now + how), ""
            elif what == "restart":
                yield label, spent._replace(**{how: getattr(world, how).emptied()}), ""
            elif what == "evict":
                where, key = how
                if key in dict(getattr(world, where).data):
                    yield label, spent._replace(**{where: getattr(world, where).without(key)}), ""
            elif what == "gone":
                yield label, spent._replace(down=world.down | {how}), ""
            elif what == "down":
                yield label, spent._replace(down=world.down | {how}, left=(*spent.left, ("up", how))), ""
            elif what == "lag":
                left = (*spent.left, ("failover", how))
                yield label, spent._replace(behind=(world.l2, world.settled), left=left), ""
            elif what == "failover":
                replica, settled = world.behind
                lost = tuple(version for version, since in world.settled if (version, since) not in settled)
                after = spent._replace(l2=replica.succeeded(world.l2), settled=settled, undone=lost, behind=None)
                yield label, after._replace(inbox=((),) * len(world.inbox)), ""
            elif what == "up":
                yield label, spent._replace(down=world.down - {how}), ""


def _put(of: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    return (*of[:index], value, *of[index + 1 :])


def _part(message: tuple[Any, ...]) -> str:
    return message[1].partition("@")[2]


def _spent(world: World, number: int) -> World:
    return world._replace(left=world.left[:number] + world.left[number + 1 :])


def _path(parents: dict[World, tuple[World, str]], world: World) -> list[str]:
    labels = []
    while world in parents:
        world, label = parents[world]
        labels.append(label)
    return labels[::-1]
