"""Which options behind the ? of a Redis URL are taken, and which of them break what is stored; connects to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smw.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OPTIONS", "wrong_option"]

_ANYWHERE: dict[str, type] = {
    "db": int, "username": str, "password": str, "client_name": str, "socket_timeout": float,
    "socket_connect_timeout": float, "socket_read_size": int, "socket_keepalive": str, "retry_on_timeout": str,
    "health_check_interval": int, "max_connections": int, "timeout": float, "protocol": int,
}  # fmt: skip
_TLS: dict[str, type] = {
    "ssl_ca_certs": str, "ssl_ca_path": str, "ssl_ca_data": str, "ssl_certfile": str, "ssl_keyfile": str,
    "ssl_password": str, "ssl_cert_reqs": str, "ssl_check_hostname": str, "ssl_ciphers": str, "ssl_min_version": int,
    "ssl_include_verify_flags": str, "ssl_exclude_verify_flags": str, "ssl_validate_ocsp": str,
    "ssl_validate_ocsp_stapled": str, "ssl_ocsp_expected_cert": str,
}  # fmt: skip
_SENTINEL: dict[str, type] = {"sentinel_username": str, "sentinel_password": str}
_CLUSTER: dict[str, type] = {"shards": str}
_BREAKING = {
    "decode_responses": "smw needs bytes as they are stored",
    "encoding": "each process must write the same names",
    "encoding_errors": "each process must write the same names",
    "legacy_responses": "smw reads answers in one form",
    "retry_on_error": "smw decides what is tried again",
}
OPTIONS = {**_ANYWHERE, **_TLS}
"""Those that redis-py takes; it has more, which cannot be written in a URL, or lead to another place than it says."""


def wrong_option(scheme: str, options: Mapping[str, str]) -> str:
    """Return what is wrong with the options of a URL, "" where nothing is; shows no value.

    Args:
        scheme: Of the URL.
        options: Name → value.
    """
    first, _, kind = scheme.partition("+")
    taken = _ANYWHERE | (_TLS if first == "rediss" else {})
    taken |= {"sentinel": _SENTINEL, "cluster": _CLUSTER}.get(kind, {})
    is_behind_secret = False
    for name, value in options.items():
        if is_behind_secret and name not in taken:
            return "has an unknown option behind a password, or an & in it; write & as %26"
        is_behind_secret = is_behind_secret or "password" in name
        if name in _BREAKING:
            return f"has the option {name}, which it must not: {_BREAKING[name]}"
        if name not in taken:
            return _unknown(name, taken)
        try:
            number = taken[name](value)
        except ValueError:
            return f"has an option {name} that is no number"
        if name == "protocol" and number not in (2, 3):
            return "has an option protocol that is neither 2 nor 3"
    return ""


def _unknown(name: str, taken: Mapping[str, type]) -> str:
    places = {"rediss://": _TLS, "redis+sentinel://": _SENTINEL, "redis+cluster://": _CLUSTER}
    only = next((scheme for scheme, options in places.items() if name in options), None)
    if only is not None:
        return f"has the option {name}, which is for {only} alone"
    return f"has an unknown option {name!r}.{nearest(name, taken)}"
