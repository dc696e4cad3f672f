"""Which URL of a Redis is taken, with the form to write where one is not, and how it is shown; connects to nothing."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

from smw.errors import nearest
from smw.url_options import wrong_option

__all__ = ["REDIS_SCHEMES", "form_of", "masked", "redis_url", "scheme_of"]

REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
_FORMS = {
    "": "redis://host:6379/0",
    "unix": "unix:///run/redis.sock",
    "sentinel": "redis+sentinel://host1:26379,host2:26379/mymaster/0",
    "cluster": "redis+cluster://host1:6379,host2:6379",
}
_HOST = re.compile(r"(?P<name>[\w.-]+|\[[0-9A-Fa-f:.]+(?:%\w+)?\])(?::(?P<port>[0-9]{1,5}))?")
_MOST_PORT = 65_535
_PORTLESS = re.compile(r"(?<=:)(?![0-9]{0,5}(?:[/?#,]|$))[^/?#,]*")
_OPTION = re.compile(
    r"(?<=[?&])(?P<name>[^=&]*(?:pass|secret|token|cred|auth|sig|key(?!file))[^=&]*)=.*", re.IGNORECASE | re.DOTALL
)
"""A secret option and all that stands behind it: an & that is not escaped is a part of the secret."""
_SCHEME = re.compile(r"\s*[A-Za-z][\w+.-]*")
_ESCAPED = "in a name or password write / as %2F, ? as %3F, # as %23, @ as %40, [ as %5B"


def masked(value: object) -> str:
    """Return a value for people: without name and password in front of a host, and without options that are secret.

    Everything up to the last `@` goes, for a password may hold one, or a slash. Where a port should stand only a
    number is shown: a URL that lacks its host has a password there.
    """
    if not isinstance(value, str):
        return str(value)
    before, _, host = value.rpartition("@")
    scheme, slashes, rest = value.partition("://")
    if not slashes:
        return f"***@{host}" if ":" in before else value
    if not _SCHEME.fullmatch(scheme):  # of a password, say
        return f"***@{host}" if before else "***"
    shown = f"***@{host}" if "://" in before else rest
    where, slash, more = shown.partition("/")
    address, bracket, port = where.rpartition("]")
    where = f"{address}{bracket}{_PORTLESS.sub('***', port)}"
    return f"{scheme}://{_OPTION.sub(_hidden, where + slash + more)}"


def _hidden(option: re.Match[str]) -> str:
    return f"{option['name']}=***"


def scheme_of(url: str) -> str:
    """Return what stands in front of ``://``, "" where no name does."""
    scheme, slashes, _ = url.partition("://")
    return scheme if slashes and _SCHEME.fullmatch(scheme) else ""


def redis_url(given: str) -> str:
    """Return the URL of a Redis, of Sentinels or of a cluster; without a scheme it is ``host:port`` of a server.

    Raises:
        ValueError: It is none; says how one is written, and shows no password.
    """
    scheme = scheme_of(given) or "redis"
    if "://" in given and not scheme_of(given):
        raise _refused(given, "is no URL", f"{_FORMS['']}; {_ESCAPED}")
    if scheme not in REDIS_SCHEMES:
        known = ", ".join(f"{name}://" for name in REDIS_SCHEMES)
        raise ValueError(f"unknown scheme {scheme!r}; known: {known}.{nearest(scheme, REDIS_SCHEMES)}")
    before, colon, behind = given.partition(":")
    if not given:
        raise _refused("", "is empty", form_of(scheme))
    if any(letter.isspace() or not letter.isprintable() for letter in given):
        raise _refused(given, "has a blank or a line's end in it", form_of(scheme))
    if colon and before in REDIS_SCHEMES and not behind.startswith("//") and not behind[:1].isdecimal():
        raise _refused(given, f"lacks the // behind {before}:", form_of(before))
    url = given if "://" in given else f"redis://{given}"
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _refused(given, "is no URL", f"{form_of(scheme)}; {_ESCAPED}") from None
    _check(given, parts)
    return url


def form_of(scheme: str) -> str:
    """Return how a URL of that scheme is written, of a server where it is none of a Redis."""
    first, _, kind = (scheme if scheme in REDIS_SCHEMES else "redis").partition("+")
    return _FORMS["unix"] if first == "unix" else _FORMS[kind].replace("redis", first, 1)


def _refused(given: str, why: str, form: str) -> ValueError:
    shown = masked(given if "://" in given else f"redis://{given}")
    shown = shown if "://" in given else shown.removeprefix("redis://")
    return ValueError(f"{f'{shown!r} ' if given else ''}{why}; write {form}")


def _check(given: str, parts: SplitResult) -> None:
    """Refuse what redis-py would read as something else, or as this machine."""
    form, hosts = form_of(parts.scheme), parts.netloc.rpartition("@")[2]
    found = [_HOST.fullmatch(host) for host in hosts.split(",")]
    is_path = parts.scheme == "unix"
    if parts.fragment or ("@" not in parts.netloc and "@" in given and not is_path and not all(found)):
        raise _refused(given, "ends before its host", f"{form}; {_ESCAPED}")
    if parts.query and not all("=" in option for option in parts.query.split("&")):
        raise _refused(given, "has an option without a value behind the ?", f"{form}; {_ESCAPED}")
    wrong = wrong_option(parts.scheme, dict(parse_qsl(parts.query, keep_blank_values=True)))
    if wrong:
        raise _refused(given, wrong.rstrip("."), form)
    if is_path:
        if hosts or not parts.path.strip("/"):
            raise _refused(given, "names no socket, which has three slashes in front", form)
        return
    if "+" in parts.scheme:  # the one place that reads these says itself what they lack
        return
    if len(found) > 1:
        raise _refused(given, "names several servers", f"{_FORMS['sentinel']}, or {_FORMS['cluster']}")
    if not hosts or hosts.startswith(":"):
        raise _refused(given, "names no host", form)
    port = found[0]["port"] if found[0] else ""
    if not found[0] or (port is not None and not 1 <= int(port or 0) <= _MOST_PORT):
        raise _refused(given, "is not host:port, with a port from 1 to 65535", form)
    if parts.path.strip("/") and not re.fullmatch(r"/[0-9]+/?", parts.path):
        raise _refused(given, "has something other than the number of a database behind its host", form)
