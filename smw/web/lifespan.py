"""Ties what opens and closes to the life of an ASGI application; knows neither runtime nor policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from smw.web.asgi import Application, Message, Receive, Scope, Send

__all__ = ["Lifespan"]

_ENDS = ("lifespan.shutdown.complete", "lifespan.shutdown.failed", "lifespan.startup.failed")


class Lifespan:
    """One run of the lifespan protocol.

    The application sees every message that the server sends, and the server every one of the application's. An
    application that does not know the protocol (it raises or returns without having asked for a message) is stood in
    for, so that what smw holds back is flushed in any case. One that has named itself in the scope, as Starlette and
    FastAPI do, knows the protocol: what it raises is an error.

    Args:
        receive: As the server gave it.
        send: As the server gave it.
        opening: Runs before the application hears of the startup.
        closing: Runs after the application has shut down, before the server hears of it.
    """

    def __init__(
        self,
        receive: Receive,
        send: Send,
        *,
        opening: Callable[[], Awaitable[Any]],
        closing: Callable[[], Awaitable[Any]],
    ) -> None:
        self._receive = receive
        self._send = send
        self._opening = opening
        self._closing = closing
        self._is_open = False
        self._asked = False

    async def run(self, app: Application, scope: Scope) -> None:
        """Run the protocol to its end."""
        try:
            await app(scope, self.receive, self.send)
        except Exception:  # who does not know the protocol may say so in any way; who does is heard
            if self._asked or "app" in scope:
                raise
            await self._stand_in()
        else:
            if not self._asked:
                await self._stand_in()
        finally:
            await self._close()

    async def _stand_in(self) -> None:
        await self.receive()
        await self.send({"type": "lifespan.startup.complete"})
        await self.receive()
        await self.send({"type": "lifespan.shutdown.complete"})

    async def receive(self) -> Message:
        """Hand on a message; a startup is held until the runtime is open."""
        self._asked = True
        message = await self._receive()
        if message["type"] == "lifespan.startup":
            await self._open()
        return message

    async def send(self, message: Message) -> None:
        """Hand on a message; the end of the application is held until everything is flushed."""
        if message["type"] in _ENDS:
            await self._close()
        await self._send(message)

    async def _open(self) -> None:
        self._is_open = True
        try:
            await self._opening()
        except Exception as error:
            # Without this message servers take the exception for "lifespan unsupported" and serve without smw.
            await self._send({"type": "lifespan.startup.failed", "message": str(error)})
            raise

    async def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            await self._closing()
