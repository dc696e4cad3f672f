"""What parts need to start: settings that let them, as far as that shows without opening anything, and modules."""

from __future__ import annotations

import functools
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from smw.errors import ConfigError, MissingExtra
from smw.settings import encrypts, is_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from smw.configuration import Settings

__all__ = ["imported", "startable"]


def startable(settings: Settings, part: str | None = None) -> None:
    """Refuse settings that the first call would refuse; of one part, or of all.

    Args:
        settings: Resolved settings.
        part: ``cache``, ``security`` or ``pipeline``; the monitor opens with its runtime and says it itself.

    Raises:
        ConfigError: A URL leads nowhere, a key is missing, or a value is none of its kind.
        MissingExtra: The package behind a setting is not installed.
    """
    checks: dict[str, Callable[[Settings], None]] = {"cache": _cache, "security": _security, "pipeline": _pipeline}
    for name, check in checks.items():
        if part in (None, name):
            check(settings)


@functools.cache
def imported() -> None:
    """Import what the first call would import with the settings of the environment, once a process; opens nothing.

    It never fails: what is wrong with the settings, or is not installed, is told to who opens a runtime, which may have
    other settings then.
    """
    from smw.configuration import resolve

    with suppress(Exception):  # settings that are wrong are told to who opens a runtime
        for name in _modules(resolve(None)):
            with suppress(Exception):  # so is a client that is not installed
                import_module(name)


def _modules(settings: Settings) -> Iterator[str]:
    """Yield what a process imports that serves with `settings`, beside what it has."""
    cache = settings.cache
    yield from ("smw.runtime", "smw.monitor.monitor")
    if cache.l2_host is None and not cache.l3_servers:
        return
    yield "smw.cache.part"
    if cache.l2_host is not None and is_redis(cache.l2_host):
        yield from ("smw._redis.named", "smw.cache.stores.redis")
        if "+cluster://" in cache.l2_host:
            yield "smw.cache.stores.redis_cluster"
    if any("://" not in server for server in cache.l3_servers):
        yield from ("smw.cache.stores.memcached", "pymemcache.client.base", "aiomcache")
    if encrypts(cache, settings.profile):
        yield from ("smw.cache.values.seal", "cryptography.hazmat.primitives.ciphers.aead")


def _installed(setting: str, packages: tuple[str, ...], extra: str, names: tuple[str, ...] = ()) -> None:
    for package, name in zip(packages, names or packages, strict=True):
        if find_spec(package) is None:
            raise MissingExtra(setting, package=name, extra=extra)


def _url(setting: str, url: str) -> None:
    from smw import _redis

    _installed(setting, ("redis",), "redis")
    try:
        _redis.parse(url)
    except ValueError as error:
        what = f"the Redis URL {_redis.shown(url)} of {setting} is refused: {error}"
        raise ConfigError("SMW-S103", what, fix=_redis.form(url)) from None


def _cache(settings: Settings) -> None:
    cache = settings.cache
    if encrypts(cache, settings.profile):
        _installed("encryption of cached values", ("cryptography",), "crypto")
    if cache.l2_host is not None and is_redis(cache.l2_host):
        _url("cache setting 'l2_url'", cache.l2_host)
    if any("://" not in server for server in cache.l3_servers):
        _installed("cache setting 'l3_servers'", ("aiomcache", "pymemcache"), "memcached")


def _security(settings: Settings) -> None:
    security = settings.security
    if security.signing_key is not None:
        _installed("signing the audit log", ("cryptography",), "crypto")
    if security.rate_limit is not None and not settings.sources.get("security.rate_limit", "").startswith("profile"):
        from smw.security.limit import parse_rate

        parse_rate(security.rate_limit)
    if security.trusted_proxies:
        from smw.security.client import TrustedProxies

        TrustedProxies(security.trusted_proxies)


def _pipeline(settings: Settings) -> None:
    pipeline = settings.pipeline
    if pipeline.redis_url is not None:
        _url("pipeline setting 'redis_url'", pipeline.redis_url)
    if pipeline.kafka_brokers:
        _installed("a Kafka connection", ("kafka",), "kafka", ("kafka-python",))
