"""Runs policies around a WSGI application, in the thread of the call and without an event loop; decides no policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smw._kernel import current
from smw._kernel.process import ForkLock, after_fork
from smw.web.exchange import Link, Reply, compose
from smw.web.flow import HANDED_OVER, hand_over, run_now, suspended
from smw.web.life import Life
from smw.web.wsgi import Environ, StartResponse, WsgiExchange
from smw.web.wsgi_body import Body, conclude, special
from smw.web.wsgi_input import Input
from smw.web.wsgi_route import EXCHANGE, Routes, flask_below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from smw.web.source import PolicySource

__all__ = ["WsgiApp"]

_MONITORED = "smw.monitored"
_NO_LENGTH = (None, "", "0")
# In these a body has a length or comes in chunks, and both show in the header; others may have one that does not.
_SAYS_LENGTH = ("HTTP/1.1", "HTTP/1.0")


@dataclass(frozen=True, slots=True)
class _Bound:
    """The policies of one application under one runtime."""

    chain: Link
    again: Link
    now: Callable[[], float]
    routes: Routes


class WsgiApp:
    """A WSGI application with policies around it.

    There is no word of start and stop in WSGI: the runtime opens with the first request of a process, a forked one
    included, and closes at its exit.

    Args:
        app: The application below.
        sources: Make the policies, outermost first.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]], sources: tuple[PolicySource, ...]) -> None:
        self.app = app
        self.sources = sources
        self._bound: _Bound | None = None
        self._life: Life | None = None
        self._lock = ForkLock()
        current.rebind(self)
        after_fork(self.after_fork)

    def serve(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request; this is the application with its policies, as a server calls it."""
        bound = self._bound or self._bind()
        make = bound.again if _MONITORED in environ else bound.chain
        environ[_MONITORED] = True
        exchange = WsgiExchange(environ, start_response, bound.now, bound.routes)
        chain: Any
        exchange.chain = chain = make(exchange)
        try:
            if chain.send(None) is not HANDED_OVER:
                raise suspended(chain)
        except StopIteration as stop:
            return _answered(exchange, stop.value)
        if (
            environ.get("CONTENT_LENGTH") not in _NO_LENGTH
            or "HTTP_TRANSFER_ENCODING" in environ
            or environ.get("SERVER_PROTOCOL") not in _SAYS_LENGTH
        ):
            # The application gets no way back to the exchange: that would be a cycle for every request.
            exchange.input = environ["wsgi.input"] = Input(environ.get("wsgi.input"), exchange.body_limit)
        outer = environ.get(EXCHANGE)
        if exchange.refuses is not None:
            environ[EXCHANGE] = exchange
        try:
            if exchange.step is None:
                result = self.app(environ, exchange.start)
            else:
                with exchange.step:
                    result = self.app(environ, exchange.start)
            if hasattr(result, "__len__") or type(result) is environ.get("wsgi.file_wrapper"):
                return special(exchange, result)
            return Body(exchange, result)
        except BaseException as error:
            replied = conclude(exchange, error)
            if replied is None:
                raise
            return [replied]
        finally:
            if outer is not None:
                environ[EXCHANGE] = outer
            elif exchange.refuses is not None:
                del environ[EXCHANGE]

    def unbind(self) -> None:
        """Forget the runtime; the next request looks it up again."""
        self._bound = None

    def after_fork(self) -> None:
        """Start anew in a forked child: what the parent serves in its threads is not here."""
        self._bound = self._life = None

    def _bind(self) -> _Bound:
        from smw.runtime import current as current_runtime

        with self._lock:
            bound = self._bound
            if bound is None:
                runtime = current_runtime()
                runtime.prepare()
                made = [(source, source.bind(runtime)) for source in self.sources]
                policies = [(source, policy) for source, policy in made if policy is not None]
                owner = flask_below(self.app)
                if owner is not None:
                    from smw.web.flask import answer_refusals

                    answer_refusals(owner)
                bound = _Bound(
                    chain=compose((policy for _, policy in policies), hand_over),
                    again=compose((policy for source, policy in policies if not source.once), hand_over),
                    now=runtime.host.clock.now,
                    routes=Routes(owner),
                )
                if self._life is not None:
                    self._life.end()
                self._life = Life.begin(self.sources, runtime)
                self._bound = bound
            return bound


def _answered(exchange: WsgiExchange, reply: Reply | None) -> Iterable[bytes]:
    if isinstance(reply, Reply):
        run_now(exchange.answer(reply))
    return [] if exchange.replied is None else [exchange.replied]
