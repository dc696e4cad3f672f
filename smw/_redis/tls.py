"""One TLS context for all connections of a URL; redis-py makes one for each, which costs 50 ms and blocks the loop."""

from __future__ import annotations

import functools
import ssl
from pathlib import Path
from typing import Any

__all__ = ["Trust", "tls_connection"]

_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_VERIFY = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class Trust:
    """Who is trusted, and who we are.

    With ``ssl_ca_certs``, ``ssl_ca_path`` or ``ssl_ca_data`` that authority is trusted and no other, else those of
    the system.

    Args:
        options: Options of the URL, as redis-py names them.

    Raises:
        ValueError: An option is refused, or a file holds no certificate.
    """

    def __init__(self, options: tuple[tuple[str, Any], ...]) -> None:
        self._options = dict(options)
        self._stamps: tuple[int, ...] = ()
        self._context: ssl.SSLContext | None = None
        try:
            self.context()
        except (OSError, ValueError) as error:  # SSLError is an OSError
            names = ", ".join(name for name in self._options if name in _FILES) or "the system's certificates"
            raise ValueError(f"{names}: {getattr(error, 'reason', None) or error}") from None

    def context(self) -> ssl.SSLContext:
        """Return the context, made anew once a file has changed."""
        try:
            stamps = tuple(Path(self._options[name]).stat().st_mtime_ns for name in _FILES if name in self._options)
        except OSError:
            stamps = self._stamps  # it is just being replaced
        if self._context is None or stamps != self._stamps:
            self._context, self._stamps = self._made(), stamps
        return self._context

    def _made(self) -> ssl.SSLContext:
        given = self._options
        context = ssl.create_default_context(
            cafile=given.get("ssl_ca_certs"), capath=given.get("ssl_ca_path"), cadata=given.get("ssl_ca_data")
        )
        verify = str(given.get("ssl_cert_reqs", "required"))
        if verify not in _VERIFY:
            raise ValueError(f"ssl_cert_reqs={verify} is none of {', '.join(_VERIFY)}")
        context.check_hostname = verify != "none" and given.get("ssl_check_hostname") is not False
        context.verify_mode = _VERIFY[verify]
        for flag in given.get("ssl_include_verify_flags") or ():
            context.verify_flags |= flag
        for flag in given.get("ssl_exclude_verify_flags") or ():
            context.verify_flags &= ~flag
        if "ssl_certfile" in given or "ssl_keyfile" in given:
            context.load_cert_chain(
                given.get("ssl_certfile", ""), given.get("ssl_keyfile"), password=given.get("ssl_password")
            )
        if "ssl_min_version" in given:
            context.minimum_version = given["ssl_min_version"]
        if "ssl_ciphers" in given:
            context.set_ciphers(given["ssl_ciphers"])
        return context


_trust_of = functools.lru_cache(maxsize=32)(Trust)


def tls_connection(url: str, base: type[Any], *, awaits: bool) -> type[Any]:
    """Return a connection class like `base` whose connections share a context.

    Args:
        url: Says which; where it has options for OCSP redis-py is left to itself.
        base: A class of redis-py.
        awaits: Whether it is one for coroutines.

    Raises:
        ValueError: An option is refused, or a file holds no certificate.
    """
    from redis.connection import parse_url

    options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
    given = {name: value for name, value in options.items() if name.startswith("ssl_")}
    if any("ocsp" in name for name in given):
        return base
    frozen = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    trust = _trust_of(tuple(sorted(frozen.items())))

    class Blocking(base):  # type: ignore[misc]
        def _wrap_socket_with_ssl(self, sock: Any) -> ssl.SSLSocket:
            return trust.context().wrap_socket(sock, server_hostname=self.host)

    class Awaiting(base):  # type: ignore[misc]
        def _connection_arguments(self) -> Any:
            self.ssl_context.context = trust.context()
            return super()._connection_arguments()

    return Awaiting if awaits else Blocking
