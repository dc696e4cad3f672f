"""Sorts what redis-py raises into few kinds, and tells which of them only somebody's hand will mend."""

from __future__ import annotations

import ssl

__all__ = ["cause_of", "kind_of_failure"]

_PERMANENT = ("auth", "certificate", "tls", "master-name")


def _tls_failure(error: BaseException) -> ssl.SSLError | None:
    """Return the failure of TLS behind `error`, unless the other side merely hung up."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def kind_of_failure(error: BaseException) -> tuple[str, bool]:
    """Sort a failure of redis-py into a short constant, and tell whether trying again is useless.

    Returns:
        (``timeout`` | ``auth`` | ``certificate`` | ``tls`` | ``master-name`` | ``readonly`` | ``full`` | ``loading`` |
        ``busy`` | ``protocol`` | ``refused`` | ``moving`` | ``cluster-down`` | ``answer`` | ``connection``, permanent).
    """
    import redis.exceptions as known

    kinds: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
        ((known.AuthenticationError, known.NoPermissionError), "auth"),
        ((known.TimeoutError, TimeoutError), "timeout"),
        (known.ReadOnlyError, "readonly"),
        (known.OutOfMemoryError, "full"),
        (known.BusyLoadingError, "loading"),
        (known.MaxConnectionsError, "busy"),
        (known.InvalidResponse, "protocol"),
        ((known.AskError, known.TryAgainError), "moving"),  # what was moved is an AskError too
        (known.ClusterDownError, "cluster-down"),
        ((known.ConnectionError, OSError), "connection"),
        (known.ResponseError, "answer"),
    )
    kind = next((name for types, name in kinds if isinstance(error, types)), "protocol")
    kind = getattr(error, "kind", kind)
    if kind == "connection" and "refused" in str(error).lower():
        kind = "refused"
    text = str(error)
    if kind == "answer" and text.startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
        kind = "auth"
    if kind == "connection" and (broken := _tls_failure(error)):
        kind = "certificate" if isinstance(broken, ssl.SSLCertVerificationError) else "tls"
    return kind, kind in _PERMANENT


def cause_of(error: BaseException) -> str:
    """Return why a permanent failure is one, in a few words without secrets; "" where the kind says it all."""
    broken = _tls_failure(error)
    if isinstance(broken, ssl.SSLCertVerificationError):
        return f"the server's certificate is refused: {broken.verify_message}"
    if broken is not None:
        return f"no TLS there, or the client's certificate is refused: {(broken.reason or 'handshake failed').lower()}"
    return str(error) if getattr(error, "kind", "") == "master-name" else ""
