"""One HTTP exchange over ASGI: passes every message on as it came and takes note; decides nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar
from urllib.parse import quote

from smw.web.exchange import BODILESS, Exchange, Fields, Reply, RequestTooLarge, Tap
from smw.web.route import RECALLED
from smw.web.telemetry import is_global

if TYPE_CHECKING:
    from smw.web.route import Routes

__all__ = ["Application", "AsgiExchange", "BlockingExchange", "Message", "Receive", "Scope", "Send"]

T = TypeVar("T")
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = logging.getLogger("smw.web")


class AsgiExchange(Exchange):
    """An exchange over ASGI.

    Args:
        scope: As the server gave it.
        receive: As the server gave it.
        send: As the server gave it.
        now: Monotonic clock.
        routes: Finds the route template.
    """

    mode: ClassVar[Literal["sync", "async"]] = "async"
    telemetry: Callable[[], bool] | None = None
    """Tells whether something below makes the server span; None where nothing there can."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, now: Callable[[], float], routes: Routes) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self._now = now
        self._routes = routes
        self.method = scope["method"]
        self.path = path = scope["path"]
        self._root_path = root = scope.get("root_path", "")
        if root and path.startswith(root) and path[len(root) :][:1] in ("", "/"):
            self.path = path[len(root) :] or "/"
        self.began_s = now()

    @property
    def peer(self) -> str | None:
        """Who opened the connection."""
        peer = self.scope.get("client")
        return peer[0] if peer else None

    @property
    def raw_fields(self) -> Iterable[tuple[Any, Any]]:
        """The header fields of the request as bytes."""
        fields: Iterable[tuple[Any, Any]] = self.scope.get("headers", ())
        return fields

    def header(self, name: str) -> str | None:
        """Return one header field by lower-case name, joined where it came in several lines."""
        wanted = name.encode("latin-1")
        found = [value for key, value in self.scope.get("headers", ()) if key == wanted]
        if not found:
            return None
        return (found[0] if len(found) == 1 else b", ".join(found)).decode("latin-1")

    def _read_fields(self) -> Fields:
        return _decoded(self.scope.get("headers", ()))

    @property
    def target(self) -> str:
        """The whole path and query as the client sent them."""
        raw = self.scope.get("raw_path") or quote(self.scope["path"], safe="/%:@!$&'()*+,;=~").encode("ascii")
        query = self.scope.get("query_string") or b""
        return (raw + b"?" + query if query else raw).decode("latin-1")

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return str(self.scope.get("scheme", "http"))

    @property
    def route(self) -> str | None:
        """The template of the route that served the exchange."""
        try:
            return self._routes.template(self.scope, self._root_path, self.status)
        except Exception:  # noqa: BLE001 - a label is no reason to fail a request
            _log.exception("the route of a request could not be told")
            return None

    def recall(self, route: str | None) -> None:
        """Note the route where an adapter further out finds it too."""
        if route is not None:
            self.scope[RECALLED] = route

    @property
    def traced_by_framework(self) -> bool:
        """Whether the server span is made, or left out on purpose, by the telemetry of FastAPI or Starlette."""
        native = self.scope.get("fastapi.telemetry")
        if native is not None and getattr(native, "span", native) is not None:
            return True
        if self.telemetry is not None and self.telemetry():
            return True
        return "starlette.opentelemetry" in self.scope and is_global()

    async def answer(self, reply: Reply) -> None:
        """Send `reply` as the whole response."""
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers]
        if reply.status not in BODILESS and not any(name == b"content-length" for name, _ in headers):
            headers.append((b"content-length", str(len(reply.body)).encode("ascii")))
        body = b"" if self.method == "HEAD" else reply.body
        self.tap = None
        self.over_limit = False
        await self.observe({"type": "http.response.start", "status": reply.status, "headers": headers})
        await self.observe({"type": "http.response.body", "body": body})

    async def offload(self, work: Callable[..., T], *args: Any) -> T:
        """Run `work` in a thread."""
        return await asyncio.to_thread(work, *args)

    async def receive(self) -> Message:
        """Pass on what the server received; keeps count, and stops at the body limit."""
        message = await self._receive()
        if message["type"] == "http.request":
            self.received_bytes += len(message.get("body", b""))
            if self.body_limit is not None and self.received_bytes > self.body_limit:
                self.over_limit = True
                raise RequestTooLarge
        elif message["type"] == "http.disconnect" and not self.ended_s:
            self.disconnected = True
        return message

    def observe(self, message: Message) -> Awaitable[None]:
        """Note what goes out and hand it to the server; no coroutine of its own, because this runs for every chunk."""
        kind = message["type"]
        if kind == "http.response.body":
            if not message.get("more_body"):
                self.ended_s = self._now()
        elif kind == "http.response.start":
            if self.over_limit:
                return _nothing()
            self.status = message["status"]
        elif kind == "http.response.pathsend":
            self.ended_s = self._now()
        if self.over_limit and not self.status:
            return _nothing()  # the application answers a body that it was not given; the policy's 413 follows
        return self._send(message)

    def observe_tapped(self, message: Message) -> Awaitable[None]:
        """Do as `observe` does, and show the response to the tap as long as there is one."""
        tap = self.tap
        if tap is None:
            return self.observe(message)
        if message["type"] != "http.response.start":
            return self._show(tap, message)
        headers = message.get("headers", ())
        if not isinstance(headers, list | tuple):
            self.tap = None  # looking at an iterator would use it up
            return self.observe(message)
        # Most responses are none of the tap's business: find out without a coroutine and without decoding.
        if not tap.only_with or any(name.lower() in tap.only_with for name, _ in headers):
            return self._show(tap, message)
        self.tap = None
        tap.passed()
        return self.observe(message)

    async def _show(self, tap: Tap, message: Message) -> None:
        """Show a message to the tap, before or after sending it. A tap that fails is cut off and logged."""
        kind = message["type"]
        try:
            if kind == "http.response.start":
                await tap.starting(message["status"], _decoded(message.get("headers", ())))
            elif kind == "http.response.body":
                tap.chunk(message.get("body", b""))
            elif kind.startswith("http.response."):
                self.tap = None  # trailers, files by path: nothing that can be kept as seen
        except Exception:  # noqa: BLE001 - the response is not the tap's to fail
            self._drop_tap()
        await self.observe(message)
        if kind == "http.response.body" and not message.get("more_body") and self.tap is not None:
            try:
                await self.tap.completed()
            except Exception:  # noqa: BLE001 - the response is not the tap's to fail
                self._drop_tap()

    def _drop_tap(self) -> None:
        self.tap = None
        _log.exception("watching a response failed; the response itself is not touched")


class BlockingExchange(AsgiExchange):
    """An exchange on an event loop that is not asyncio's, such as trio's: what smw waits for, it waits for blocking."""

    mode: ClassVar[Literal["sync", "async"]] = "sync"

    async def offload(self, work: Callable[..., T], *args: Any) -> T:
        """Run `work` here."""
        return work(*args)


def _decoded(lines: Iterable[tuple[bytes, bytes]]) -> Fields:
    return Fields((bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in lines)


async def _nothing() -> None:
    pass
