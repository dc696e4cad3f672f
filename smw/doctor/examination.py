"""Which checks a configuration calls for; each check itself is a module beside this one."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING

from smw._kernel.clock import SystemClock
from smw.cache.naming.names import Names
from smw.configuration import resolve
from smw.doctor import declared, disk, journal, kafka, memcached, plugged, process, redis, telemetry
from smw.doctor.network import Place
from smw.doctor.probe import Probe, run
from smw.doctor.report import Finding, Report
from smw.doctor.versions import versions
from smw.errors import SmwError
from smw.settings import is_redis

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from smw._kernel.clock import Clock
    from smw.configuration import Settings

__all__ = ["examine", "examine_environment"]

_DEADLINE_S = 3.5
"""Of the slowest check; with the start of Python the whole stays below five seconds."""


def examine_environment(profile: str | None = None, environ: Mapping[str, str] | None = None) -> Report:
    """Examine what the environment configures.

    Args:
        profile: Profile instead of ``SMW_PROFILE``.
        environ: Environment to read; None is the process's own.

    Returns:
        The report; settings that cannot be read are its first finding, and then only what does not depend on them
        is checked.
    """
    environ = os.environ if environ is None else environ
    try:
        settings = resolve(profile, environ=environ)
    except SmwError as error:
        refused = Finding("settings.values", "fail", error.what, error.fix or f"smw explain {error.code}")
        rest = asyncio.run(run([*_always()]))
        return Report("", (refused, *rest, Finding("servers", "not checked", "the settings cannot be read")))
    return examine(settings, environ=environ)


def examine(settings: Settings, *, environ: Mapping[str, str] | None = None) -> Report:
    """Examine everything that `settings` configure; changes nothing, and takes less than five seconds.

    Args:
        settings: Resolved settings, such as ``smw.configure(...).settings``.
        environ: Environment to read; None is the process's own.
    """
    environ = os.environ if environ is None else environ
    found = [*declared.declared(settings, environ), *declared.parts(settings)]
    found += asyncio.run(run([*_configured(settings, environ, SystemClock()), *_always()]))
    return Report(settings.profile, tuple(found))


def _always() -> Iterator[Probe]:
    yield Probe("process.descriptors", process.descriptors)
    yield Probe("versions", versions, _DEADLINE_S)


def _configured(settings: Settings, environ: Mapping[str, str], clock: Clock) -> Iterator[Probe]:
    workers = process.workers_of(environ)
    yield from _redises(settings, workers, clock)
    yield from _plugged(settings)
    for server in [server for server in settings.cache.l3_servers if "://" not in server]:
        by = declared.holder(settings, "cache", "l3_servers")
        place = _place("cache.l3", server, by, "a memcached")
        yield Probe(f"cache.l3 {server}", partial(memcached.findings, place), _DEADLINE_S)
    yield from _kafka(settings)
    yield from _monitoring(settings)
    folder = settings.monitor.workers_dir
    yield Probe("process.workers", partial(process.sharing, workers, folder))
    if workers > 1 and settings.cache.enabled and not (settings.cache.l2_host or settings.cache.l3_servers):
        yield Probe("process.drops", partial(process.dropping, workers))
    yield from _folders(settings, clock)


def _place(name: str, server: str, by: str, what: str) -> Place:
    host, _, port = server.rpartition(":")
    return Place(name, host.strip("[]"), int(port), by, what)


def _kafka(settings: Settings) -> Iterator[Probe]:
    pipeline = settings.pipeline
    if pipeline.kafka_brokers:
        by = declared.holder(settings, "pipeline", "kafka_brokers")
        places = [_place("pipeline.kafka", broker, by, "a Kafka broker") for broker in pipeline.kafka_brokers]
        one = kafka.Kafka(places, pipeline.claim_idle_s, declared.holder(settings, "pipeline", "claim_idle_s"))
        yield Probe(one.name, partial(kafka.findings, one), _DEADLINE_S)


def _plugged(settings: Settings) -> Iterator[Probe]:
    cache, production = settings.cache, settings.profile == "production"
    urls = [("l2", "l2_host", cache.l2_host)] if cache.l2_host and not is_redis(cache.l2_host) else []
    urls += [("l3", "l3_servers", server) for server in cache.l3_servers if "://" in server]
    for level, field, url in urls:
        name, by = f"cache.{level}", declared.holder(settings, "cache", field)
        yield Probe(name, partial(plugged.findings, name, url, by, production=production), _DEADLINE_S)


def _redises(settings: Settings, workers: int, clock: Clock) -> Iterator[Probe]:
    production = settings.profile == "production"
    known = []
    if settings.cache.l2_host is not None and is_redis(settings.cache.l2_host):
        by = declared.holder(settings, "cache", "l2_host")
        prefix = Names(settings.cache.namespace or settings.service or "default").prefix
        known.append(redis.Redis("cache.l2", settings.cache.l2_host, by, "cache", production, workers, prefix))
    if settings.pipeline.redis_url is not None:
        by = declared.holder(settings, "pipeline", "redis_url")
        known.append(redis.Redis("pipeline.redis", settings.pipeline.redis_url, by, "streams", production, workers))
    for one in known:
        yield Probe(one.name, partial(redis.findings, one, clock), _DEADLINE_S)


def _monitoring(settings: Settings) -> Iterator[Probe]:
    from smw.monitor.spans import endpoint_of

    monitor = settings.monitor
    try:
        url = endpoint_of(monitor)
    except SmwError:
        url = None  # the monitor itself refuses it, which is a finding already
    if url is not None:
        field = "otlp_endpoint" if monitor.jaeger_endpoint is None else "jaeger_endpoint"
        by = declared.holder(settings, "monitor", field)
        yield Probe("monitor.otlp", partial(telemetry.collector, url, by), _DEADLINE_S)
    if (port := monitor.prometheus_port) is not None:
        everywhere = "0.0.0.0" if settings.profile == "production" else "127.0.0.1"  # noqa: S104 - as the monitor does
        host, by = monitor.prometheus_host or everywhere, declared.holder(settings, "monitor", "prometheus_port")
        yield Probe("monitor.prometheus_port", partial(telemetry.metrics_port, host, port, by), _DEADLINE_S)


def _folders(settings: Settings, clock: Clock) -> Iterator[Probe]:
    folders = {
        ("security", "trail_dir"): settings.security.trail_dir,
        ("monitor", "workers_dir"): settings.monitor.workers_dir,
        ("cache", "state_dir"): settings.cache.state_dir,
    }
    for (part, field), path in folders.items():
        if path is not None:
            name, by = f"{part}.{field}", declared.holder(settings, part, field)
            yield Probe(name, partial(disk.folder, path, name, by, clock), _DEADLINE_S)
    if settings.cache.state_dir is not None:
        yield Probe("cache.writes", partial(journal.writes, settings.cache.state_dir, clock), _DEADLINE_S)
