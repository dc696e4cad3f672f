"""How smw opens kafka-python's clients, and what their failures mean; knows no records."""

from __future__ import annotations

import functools
import importlib
import logging
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from smw.errors import ConfigError, MissingExtra, SmwError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Address", "closed", "headers_of", "library", "opened", "topic_of", "translated"]

_log = logging.getLogger("smw.pipeline")
CONNECT_S = 2.0
_RECONNECT = {"reconnect_backoff_ms": 50, "reconnect_backoff_max_ms": 1_000, "retry_backoff_ms": 50}
_PERMANENT = (
    "AuthorizationError", "InvalidTopicError", "InvalidGroupIdError", "InvalidSessionTimeoutError",
    "InconsistentGroupProtocolError", "UnsupportedVersionError", "UnsupportedCodecError", "KafkaConfigurationError",
    "GroupMaxSizeReachedError", "SaslAuthenticationFailedError", "PolicyViolationError",
)  # fmt: skip


class Address(NamedTuple):
    """Which cluster, and how this process calls itself there."""

    brokers: tuple[str, ...]
    client_id: str

    @property
    def shown(self) -> str:
        """The brokers as one word."""
        return ",".join(self.brokers)


@functools.cache
def library() -> Any:
    """Return the package ``kafka``.

    Raises:
        MissingExtra: kafka-python is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the way in which it reads its own files
            kafka = importlib.import_module("kafka")
            importlib.import_module("kafka.coordinator.assignors.cooperative_sticky")
    except ImportError:
        raise MissingExtra("a Kafka connection", package="kafka-python", extra="kafka") from None
    return kafka


def opened(kind: str, address: Address, *, connect_s: float = CONNECT_S, **options: Any) -> Any:
    """Return a connected ``KafkaConsumer`` or ``KafkaProducer``; blocks for up to `connect_s`.

    Raises:
        MissingExtra: kafka-python is not installed.
        KafkaError: No broker answered, or an option is refused.
    """
    kafka = library()
    made: list[Any] = []

    def client(**settings: Any) -> Any:
        made.append(kafka.net.compat.KafkaNetClient(**settings))
        return made[-1]

    try:
        return getattr(kafka, kind)(
            bootstrap_servers=list(address.brokers),
            client_id=address.client_id,
            bootstrap_timeout_ms=max(1, int(connect_s * 1000)),
            kafka_client=client,
            metrics_enabled=False,
            **_RECONNECT,
            **options,
        )
    except BaseException:
        # A constructor that fails leaves its thread behind, one more with every attempt.
        for left in made:
            closed(left.close)
        raise


def closed(close: Callable[..., Any], *args: Any, **options: Any) -> bool:
    """Call a client's `close`; what goes wrong at the end is worth a line in the log and no more."""
    try:
        close(*args, **options)
    except Exception as error:  # noqa: BLE001 - whatever it raises, the client is left
        _log.debug("a Kafka client did not close well: %s: %s", type(error).__name__, error)
        return False
    return True


def translated(error: BaseException, address: Address, name: str) -> SmwError:
    """Return what a failure of kafka-python means for the stream `name`: `ConfigError` where waiting is useless."""
    if isinstance(error, SmwError):
        return error
    kinds = [kind.__name__ for kind in type(error).__mro__]
    seen = _reason(kinds[0], error)
    if any(kind in _PERMANENT for kind in kinds):
        return ConfigError(
            "SMW-P133",
            f"the Kafka at {address.shown} refuses the stream {name!r}: {seen}",
            fix=_fix(kinds[0]),
        )
    return Unavailable("SMW-P131", f"the Kafka at {address.shown} did not serve the stream {name!r}: {seen}", seen=seen)


def _reason(kind: str, error: BaseException) -> str:
    if kind == "KafkaTimeoutError":
        return "timeout"
    if kind in ("UnknownTopicOrPartitionError", "InvalidTopicError"):
        return "no such topic" if kind.startswith("Unknown") else "a topic cannot have that name"
    text = str(error).partition("] ")[2] or str(error)
    return f"{kind}: {text}" if text else kind


def _fix(kind: str) -> str:
    if kind == "InvalidSessionTimeoutError":
        return "set claim_idle_s between the broker's group.min.session.timeout.ms (6 s) and group.max... (30 min)"
    if kind == "InconsistentGroupProtocolError":
        return "readers of another kind use this group: choose one with group="
    return "see the broker's settings and rights for this topic and group"


def topic_of(name: str, suffix: str = "") -> str:
    """Return the topic of a stream.

    Raises:
        ConfigError: Kafka has no topics of that name.
    """
    if ":" in name:
        message = f"Kafka has no topic named {name!r}: letters, digits, dots, _ and - only"
        raise ConfigError("SMW-P133", message, fix=name.replace(":", "."))
    return name + suffix


def headers_of(pairs: Sequence[tuple[str, bytes | None]]) -> dict[str, str]:
    """Return a record's headers as text."""
    return {name: (value or b"").decode("utf-8", "replace") for name, value in pairs}
