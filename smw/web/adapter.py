"""The middleware that carries policies, ASGI or WSGI as its application is; merges with its neighbour."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from smw._kernel import current
from smw._kernel.bridge import on_asyncio
from smw.errors import ConfigError
from smw.starting import imported
from smw.web import telemetry
from smw.web.asgi import Application, AsgiExchange, BlockingExchange, Receive, Scope, Send
from smw.web.exchange import Link, Policy, Reply, compose
from smw.web.lifespan import Lifespan
from smw.web.protocol import called_wrongly, not_for, protocol_of, served_as_class
from smw.web.route import Routes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from smw.runtime import Runtime
    from smw.web.protocol import Framework, Protocol
    from smw.web.source import PolicySource

__all__ = ["Adapter", "bare"]

_MONITORED = "smw.monitored"
_MISSING: Any = object()


@dataclass(frozen=True, slots=True)
class _Bound:
    """The policies of one adapter under one runtime."""

    exchange: type[AsgiExchange]
    chain: Link
    again: Link
    sockets: tuple[Policy, ...]
    now: Callable[[], float]
    routes: Routes
    telemetry: Callable[[], bool] | None


class Adapter:
    """One middleware with one or more policies, for ASGI and for WSGI: it speaks what its application speaks.

    When its application is an adapter too, it takes over that one's policies, and they all run here in the canonical
    order: monitoring, security, pipeline, response cache. Another middleware between two keeps them apart.

    Args:
        app: The application below, given by position as Starlette does. A WSGI application is put back where it
            was: ``app.wsgi_app = Middleware(app.wsgi_app)``.
        profile: Profile of this middleware's policy; None is the runtime's.
        **overrides: Settings of this middleware's policy.

    Raises:
        ConfigError: A setting is wrong, the same middleware stands twice in a row, or `app` is no application.
    """

    source: ClassVar[type[PolicySource]]
    given: ClassVar[PolicySource | None] = None

    def __init__(self, app: Any, /, profile: str | None = None, **overrides: Any) -> None:
        if isinstance(app, dict):
            raise served_as_class(type(self))
        own = self._own(profile, overrides)
        sources: tuple[PolicySource, ...] = (own,)
        if isinstance(app, Adapter):
            inner: tuple[PolicySource, ...] = app.sources
            if any(other.name == own.name for other in inner):
                what = f"the {own.name} middleware was added twice"
                raise ConfigError("SMW-W103", what, fix="add it once, or install the whole stack once")
            sources, app = (own, *inner), app.app
        self.app: Application = app
        self.sources: tuple[PolicySource, ...] = tuple(sorted(sources, key=lambda source: source.rank))
        self.protocol: Protocol = protocol_of(app)
        self._wsgi: Callable[[Any, Any], Any] | None = None
        if self.protocol == "wsgi":
            from smw.web.wsgi_app import WsgiApp

            self._wsgi = WsgiApp(app, self.sources).serve
        else:
            # Servers ask the instance for a coroutine function, while Python calls the one of the class.
            self.__call__ = self._asgi  # type: ignore[method-assign,assignment]
        self._bound: _Bound | None = None
        self._lock = threading.RLock()
        self._opened: Runtime | None = None
        current.rebind(self)
        if current.get() is None:  # or the first request of a worker that no code configures would wait for it
            imported()

    @classmethod
    def configured(cls, profile: str | None, overrides: dict[str, Any]) -> type[Self]:
        """Return a class of the same name whose instances need nothing but an application."""
        source = cls.source(profile, overrides)
        members = {"given": source, "__module__": cls.__module__, "__doc__": cls.__doc__}
        return cast("type[Self]", type(cls.__name__, (cls,), members))

    def _own(self, profile: str | None, overrides: dict[str, Any]) -> PolicySource:
        given = self.given
        if given is None:
            return self.source(profile, overrides)
        if profile is None and not overrides:
            return given
        before = {name: value for part in given.overrides.values() for name, value in part.items()}
        return self.source(profile or given.profile, before | overrides)

    def __repr__(self) -> str:
        """Name the policies in the order in which they run."""
        return f"<smw {' > '.join(source.name for source in self.sources)}>"

    def __call__(self, first: Any, second: Any = _MISSING, third: Any = _MISSING, /) -> Any:
        """Serve one call of a server: scope, receive and send, or environ and start_response.

        Raises:
            ConfigError: The server speaks another protocol than the application.
        """
        if third is _MISSING:
            if self._wsgi is None or second is _MISSING:
                called_wrongly(self, self.protocol, *(first, second)[: 1 if second is _MISSING else 2])
            return self._wsgi(first, second)
        if self._wsgi is not None:
            called_wrongly(self, self.protocol, first, second, third)
        return self._asgi(first, second, third)

    async def _asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            bound = self._bound or await self._begun(scope)
            chain = bound.again if _MONITORED in scope else bound.chain
            scope[_MONITORED] = True
            exchange = bound.exchange(scope, receive, send, bound.now, bound.routes)
            if bound.telemetry is not None:
                exchange.telemetry = bound.telemetry
            reply = await chain(exchange)
            if isinstance(reply, Reply):  # whatever else an application may return means nothing in ASGI
                await exchange.answer(reply)
        elif kind == "websocket":
            await self._socket(scope, receive, send)
        elif kind == "lifespan":
            life = Lifespan(receive, send, opening=functools.partial(self._open, scope), closing=self._close)
            await life.run(self.app, scope)
        else:
            await self.app(scope, receive, send)

    def _serve(self, exchange: Any) -> Awaitable[Any]:
        # No coroutine of its own: one layer less to resume for every message of every request.
        send = exchange.observe if exchange.tap is None else exchange.observe_tapped
        return self.app(exchange.scope, exchange.receive, send)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        bound = self._bound or await self._begun(scope)
        link: Callable[[], Any] = functools.partial(self.app, scope, receive, send)
        if _MONITORED not in scope:
            scope[_MONITORED] = True
            for policy in reversed(bound.sockets):
                link = functools.partial(policy.around_socket, link)
        await link()

    def unbind(self) -> None:
        """Forget the runtime; the next exchange looks it up again."""
        self._bound = None

    async def _begun(self, scope: Scope) -> _Bound:
        """Bind without a lifespan, before the first exchange: those that come meanwhile wait as well."""
        from smw.runtime import current as current_runtime

        await current_runtime().aprepare()
        return self._bind(scope)

    def _bind(self, scope: Scope) -> _Bound:
        from smw.runtime import current as current_runtime

        with self._lock:
            if self._bound is None:
                runtime = current_runtime()
                made = [(source, source.bind(runtime)) for source in self.sources]
                policies = [(source, policy) for source, policy in made if policy is not None]
                self._bound = _Bound(
                    exchange=AsgiExchange if on_asyncio() else BlockingExchange,
                    chain=compose((policy for _, policy in policies), self._serve),
                    again=compose((policy for source, policy in policies if not source.once), self._serve),
                    sockets=_overriding(policy for _, policy in policies),
                    now=runtime.host.clock.now,
                    routes=Routes(scope.get("app", self.app)),
                    telemetry=telemetry.native(self.app),
                )
            return self._bound

    async def _open(self, scope: Scope) -> None:
        from smw.runtime import current as current_runtime

        runtime = current_runtime()
        self._opened = runtime
        await runtime.aprepare()
        self._bind(scope)
        for source in self.sources:
            await source.opened(runtime)

    async def _close(self) -> None:
        runtime, self._opened = self._opened, None
        if runtime is None:
            return
        for source in reversed(self.sources):
            await source.closing(runtime)
        if not runtime.is_entered:  # whoever entered it as a context manager closes it
            await runtime.aclose()


def _overriding(policies: Iterable[Policy]) -> tuple[Policy, ...]:
    return tuple(policy for policy in policies if type(policy).around_socket is not Policy.around_socket)


def bare(app: Any, wanted: Framework, marks: Iterable[str]) -> Any:
    """Return `app`, which is an application of a framework, and no adapter around one.

    Args:
        app: What an `install` was given.
        wanted: What the `install` is for.
        marks: The attributes that it needs of an application.

    Raises:
        ConfigError: It is something else.
    """
    if isinstance(app, Adapter):
        fix = "give the application itself to install, which puts all of them on it"
        raise ConfigError("SMW-W103", "this application already has a middleware of smw", seen=repr(app), fix=fix)
    if isinstance(app, type) or not all(hasattr(app, mark) for mark in marks):
        raise not_for(app, wanted)
    return app
