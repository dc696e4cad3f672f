"""Sorts what redis-py raises into few kinds, and tells which of them only somebody's hand will mend."""

from __future__ import annotations

import re
import ssl

from smw.urls import form_of

__all__ = ["kind_of_failure", "remedy_for", "strictness"]

_PERMANENT = {
    "auth": "user and password",
    "permission": "the permissions of the user on the server (ACL SETUSER), or the user",
    "certificate": "ssl_ca_certs or the host",
    "tls": "the scheme, the port or ssl_certfile and ssl_keyfile",
    "master-name": "the name of the master",
    "database": "the number of the database",
    "other-server": "the scheme, the host or the port",
}
_UNKNOWN = re.compile(r"unknown command [`'\"]?(?P<name>\w+)", re.IGNORECASE)
_MOST_SHOWN = 60

_FORMALITIES = range(80, 94)
"""Codes of OpenSSL for what ``VERIFY_X509_STRICT`` alone refuses, such as a missing key usage or key identifier."""


_OF_ACL = ("NOPERM", "ACL failure in script", "The user executing the script")
"""How the releases of Redis begin to say that a user may not do something."""


def _tls_failure(error: BaseException) -> ssl.SSLError | None:
    """Return the failure of TLS behind `error`, unless the other side merely hung up."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def _unwrapped(error: BaseException) -> BaseException:
    """Return the failure itself: for coroutines redis-py puts into a ConnectionError what comes up in connecting."""
    import redis.exceptions as known

    cause = error.__cause__
    return cause if type(error) is known.ConnectionError and isinstance(cause, known.RedisError) else error


def _of_cluster(error: BaseException) -> bool:
    """Tell whether only a node of a cluster says this."""
    import redis.exceptions as known

    said = (known.AskError, known.TryAgainError, known.ClusterDownError, known.ClusterCrossSlotError)
    return isinstance(error, said) and not isinstance(error, known.MasterDownError)  # which a replica says as well


def kind_of_failure(error: BaseException, *, is_alone: bool = False) -> tuple[str, bool]:
    """Sort a failure of redis-py into a short constant, and tell whether trying again is useless.

    Args:
        error: The failure.
        is_alone: Whether the URL is that of one server: what a node of a cluster says comes from the wrong one then.

    Returns:
        (``timeout`` | ``auth`` | ``permission`` | ``certificate`` | ``tls`` | ``master-name`` | ``database`` |
        ``other-server`` | ``readonly`` | ``full`` | ``loading`` | ``busy`` | ``protocol`` | ``refused`` | ``moving`` |
        ``cluster-down`` | ``answer`` | ``connection``, permanent).
    """
    import redis.exceptions as known

    kinds: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
        (known.NoPermissionError, "permission"),
        (known.AuthenticationError, "auth"),
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
    error = _unwrapped(error)
    kind = next((name for types, name in kinds if isinstance(error, types)), "protocol")
    kind = getattr(error, "kind", kind)
    if kind == "connection" and "refused" in str(error).lower():
        kind = "refused"
    text = str(error)
    if kind == "answer" and text.startswith(("NOAUTH", "WRONGPASS")):
        kind = "auth"
    if kind == "answer" and "db index" in text.lower():
        kind = "database"
    if kind == "answer" and text.startswith(_OF_ACL):
        kind = "permission"
    if (kind == "answer" and _UNKNOWN.match(text)) or (is_alone and _of_cluster(error)):
        kind = "other-server"
    if kind == "connection" and (broken := _tls_failure(error)):
        kind = "certificate" if isinstance(broken, ssl.SSLCertVerificationError) else "tls"
    return kind, kind in _PERMANENT


def remedy_for(kind: str, error: BaseException, holder: str) -> str:
    """Return what is wrong and what to do about it, in one line without secrets.

    Args:
        kind: A permanent kind.
        error: The failure.
        holder: The setting that holds the URL.
    """
    cause, what = _cause(kind, error), _PERMANENT[kind]
    return f"{kind}: {cause + '; ' if cause else ''}correct {what} in {holder}"


def _other(error: BaseException) -> str:
    """Return what another kind of server has shown itself to be, and what leads to such a one."""
    text = str(error)
    if getattr(error, "kind", ""):  # a finder's
        return f"{text}, and {form_of('redis')} leads to a server"
    if _of_cluster(error):
        return f"the server is a node of a cluster, to which {form_of('redis+cluster')} leads"
    if unknown := _UNKNOWN.match(text):
        form = form_of("redis+sentinel")
        return f"the server does not know {unknown['name'].upper()}; a Sentinel does not, and {form} leads past it"
    return f"the server refuses everything ({''.join(filter(str.isprintable, text[:_MOST_SHOWN]))})"


def strictness(error: ssl.SSLCertVerificationError) -> str:
    """Return what to do about a certificate that is refused for a formality alone, which Python checks from 3.13 on."""
    if error.verify_code not in _FORMALITIES:
        return ""
    return "; make the authority and the certificate anew, or add ssl_exclude_verify_flags=VERIFY_X509_STRICT"


def _cause(kind: str, error: BaseException) -> str:
    broken = _tls_failure(error)
    if isinstance(broken, ssl.SSLCertVerificationError):
        return f"the server's certificate is refused ({broken.verify_message}){strictness(broken)}"
    if broken is not None:
        return f"the handshake failed ({(broken.reason or 'no reason given').replace('_', ' ').lower()})"
    error = _unwrapped(error)
    if kind == "other-server":
        return _other(error)
    if kind == "permission":
        return str(error).removeprefix("NOPERM ").partition(" script: ")[0]
    return str(error) if getattr(error, "kind", "") == "master-name" else ""
