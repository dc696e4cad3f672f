"""Whether a host has an address and a port accepts; knows nothing of what is spoken there."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smw.doctor.probe import in_daemon
from smw.doctor.report import Finding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["STEP_S", "Connection", "Place", "ask", "hang_up", "reach", "why_not"]

STEP_S = 1.0
"""Most that one step with a server takes: a lookup, a connection, an answer."""
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Place:
    """Where something should listen.

    Args:
        name: Prefix of the findings, such as ``cache.l2``.
        host: Host name or address; "" for a Unix socket.
        port: Port.
        holder: The setting or variable that says so.
        socket_path: Path of a Unix socket, instead of host and port.
        what: What should answer there.
    """

    name: str
    host: str
    port: int
    holder: str
    what: str
    socket_path: str = ""

    @property
    def address(self) -> str:
        """Host and port, or the path, for people."""
        if self.socket_path:
            return self.socket_path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def finding_of(self, step: str, error: BaseException) -> Finding:
        """Return what a failed connection means."""
        return Finding(f"{self.name}.{step}", "fail", f"{self.address}: {why_not(error)}", self.remedy(error))

    def remedy(self, error: BaseException) -> str:
        """Return what to look at, with the setting that holds the address."""
        if isinstance(error, PermissionError):
            return f"let this user reach {self.address}, named by {self.holder}"
        if self.socket_path:
            return f"start {self.what}, or correct the path in {self.holder}"
        return f"start {self.what} there, open the way to it, or correct host and port in {self.holder}"


def why_not(error: BaseException) -> str:
    """Return the cause of a failed connection in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "the connection was closed"
    if isinstance(error, ssl.SSLError) and "CERTIFICATE_REQUIRED" in (error.reason or ""):
        return "the server wants a certificate of its clients, and got none"
    if isinstance(error, ssl.SSLError):
        return f"no TLS there ({(error.reason or 'handshake failed').replace('_', ' ').lower()})"
    kinds: tuple[tuple[type[BaseException], str], ...] = (
        (TimeoutError, f"no answer within {STEP_S:g} s"),
        (ConnectionRefusedError, "connection refused, nothing listens there"),
        (ConnectionResetError, "the connection was closed"),
    )
    known = next((text for kind, text in kinds if isinstance(error, kind)), None)
    return known or (getattr(error, "strerror", None) or type(error).__name__).lower()


async def _addresses(place: Place) -> list[str]:
    async with asyncio.timeout(STEP_S):
        found = await in_daemon(lambda: socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM))
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def _open(place: Place, addresses: list[str], context: ssl.SSLContext | None) -> tuple[str, Connection]:
    name = place.host if context else None
    failure: BaseException | None = None
    async with asyncio.timeout(STEP_S):
        for address in addresses:
            try:
                opened = await asyncio.open_connection(address, place.port, ssl=context, server_hostname=name)
            except OSError as error:
                failure = error
            else:
                return address, opened
    raise failure or OSError("no address")


async def reach(
    place: Place, *, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Finding, Connection | None]]:
    """Resolve and connect; yields each step, and with the last successful one the open connection.

    Args:
        place: Where to.
        context: Speak TLS.
    """
    if place.socket_path:
        try:
            async with asyncio.timeout(STEP_S):
                opened = await asyncio.open_unix_connection(place.socket_path)
        except OSError as error:
            yield place.finding_of("connect", error), None
            return
        yield Finding(f"{place.name}.connect", "ok", place.socket_path), opened
        return
    try:
        addresses = await _addresses(place)
    except TimeoutError:
        seen = f"{place.host}: the name server gave no answer within {STEP_S:g} s"
        yield (
            Finding(f"{place.name}.resolve", "fail", seen, f"host in {place.holder}; name server of the machine"),
            None,
        )
        return
    except (OSError, UnicodeError):
        fix = f"correct the host in {place.holder}"
        yield Finding(f"{place.name}.resolve", "fail", f"{place.host}: no such host", fix), None
        return
    yield Finding(f"{place.name}.resolve", "ok", f"{place.host} is {', '.join(addresses)}"), None
    try:
        address, opened = await _open(place, addresses, context)
    except OSError as error:
        yield place.finding_of("connect", error), None
        return
    shown = f"[{address}]" if ":" in address else address
    yield Finding(f"{place.name}.connect", "ok", f"{shown}:{place.port} accepts"), opened


async def ask(connection: Connection, question: bytes, *, until: bytes, most: int = 65_536) -> bytes:
    """Send a question and return the answer up to and with `until`, or what came before the other side hung up.

    Raises:
        TimeoutError: No whole answer within the time of a step.
        OSError: The connection broke.
    """
    reader, writer = connection
    answer = b""
    async with asyncio.timeout(STEP_S):
        writer.write(question)
        await writer.drain()
        while until not in answer and len(answer) < most:
            more = await reader.read(4096)
            if not more:
                break
            answer += more
    return answer


def hang_up(connection: Connection) -> None:
    """Close a connection without waiting for the other side."""
    with contextlib.suppress(OSError):
        connection[1].close()
