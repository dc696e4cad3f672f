"""The facts of one HTTP exchange and the shape of a policy around it; knows no server protocol."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = [
    "BODILESS",
    "Exchange",
    "Fields",
    "Link",
    "Policy",
    "Proceed",
    "Refusing",
    "Reply",
    "RequestTooLarge",
    "Tap",
    "compose",
]

T = TypeVar("T")
BODILESS = (204, 304)
"""Statuses of answers that have no body and say no length."""


class RequestTooLarge(Exception):
    """The application asked for more of a request body than is allowed; the security policy turns it into 413."""


class Fields(dict[str, str]):
    """Header fields by lower-case name; several lines of one name are joined by commas, as HTTP reads them.

    Args:
        lines: Name and value of every line, in order.
    """

    __slots__ = ("lines",)

    def __init__(self, lines: Iterable[tuple[str, str]]) -> None:
        self.lines = tuple(lines)
        for name, value in self.lines:
            folded = name.lower()
            self[folded] = f"{self[folded]}, {value}" if folded in self else value


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer given by a policy instead of the application.

    Args:
        status: HTTP status code.
        body: The whole body.
        headers: Name and value of each header field; Content-Length is added where it is missing and allowed.
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class Tap(ABC):
    """What a policy sees of the application's response on its way out. It may wait, but it cannot change anything."""

    only_with: ClassVar[frozenset[bytes]] = frozenset()
    """Where not empty: the tap looks only at responses that have one of these header fields; names lower-case."""

    @abstractmethod
    async def starting(self, status: int, fields: Fields) -> None:
        """See status and header fields; they are sent once this returns."""

    def passed(self) -> None:  # noqa: B027 - nobody else needs to know
        """Learn that the response has none of the fields in `only_with`, and that nothing more will be shown."""

    def chunk(self, data: bytes) -> None:  # noqa: B027 - who needs only the head leaves it
        """See a piece of the body that is about to be sent."""

    async def completed(self) -> None:  # noqa: B027 - who needs only the head leaves it
        """Learn that the last byte was handed to the server."""


class Refusing(Protocol):
    """Knows which exceptions mean that a request is refused."""

    def refusal(self, exchange: Exchange, error: Exception) -> Reply | None:
        """Return the answer to `error`, or None where it is none of its business."""
        ...


class Exchange(ABC):
    """One HTTP exchange in flight.

    Attributes:
        method: As the client spelled it.
        path: The decoded path, without the prefix under which the application is mounted.
        status: What was sent, 0 while nothing was.
        began_s: Monotonic time of the start.
        ended_s: Monotonic time of the last body byte, 0.0 while the response is incomplete.
        received_bytes: Body bytes that the application has read.
        body_limit: Most body bytes that the application may read; None is no limit.
        over_limit: The client has sent more than that.
        disconnected: The client was seen to leave before the response was complete.
        tap: Where the response is shown on its way out.
        step: Where the exchange is stepwise: what is entered around every step.
        refuses: Who can tell the answer to an exception that the application itself would turn into 500.
    """

    mode: ClassVar[Literal["sync", "async"]]
    stepwise: ClassVar[bool] = False
    """Whether the application runs in steps, with other code of the same thread between them."""
    # Defaults live in the class: one object is made for every request, and most of these never change.
    method: str
    path: str
    began_s: float
    ended_s: float = 0.0
    status: int = 0
    received_bytes: int = 0
    body_limit: int | None = None
    over_limit: bool = False
    disconnected: bool = False
    tap: Tap | None = None
    step: AbstractContextManager[None] | None = None
    refuses: Refusing | None = None
    _fields: Fields | None = None
    _client: str | None = None

    @property
    def client(self) -> str:
        """Who asks: an address, or ``local``; the security policy finds it out, until then it is the peer."""
        return self._client or self.peer or "local"

    @client.setter
    def client(self, address: str) -> None:
        self._client = address

    @property
    @abstractmethod
    def peer(self) -> str | None:
        """Who opened the connection, as the server tells it; None where that has no address."""

    @property
    def fields(self) -> Fields:
        """Every header field of the request; decoded on first use."""
        if self._fields is None:
            self._fields = self._read_fields()
        return self._fields

    @property
    @abstractmethod
    def raw_fields(self) -> Iterable[tuple[Any, Any]]:
        """The header fields of the request as the protocol below has them, text or bytes."""

    @abstractmethod
    def header(self, name: str) -> str | None:
        """Return one header field of the request by lower-case name, joined where it came in several lines."""

    @abstractmethod
    def _read_fields(self) -> Fields: ...

    @property
    @abstractmethod
    def target(self) -> str:
        """The whole path and query as the client sent them, percent-encoding untouched."""

    @property
    @abstractmethod
    def scheme(self) -> str:
        """``http`` or ``https``."""

    @property
    @abstractmethod
    def route(self) -> str | None:
        """The template of the route that served the exchange, None where none did; known once the application ran."""

    @abstractmethod
    def recall(self, route: str | None) -> None:
        """Learn the route that once made the answer which is now given instead of asking the application."""

    @property
    @abstractmethod
    def traced_by_framework(self) -> bool:
        """Whether the framework's own telemetry has already opened the server span of this exchange."""

    @abstractmethod
    async def answer(self, reply: Reply) -> None:
        """Send `reply` instead of what the application would say; nothing must have been sent before."""

    @abstractmethod
    async def offload(self, work: Callable[..., T], *args: Any) -> T:
        """Run blocking `work` where it holds up nobody else."""


Proceed = Callable[[], Awaitable[Reply | None]]
Link = Callable[[Exchange], Awaitable[Reply | None]]


class Policy(ABC):
    """What one middleware adds to every exchange, bound to a runtime. It has the shape of an advice."""

    @abstractmethod
    async def around(self, exchange: Exchange, proceed: Proceed) -> Reply | None:
        """Act around the rest of the chain.

        Args:
            exchange: The exchange in flight.
            proceed: Runs the further policies and the application.

        Returns:
            An answer to send, or None when an answer is already on its way.
        """

    async def around_socket(self, proceed: Callable[[], Awaitable[None]]) -> None:
        """Act around a WebSocket, from its handshake to its end."""
        await proceed()


def compose(policies: Iterable[Policy], base: Link) -> Link:
    """Put `policies`, outermost first, around `base`."""
    link = base
    for policy in reversed(tuple(policies)):
        link = _around(policy.around, link)
    return link


def _around(around: Callable[[Exchange, Proceed], Awaitable[Reply | None]], link: Link) -> Link:
    def run(exchange: Exchange) -> Awaitable[Reply | None]:
        return around(exchange, functools.partial(link, exchange))

    return run
