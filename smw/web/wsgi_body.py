"""What the server iterates over in the place of a WSGI application's result: hands on every piece as it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smw.web.exchange import Reply
from smw.web.flow import end, run_now

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from contextlib import AbstractContextManager

    from smw.web.wsgi import WsgiExchange

__all__ = ["Body", "SizedBody", "conclude", "special"]


def conclude(exchange: WsgiExchange, error: BaseException | None = None) -> bytes | None:
    """Let the policies come to their end.

    Args:
        exchange: Of the policies.
        error: What the application raised.

    Returns:
        The body of the answer that one of them gives in the application's place, or None.
    """
    chain, exchange.chain = exchange.chain, None
    exchange.note_input()
    reply = end(chain, error)
    if isinstance(reply, Reply):
        run_now(exchange.answer(reply))
    return exchange.replied


def _pieces(exchange: WsgiExchange, result: Iterable[bytes]) -> Generator[bytes, None, None]:
    """Yield every piece, and end the exchange with the last one."""
    try:
        for data in result:
            if not exchange.status and exchange.note_input():
                break  # the application answers a body that it was not given; the policy's 413 follows
            if exchange.tap is not None:
                exchange.note(data)
            exchange.sent_bytes += len(data)
            if exchange.sent_bytes == exchange.declared:
                exchange.complete()
            yield data
        if exchange.chain is None:
            return
        if exchange.status:
            exchange.complete()
            return
        replied = conclude(exchange)
    except GeneratorExit:
        exchange.leave()
        raise
    except BaseException as error:
        if exchange.chain is None:
            raise
        replied = conclude(exchange, error)
        if replied is None:
            raise
    if replied is not None:
        yield replied


def _in_steps(step: AbstractContextManager[None], pieces: Iterator[bytes]) -> Generator[bytes, None, None]:
    """Yield every piece; the code that makes it runs inside `step`, the one that takes it outside."""
    while True:
        with step:
            data = next(pieces, None)
        if data is None:
            return
        yield data


class Body:
    """The body of one exchange.

    Args:
        exchange: Takes note.
        result: What the application returned.

    Raises:
        TypeError: That was nothing to iterate over.
    """

    __slots__ = ("__weakref__", "_close", "_exchange", "_pieces")

    def __init__(self, exchange: WsgiExchange, result: Any) -> None:
        step = exchange.step
        self._exchange = exchange
        self._close: Callable[[], Any] | None = getattr(result, "close", None)
        self._pieces = _pieces(exchange, iter(result) if step is None else _in_steps(step, iter(result)))

    def __iter__(self) -> Iterator[bytes]:
        """Return the pieces: a body is sent once."""
        return self._pieces

    def __next__(self) -> bytes:
        """Return the next piece."""
        return next(self._pieces)

    def close(self) -> None:
        """End the exchange and close what the application returned; a server calls it whatever happened."""
        close, self._close = self._close, None
        exchange = self._exchange
        try:
            self._pieces.close()
            if exchange.chain is not None:  # nobody has asked for a piece
                exchange.leave()
        finally:
            if close is not None:
                step = exchange.step
                if step is None:
                    close()
                else:
                    with step:
                        close()

    def sent(self) -> None:
        """Do the same for a file that the server has sent by its own means."""
        self._exchange.complete()
        self.close()


class SizedBody(Body):
    """A body of a known number of pieces; a single one tells some servers the length of the answer."""

    __slots__ = ("_length",)

    def __init__(self, exchange: WsgiExchange, result: Any) -> None:
        super().__init__(exchange, result)
        self._length = len(result)

    def __len__(self) -> int:
        """Return the number of pieces."""
        return self._length


def special(exchange: WsgiExchange, result: Any) -> Iterable[bytes]:
    """Return what the server is to send for a result that tells its length, or is a file in the server's own wrapper.

    The file stays the server's own object, which it can send by its own means, and the exchange ends when it is
    closed; unless a policy wants to see the bytes or that object takes no other ``close``.
    """
    if hasattr(result, "__len__"):
        return SizedBody(exchange, result)
    body = Body(exchange, result)
    if exchange.tap is None and exchange.status:
        try:
            result.close = body.sent
        except (AttributeError, TypeError):
            return body
        file: Iterable[bytes] = result
        return file
    return body
