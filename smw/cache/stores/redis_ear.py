"""A connection on which Redis tells what others have said; knows no message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smw import _redis

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

__all__ = ["RedisEar"]


class RedisEar:
    """One subscribed connection, used by one thread.

    Args:
        client: Its pool makes the connection, and nothing else.
        channels: What is listened to.
    """

    def __init__(self, client: redis.Redis, channels: Sequence[str]) -> None:
        self._pool: Any = client.connection_pool
        self._line: Any = None
        try:
            self._line = self._pool.get_connection()
            self._line.send_command("SUBSCRIBE", *channels, check_health=False)
            for _ in channels:
                self._line.read_response()
        except BaseException:
            self.close()
            raise

    def hear(self, timeout_s: float) -> bytes | None:
        """Return the next message, or None when none has come in time."""
        if not self._line.can_read(timeout_s):
            return None
        kind, *rest = self._line.read_response()
        return rest[-1] if kind == b"message" else None

    def close(self) -> None:
        """Close the connection, and those over which its place was asked for."""
        if self._line is not None:
            self._line.disconnect()
        self._pool.disconnect()

    def interrupt(self) -> None:
        """Have the thread that is waiting fail at once; called by another one."""
        _redis.hang_up(self._line)
