"""Whether Kafka brokers answer, can be reached where they want to be called, and keep what streams need."""

from __future__ import annotations

import asyncio
import importlib.util
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from smw.doctor import kafka_wire as wire
from smw.doctor.network import STEP_S, Connection, Place, hang_up, reach, why_not
from smw.doctor.report import Finding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

__all__ = ["Kafka", "findings"]

_NEEDED = (wire.METADATA, wire.API_VERSIONS)
_METADATA_FROM = 4
_TLS = "\x15\x03"
"""How an alert of TLS begins, which is what a listener of TLS says to everything else."""
_ASKED = (
    "auto.create.topics.enable", "default.replication.factor", "min.insync.replicas",
    "group.min.session.timeout.ms", "group.max.session.timeout.ms",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kafka:
    """The cluster that the settings name.

    Args:
        places: Its brokers, as far as they are named.
        session_s: Silence after which the group is to count a worker as dead.
        session_by: The setting or variable that says so.
    """

    places: Sequence[Place]
    session_s: float
    session_by: str

    @property
    def name(self) -> str:
        """Prefix of the findings."""
        return self.places[0].name

    @property
    def holder(self) -> str:
        """The setting or variable that names the brokers."""
        return self.places[0].holder


async def findings(kafka: Kafka) -> AsyncIterator[Finding]:
    """Check each broker that is named, and through the first one that answers the cluster.

    Args:
        kafka: Where, and what streams will ask of it.
    """
    if importlib.util.find_spec("kafka") is None:
        seen = 'streams on Kafka need the package "kafka-python", which is not installed'
        yield Finding(f"{kafka.name}.client", "fail", seen, 'pip install "smw[kafka]"')
    tries = [_Try(place) for place in kafka.places]
    try:
        await asyncio.gather(*(one.go() for one in tries))
        for one in tries:
            for finding in one.found:
                yield finding
        well = next((one for one in tries if one.is_well and one.connection is not None), None)
        if well is None or well.connection is None:
            yield Finding(f"{kafka.name}.cluster", "not checked", "no broker answers")
            return
        async for finding in _cluster(kafka, well.place, well.connection):
            yield finding
    finally:
        for one in tries:
            if one.connection is not None:
                hang_up(one.connection)


class _Try:
    """An attempt to speak with one broker."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.found: list[Finding] = []
        self.connection: Connection | None = None
        self.is_well = False

    async def go(self) -> None:
        """Resolve, connect and ask what it understands."""
        async for finding, opened in reach(self.place):
            self.found.append(finding)
            self.connection = opened
        if self.connection is None:
            self.found.append(Finding(f"{self.place.name}.api", "not checked", f"{self.place.address}: no connection"))
            return
        try:
            known = await wire.apis(self.connection)
        except wire.SilenceError as silence:
            self.found.append(_no_answer(self.place, wire.ForeignError() if await self._is_foreign() else silence))
            return
        except (wire.ForeignError, EOFError, OSError) as error:
            self.found.append(_no_answer(self.place, error))
            return
        finding = _understood(self.place, known)
        self.is_well = finding.verdict == "ok"
        self.found.append(finding)

    async def _is_foreign(self) -> bool:
        async for _, opened in reach(self.place):
            if opened is not None:
                try:
                    return await wire.is_foreign(opened)
                finally:
                    hang_up(opened)
        return False


def _no_answer(place: Place, error: Exception) -> Finding:
    """Return what it means that a port accepts and then does not answer as a broker does."""
    name, where = f"{place.name}.api", f"correct host and port in {place.holder}"
    if isinstance(error, wire.ForeignError) and str(error).startswith(_TLS):
        return Finding(name, "fail", f"{place.address}: speaks TLS, which smw does not on Kafka", _plaintext(place))
    if isinstance(error, wire.ForeignError):
        return Finding(name, "fail", f"{place.address}: something answers there, but it is no Kafka", where)
    if isinstance(error, EOFError):
        seen = f"{place.address}: accepts connections and closes them; wants TLS, or is no Kafka"
        return Finding(name, "fail", seen, f"{_plaintext(place)}, or {where}")
    if isinstance(error, wire.SilenceError):
        seen = f"{place.address}: accepts connections, but gave no answer within {STEP_S:g} s"
        return Finding(name, "fail", seen, f"is it stopped or overloaded? or {where}")
    return Finding(name, "fail", f"{place.address}: {why_not(error)}", where)


def _plaintext(place: Place) -> str:
    return f"name a listener of the kind PLAINTEXT in {place.holder}"


def _understood(place: Place, known: Mapping[int, tuple[int, int]]) -> Finding:
    name = f"{place.name}.api"
    if any(question not in known for question in _NEEDED):
        seen = f"{place.address}: a controller of Kafka, which serves no records"
        return Finding(name, "fail", seen, f"name the port of a broker in {place.holder}")
    if known[wire.METADATA][1] < _METADATA_FROM:
        return Finding(name, "fail", f"{place.address}: a Kafka older than 0.11", "use a newer Kafka")
    return Finding(name, "ok", f"{place.address}: Kafka, {len(known)} kinds of requests")


async def _cluster(kafka: Kafka, place: Place, connection: Connection) -> AsyncIterator[Finding]:
    name = f"{kafka.name}.cluster"
    try:
        cluster = await wire.cluster(connection)
    except EOFError:
        seen = f"{place.address}: closes the connection on the first question; it wants a login (SASL)"
        yield Finding(name, "fail", seen, f"smw does not log in to Kafka: {_plaintext(place)}")
        return
    except (wire.ForeignError, OSError) as error:
        yield _no_answer(replace(place, name=kafka.name), error)
        return
    count = len(cluster.brokers)
    yield Finding(name, "ok", f"{cluster.identity or 'a cluster'}, {count} broker{'s' if count != 1 else ''} live")
    for finding in await asyncio.gather(*(_advertised(kafka, *address) for address in cluster.brokers.values())):
        if finding is not None:
            yield finding
    try:
        told = await wire.settings(connection, list(cluster.brokers), _ASKED)
    except (wire.ForeignError, EOFError, OSError):
        told = None
    if told is None:
        yield Finding(f"{kafka.name}.settings", "not checked", "the broker does not tell its settings to this client")
        return
    for finding in _settings(kafka, told, count):
        yield finding


async def _advertised(kafka: Kafka, host: str, port: int) -> Finding | None:
    """Tell whether a broker can be reached where it wants to be called: that is where every client goes on."""
    if any((place.host, place.port) == (host, port) for place in kafka.places):
        return None  # was tried already
    place = Place(f"{kafka.name}.advertised", host, port, kafka.holder, "a broker")
    last = None
    async for finding, opened in reach(place):
        last = finding
        if opened is not None:
            hang_up(opened)
            return Finding(place.name, "ok", f"{place.address} accepts")
    cause = "" if last is None else last.seen.partition(": ")[2]
    seen = f"a broker wants to be called at {place.address}: {cause}"
    return Finding(place.name, "fail", seen, "set the broker's advertised.listeners to an address that is reached here")


def _settings(kafka: Kafka, told: Mapping[str, str], brokers: int) -> Iterator[Finding]:
    name = f"{kafka.name}.topics"
    if told.get("auto.create.topics.enable") == "false":
        seen = "the cluster makes no topics by itself"
        yield Finding(name, "warn", seen, "make the topic of each stream, and NAME.dlq for its dead letters")
    else:
        yield Finding(name, "ok", "topics are made when they are first needed")
    copies, needed = _number(told, "default.replication.factor"), _number(told, "min.insync.replicas")
    if copies is not None and needed is not None:
        yield _copies(f"{kafka.name}.copies", copies, needed, brokers)
    least, most = (_number(told, f"group.{bound}.session.timeout.ms") for bound in ("min", "max"))
    if least is not None and most is not None and not least <= kafka.session_s * 1000 <= most:
        seen = f"{kafka.session_by} is {kafka.session_s:g} s, the cluster takes {least / 1000:g} to {most / 1000:g} s"
        yield Finding(f"{kafka.name}.session", "fail", seen, f"set {kafka.session_by} in between")


def _copies(name: str, copies: int, needed: int, brokers: int) -> Finding:
    """Judge the copies that a topic gets unless it was made with others."""
    seen = f"topics have {copies} cop{'ies' if copies != 1 else 'y'} by default, {needed} needed to accept a record"
    if brokers == 1:
        return Finding(name, "ok", f"{seen}; one broker")
    if copies == 1:
        fix = "set default.replication.factor=3 and min.insync.replicas=2"
        return Finding(name, "warn", f"{seen}: the end of one broker loses records", fix)
    if needed == 1:
        return Finding(name, "warn", f"{seen}: an accepted one may be on one broker alone", "min.insync.replicas=2")
    if needed >= copies:
        return Finding(
            name, "warn", f"{seen}: without one broker nothing is accepted", f"min.insync.replicas={copies - 1}"
        )
    return Finding(name, "ok", seen)


def _number(told: Mapping[str, str], name: str) -> int | None:
    value = told.get(name, "")
    return int(value) if value.isdecimal() else None
