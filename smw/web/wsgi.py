"""One HTTP exchange over WSGI: hands on head and body as they come and takes note; decides nothing."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Coroutine, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar
from urllib.parse import quote, urlsplit

from smw.web.exchange import BODILESS, Exchange, Fields, Reply, Tap
from smw.web.flow import end, run_now, suspended
from smw.web.route import RECALLED
from smw.web.wsgi_route import MATCHED, REQUEST

if TYPE_CHECKING:
    from smw.web.wsgi_input import Input
    from smw.web.wsgi_route import Routes

__all__ = ["Environ", "StartResponse", "WsgiExchange"]

T = TypeVar("T")
Environ = dict[str, Any]
StartResponse = Callable[..., Any]

_log = logging.getLogger("smw.web")
_PHRASES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
_OWN_NAMES = {"content-length": "CONTENT_LENGTH", "content-type": "CONTENT_TYPE"}
# What servers keep of the request line; WSGI itself has only the decoded path.
_RAW = ("RAW_URI", "REQUEST_URI")


class WsgiExchange(Exchange):
    """An exchange over WSGI.

    Args:
        environ: As the server gave it.
        start_response: As the server gave it.
        now: Monotonic clock.
        routes: Finds the route template.

    Attributes:
        chain: The policies, waiting for the end of the application; None once they have ended.
        input: The body of the request, where there is one.
        declared: Length of the body that the application has told.
        sent_bytes: Body bytes handed to the server.
        replied: The body of the answer that a policy gave instead.
    """

    mode: ClassVar[Literal["sync", "async"]] = "sync"
    stepwise: ClassVar[bool] = True
    chain: Any = None
    declared: int | None = None
    sent_bytes: int = 0
    replied: bytes | None = None
    input: Input | None = None
    _matched: str | None = None
    _write: Callable[[bytes], Any] | None = None

    def __init__(
        self, environ: Environ, start_response: StartResponse, now: Callable[[], float], routes: Routes
    ) -> None:
        self.environ = environ
        self._start_response = start_response
        self._now = now
        self._routes = routes
        self.method = environ["REQUEST_METHOD"]
        self._script_name = environ.get("SCRIPT_NAME", "")
        path = environ.get("PATH_INFO") or "/"
        self.path = path if path.isascii() else path.encode("latin-1", "replace").decode("utf-8", "replace")
        self.began_s = now()

    def note_input(self) -> bool:
        """Take note of how much the application has read; returns whether it was stopped at the limit."""
        if self.input is not None:
            self.received_bytes, self.over_limit = self.input.received, self.input.is_over
        return self.over_limit

    def forgive(self) -> None:
        """Let pass what the application answers from here on, although it was stopped at the limit."""
        self.over_limit = False
        if self.input is not None:
            self.input.is_over = False

    @property
    def peer(self) -> str | None:
        """Who opened the connection."""
        return self.environ.get("REMOTE_ADDR") or None

    @property
    def raw_fields(self) -> Iterable[tuple[Any, Any]]:
        """The header fields of the request as bytes."""
        return [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in self._lines()]

    def header(self, name: str) -> str | None:
        """Return one header field by lower-case name; the server has joined what came in several lines."""
        return self.environ.get(_key(name)) or None

    def _read_fields(self) -> Fields:
        return Fields(self._lines())

    def _lines(self) -> Iterable[tuple[str, str]]:
        for key, value in self.environ.items():
            if key.startswith("HTTP_"):
                yield key[5:].replace("_", "-").lower(), str(value)
        for name, key in _OWN_NAMES.items():
            if value := self.environ.get(key):
                yield name, value

    @property
    def target(self) -> str:
        """The whole path and query as the client sent them, put together again where the server has not kept them."""
        raw = next((self.environ[name] for name in _RAW if self.environ.get(name)), None)
        if raw is not None:
            if raw.startswith("/"):
                return str(raw)
            parts = urlsplit(raw)
            path, query = parts.path or "/", parts.query
        else:
            decoded = self._script_name + self.environ.get("PATH_INFO", "")
            path = quote(decoded or "/", safe="/%:@!$&'()*+,;=~", encoding="latin-1")
            query = self.environ.get("QUERY_STRING", "")
        return f"{path}?{query}" if query else path

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return str(self.environ.get("wsgi.url_scheme", "http"))

    @property
    def route(self) -> str | None:
        """The template of the route that served the exchange."""
        environ = self.environ
        leaf: str | None = environ.get(RECALLED) or self._matched or environ.get(MATCHED)
        inner = environ.get("SCRIPT_NAME", "")
        if leaf is None or inner == self._script_name:
            return leaf
        return self._routes.mount(inner.removeprefix(self._script_name)) + leaf

    def recall(self, route: str | None) -> None:
        """Note the route where an adapter further out finds it too."""
        if route is not None:
            self.environ[RECALLED] = route

    @property
    def traced_by_framework(self) -> bool:
        """False: what instruments WSGI frameworks takes a span that is open already for its parent."""
        return False

    async def offload(self, work: Callable[..., T], *args: Any) -> T:
        """Run `work` here: this thread serves nobody else meanwhile."""
        return work(*args)

    async def answer(self, reply: Reply) -> None:
        """Hand the head of `reply` to the server and keep its body for it."""
        headers = list(reply.headers)
        if reply.status not in BODILESS and not any(name.lower() == "content-length" for name, _ in headers):
            headers.append(("content-length", str(len(reply.body))))
        self.tap = None
        self.status = reply.status
        self.replied = b"" if self.method == "HEAD" else reply.body
        self._start_response(_PHRASES.get(reply.status) or f"{reply.status} Unknown", headers)
        self.ended_s = self._now()

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], Any]:
        """Hand the head to the server and take note; this is the application's ``start_response``."""
        if self.status:
            self.tap = self.declared = None  # an error takes the place of what was said before
        elif self.input is not None and self.input.is_over:
            return _discard  # the application answers a body that it was not given; the policy's 413 follows
        try:
            rule = self.environ[REQUEST].url_rule
            self._matched = self._routes.without_rule(self.environ[REQUEST]) if rule is None else rule.rule
        except (KeyError, AttributeError):
            pass  # not an application of Flask's
        except Exception:  # noqa: BLE001 - a label is no reason to fail a request
            _log.exception("the route of a request could not be told")
        if self.tap is not None:
            self._show_head(self.tap, status, headers)
        for name, value in headers:
            if len(name) == 14 and name.lower() == "content-length" and value.isdecimal() and len(value) < 19:
                self.declared = int(value)
        if exc_info is None:
            self._write = self._start_response(status, headers)
        else:
            self._write = self._start_response(status, headers, exc_info)
        try:
            self.status = int(status[:3])
        except ValueError:
            self.status = 0  # no server takes it
        return self.write

    def write(self, data: bytes) -> None:
        """Send a piece of the body at once; this is what ``start_response`` returns to the application."""
        self.sent_bytes += len(data)
        if self.tap is not None:
            self.note(data)
        if self._write is not None:
            self._write(data)

    def note(self, data: bytes) -> None:
        """Show a piece of the body to the tap."""
        if self.tap is not None:
            try:
                self.tap.chunk(data)
            except Exception:  # noqa: BLE001 - the response is not the tap's to fail
                self._drop_tap()

    def complete(self) -> None:
        """End the exchange with its last byte: what the application does in its ``close`` is no latency."""
        chain, self.chain = self.chain, None
        if chain is None:
            return
        self.ended_s = self._now()
        if self.input is not None:
            self.note_input()
        if self.tap is not None:
            self._ask_tap(self.tap.completed())
            self.tap = None
        try:
            chain.send(None)
        except StopIteration:
            return
        raise suspended(chain)

    def leave(self) -> None:
        """End the exchange although the server asks for no more: the client has gone, unless it has everything."""
        if self.status and (self.method == "HEAD" or self.status in BODILESS):
            self.complete()
            return
        chain, self.chain = self.chain, None
        # Where nobody has closed the body, the collector may have closed the chain before it.
        if chain is not None and getattr(chain, "cr_frame", True) is not None:
            self.disconnected = True
            self.note_input()
            self.over_limit = False  # too late for another answer
            end(chain)

    def _show_head(self, tap: Tap, status: str, headers: list[tuple[str, str]]) -> None:
        # Most responses are none of the tap's business: find out without making an object of their fields.
        if not tap.only_with or any(name.lower().encode("latin-1") in tap.only_with for name, _ in headers):
            self._ask_tap(tap.starting(int(status[:3]), Fields(headers)))
            return
        self.tap = None
        tap.passed()

    def _ask_tap(self, question: Coroutine[Any, Any, None]) -> None:
        try:
            run_now(question)
        except Exception:  # noqa: BLE001 - the response is not the tap's to fail
            self._drop_tap()

    def _drop_tap(self) -> None:
        self.tap = None
        _log.exception("watching a response failed; the response itself is not touched")


@functools.lru_cache(maxsize=256)
def _key(name: str) -> str:
    return _OWN_NAMES.get(name) or f"HTTP_{name.upper().replace('-', '_')}"


def _discard(_data: bytes) -> None:
    pass
