"""Whether the settings mean what their author meant: unknown names, shadowed values, what production needs."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

from smw.doctor.report import Finding
from smw.environment import PREFIX, variables
from smw.errors import SmwError
from smw.settings import PARTS
from smw.starting import startable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from smw.configuration import Settings

__all__ = ["declared", "holder", "names", "parts"]


def holder(settings: Settings, part: str, field: str) -> str:
    """Return what holds a setting: the environment variable that set it, or its name in code."""
    source = settings.sources.get(f"{part}.{field}", "default")
    kind, _, variable = source.partition(" ")
    return variable if kind == "environment" else f"{part} setting {PARTS[part].model_fields[field].alias or field}"


def names(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield variables that smw does not know, that hide one another, or that nothing acts on yet."""
    for name, near in settings.suspicious.items():
        fix = f"did you mean {near}?" if near else "drop it; smw config show lists those that are"
        yield Finding("settings.unknown", "fail", f"{name} is not known to smw", fix)
    for variable in variables():
        prefixed, plain = environ.get(PREFIX + variable.name), environ.get(variable.name)
        if not variable.name.startswith(PREFIX) and prefixed and plain and prefixed != plain:
            seen = f"{PREFIX}{variable.name} hides {variable.name}, which has another value"
            yield Finding("settings.shadowed", "warn", seen, "keep one of them")
        name = f"{variable.part}.{variable.field}"
        if not variable.used and name in settings.sources:
            where = holder(settings, variable.part, variable.field)
            yield Finding("settings.unused", "warn", f"{where} is set, but nothing acts on it yet", f"drop {where}")


def _production(settings: Settings) -> Iterator[Finding]:
    """Yield what development can do without and production cannot."""
    cache, security = settings.cache, settings.security
    remote = cache.l2_host is not None or bool(cache.l3_servers)
    streams = "Redis" if settings.pipeline.redis_url else "Kafka" if settings.pipeline.kafka_brokers else None
    if not settings.service and streams is not None:
        seen = f"no service name: two services on one {streams} would take records from each other"
        yield Finding("settings.service", "warn", seen, "set SMW_SERVICE")
    if security.trail_dir is None:
        seen = "no folder for the audit log: functions with @audit_log or @require_compliance refuse to run"
        fix = "set SECURITY_TRAIL_DIR; --app MODULE fails where there is one"
        yield Finding("settings.trail_dir", "warn", seen, fix)
    elif security.signing_key is None:
        seen = "the checkpoints of the audit log are not signed: who can write the folder can rewrite history"
        yield Finding("settings.signing_key", "warn", seen, "set SECURITY_SIGNING_KEY")
    if security.trail_dir is not None and security.digest_key is None:
        seen = "pseudonyms in the audit log change with each restart"
        yield Finding("settings.digest_key", "warn", seen, "set SECURITY_DIGEST_KEY")
    if remote and not cache.encryption_keys:
        seen = "cached values lie readable on the server"
        yield Finding(
            "settings.encryption_keys", "warn", seen, "set CACHE_ENCRYPTION_KEYS=id:KEY (openssl rand -base64 32)"
        )


class _Ear(logging.Handler):
    """Keeps what is logged, so that it becomes part of the report instead of a line beside it."""

    def __init__(self, heard: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message."""
        self.heard.append(record.getMessage())


@contextlib.contextmanager
def _listening(heard: list[str]) -> Iterator[None]:
    ear, logger = _Ear(heard), logging.getLogger("smw")
    before, logger.propagate = logger.propagate, False
    logger.addHandler(ear)
    try:
        yield
    finally:
        logger.removeHandler(ear)
        logger.propagate = before


def _split(message: str) -> tuple[str, str]:
    what, _, fix = message.partition("; ")
    return what, fix


def declared(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    """Return what there is to say about the settings themselves."""
    found = [*names(settings, environ)]
    if settings.profile == "production":
        found += _production(settings)
    given = sum(source.startswith(("environment", "argument")) for source in settings.sources.values())
    verdict = f"profile {settings.profile}, {given} set, service {settings.service or '-'}"
    return [Finding("settings.profile", "ok", verdict), *found]


def parts(settings: Settings) -> list[Finding]:
    """Build each part as the application would, without opening it; what it refuses or warns of is a finding."""
    from smw._kernel.host import Host
    from smw.cache import Cache
    from smw.monitor import Monitor
    from smw.pipeline import Pipeline
    from smw.security import Security

    host = Host(settings.service, settings.profile)
    built: list[str] = []
    found: list[Finding] = []

    def security() -> Any:
        part = Security(settings.security, host=host)
        part.catalogue  # noqa: B018 - reading it is the check
        if settings.security.signing_key is not None:
            from pathlib import Path

            from smw.security.trail.cryptography import load_signer

            load_signer(Path(settings.security.signing_key))
        return part

    makers: dict[str, Callable[[], Any]] = {
        "cache": lambda: Cache(settings.cache, host=host),
        "monitor": lambda: Monitor(settings.monitor, host=host),
        "security": security,
        "pipeline": lambda: Pipeline(settings.pipeline, host=host),
    }
    for name, make in makers.items():
        heard: list[str] = []
        try:
            with _listening(heard):
                startable(settings, name)
                make().close()
        except SmwError as error:
            found.append(Finding(f"settings.{name}", "fail", error.what, error.fix or f"smw explain {error.code}"))
        else:
            built.append(name)
        found += [Finding(f"settings.{name}", "warn", *_split(text)) for text in heard]
    return [*found, Finding("settings.parts", "ok", f"accepted: {', '.join(built)}")] if built else found
