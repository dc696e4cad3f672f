"""The settings of every part: types, defaults, limits and environment names; knows nothing of who uses them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from smw import plugins
from smw.errors import ConfigError, nearest
from smw.keys import key_file, key_ring
from smw.urls import REDIS_SCHEMES, masked, redis_url, scheme_of

__all__ = [
    "PARTS",
    "PROFILES",
    "CacheSettings",
    "MonitorSettings",
    "PartSettings",
    "PipelineSettings",
    "Profile",
    "SecuritySettings",
    "WebSettings",
    "build",
    "encrypts",
    "is_redis",
    "masked",
]

Profile = Literal["development", "testing", "production"]
_MOST_PORT = 65_535
_LOCAL_SCHEME = "memory"
_PLAIN_SCHEME = "memcached"  # what other libraries write in front of host:port
FRAMEWORKS = ("GDPR", "SOX", "HIPAA", "PCI")  # the security part has the same, where no pydantic may be loaded


def _comma_list(value: object) -> object:
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return tuple(value) if isinstance(value, list) else value


def _redis_url(value: object) -> object:
    return redis_url(value) if isinstance(value, str) else value


def _streams_url(value: object) -> object:
    url = _redis_url(value)
    if isinstance(url, str) and scheme_of(url).endswith("+cluster"):
        raise ValueError("streams need one server: redis://, rediss://, unix:// or redis+sentinel://")
    return url


def is_redis(url: str) -> bool:
    """Tell whether a URL that was accepted names a Redis, rather than the server of a plug-in."""
    return scheme_of(url) in REDIS_SCHEMES


def _store_url(value: object) -> object:
    """Take the URL of a Redis, of the server within the process, or of an installed plug-in."""
    scheme = scheme_of(value) if isinstance(value, str) else ""
    if not scheme or scheme in REDIS_SCHEMES:
        return _redis_url(value)
    installed = [name for name in plugins.names(plugins.STORES) if name not in REDIS_SCHEMES]
    if scheme != _LOCAL_SCHEME and scheme not in installed:
        ours = (*REDIS_SCHEMES, _LOCAL_SCHEME)
        known = ", ".join(f"{name}://" for name in ours)
        theirs = f"; installed: {', '.join(f'{name}://' for name in installed)}" if installed else ""
        msg = f"unknown scheme {scheme!r}; known: {known}{theirs}.{nearest(scheme, (*ours, *installed))}"
        raise ValueError(msg)
    return value


def _stores(value: object) -> object:
    """Take servers as host:port, and those of installed plug-ins as URLs."""
    items = _comma_list(value)
    if not isinstance(items, tuple):
        return items
    urls = [item for item in items if "://" in str(item)]
    _host_port(tuple(item for item in items if item not in urls))
    for url in urls:
        scheme = scheme_of(str(url))
        if scheme in REDIS_SCHEMES or (scheme == _PLAIN_SCHEME and scheme not in plugins.names(plugins.STORES)):
            msg = f"{masked(url)!r} is no server of L3; host:port without a scheme names a memcached"
            raise ValueError(msg)
        _store_url(url)
    return items


def _host_port(value: object) -> object:
    items = _comma_list(value)
    if not isinstance(items, tuple):
        return items
    for item in items:
        host, _, port = str(item).rpartition(":")
        if host.split() != [host] or not port.isdecimal() or not 1 <= int(port) <= _MOST_PORT:
            msg = f"{masked(item)!r} is not host:port; commas separate several"
            raise ValueError(msg)
    return items


def _frameworks(value: object) -> object:
    items = _comma_list(value)
    if not isinstance(items, tuple):
        return items
    folded = [re.sub(r"[-_ ]", "", str(item)).upper().replace("PCIDSS", "PCI") for item in items]
    for item, name in zip(items, folded, strict=True):
        if name not in FRAMEWORKS:
            msg = f"unknown framework {item!r}; known: {', '.join(FRAMEWORKS)}.{nearest(name, FRAMEWORKS)}"
            raise ValueError(msg)
    return tuple(dict.fromkeys(folded))


def _folder(given: Path) -> Path:
    """Take ``~`` as the home of whoever runs the process: nothing reads an environment file as a shell does."""
    if "\0" in str(given):
        raise ValueError("a path has no NUL in it")
    try:
        return given.expanduser()
    except RuntimeError as error:
        msg = f"{error}; write the whole path"
        raise ValueError(msg) from None


Names = Annotated[tuple[str, ...], BeforeValidator(_comma_list)]
Frameworks = Annotated[tuple[str, ...], BeforeValidator(_frameworks)]
Servers = Annotated[tuple[str, ...], BeforeValidator(_host_port)]
StreamsUrl = Annotated[str, BeforeValidator(_streams_url)]
StoreUrl = Annotated[str, BeforeValidator(_store_url)]
Stores = Annotated[tuple[str, ...], BeforeValidator(_stores)]
KeyFile = Annotated[str, BeforeValidator(key_file)]
Folder = Annotated[Path, AfterValidator(_folder)]
Keys = Annotated[dict[str, bytes], BeforeValidator(key_ring)]


def _setting(default: Any, env: str, about: str, *, used: bool = True, secret: bool = False, **limits: Any) -> Any:
    extra: dict[str, Any] = {"env": env, "used": used, "secret": secret}
    return Field(default, description=about, json_schema_extra=extra, repr=not secret, **limits)


class PartSettings(BaseModel):
    """What the settings of all parts have in common: frozen, unknown names refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Show the settings, without passwords in addresses."""
        for name, value in super().__repr_args__():
            several = isinstance(value, tuple)
            yield name, tuple(map(masked, value)) if several else masked(value) if isinstance(value, str) else value


class CacheSettings(PartSettings):
    """Levels of the function cache and how values are stored in them."""

    enabled: bool = _setting(default=True, env="CACHE_ENABLED", about="false: every cached function is simply called")
    l1_size: int = _setting(1000, "CACHE_L1_SIZE", "entries kept in memory", ge=0)
    l1_bytes: int = _setting(64 * 2**20, "CACHE_L1_BYTES", "estimated bytes kept in memory", ge=0)
    l2_host: StoreUrl | None = _setting(
        None,
        "CACHE_L2_URL",
        "URL of a Redis, Sentinels, a cluster or a plug-in; unset: no L2",
        alias="l2_url",
    )
    l3_servers: Stores = _setting((), "CACHE_L3_SERVERS", "memcached servers, host:port, or URLs of a plug-in")
    compression: bool = _setting(default=True, env="CACHE_COMPRESSION", about="compress stored values from 1 KB on")
    encryption: bool | None = _setting(None, "CACHE_ENCRYPTION", "AES-256-GCM; unset: on where keys exist")
    encryption_keys: Keys = _setting(
        {}, "CACHE_ENCRYPTION_KEYS", "id:base64,...; first seals, all open, last names keys", secret=True
    )
    namespace: str | None = _setting(None, "CACHE_NAMESPACE", "prefix that keeps services apart; unset: service name")
    budget_ms: int = _setting(
        100, "CACHE_BUDGET_MS", "most that all remote levels may add to one call", ge=1, le=3_600_000
    )
    l1_ttl: float | None = _setting(None, "CACHE_L1_TTL", "longest that memory keeps an entry, seconds", gt=0)
    l2_ttl: float | None = _setting(None, "CACHE_L2_TTL", "longest that Redis keeps an entry, seconds", gt=0)
    l3_ttl: float | None = _setting(None, "CACHE_L3_TTL", "longest that memcached keeps an entry, seconds", gt=0)
    l1_trust_ms: int = _setting(
        1000,
        "CACHE_L1_TRUST_MS",
        "how long memory answers after it last knew what other processes invalidated",
        ge=0,
        le=86_400_000,
    )
    jitter: float | None = _setting(
        None, "CACHE_JITTER", "largest share by which a life is shortened; unset: 0.1, in tests 0", ge=0, lt=1
    )
    warm: Literal["fleet", "off"] = _setting(
        "off", "CACHE_WARM", "fleet: a process starts with the results that others ask for most, read from Redis"
    )
    warm_keys: int = _setting(1000, "CACHE_WARM_KEYS", "most results that a process starts with", ge=1, le=100_000)
    warm_timeout_s: float = _setting(
        1.0, "CACHE_WARM_TIMEOUT_S", "longest that a start waits for them, seconds", gt=0, le=60
    )
    state_dir: Folder | None = _setting(
        None, "CACHE_STATE_DIR", "folder in which acknowledged writes and owed drops survive the process; unset: memory"
    )
    drain_s: float = _setting(5.0, "CACHE_DRAIN_S", "longest wait for acknowledged writes when closing", ge=0, le=3600)
    allow_pickle: bool = _setting(
        default=False, env="CACHE_ALLOW_PICKLE", about="allow sealed pickles for values no other codec takes"
    )


class MonitorSettings(PartSettings):
    """Metrics, spans and logs."""

    prometheus_port: int | None = _setting(None, "PROMETHEUS_PORT", "own metrics listener", ge=1, le=65535)
    prometheus_host: str | None = _setting(None, "PROMETHEUS_HOST", "address it listens on; unset: see monitor docs")
    jaeger_endpoint: str | None = _setting(None, "JAEGER_ENDPOINT", "OTLP/HTTP endpoint for spans; needs extra otel")
    otlp_endpoint: str | None = _setting(None, "OTEL_EXPORTER_OTLP_ENDPOINT", "collector's base URL; needs extra otel")
    series_max: int = _setting(2000, "MONITOR_SERIES_MAX", "series kept per metric; the rest share one", ge=1)
    metrics_push_gateway: str | None = _setting(None, "METRICS_PUSH_GATEWAY", "Pushgateway URL", used=False)
    workers_dir: Folder | None = _setting(
        None, "MONITOR_WORKERS_DIR", "folder that the workers of a host share; unset: each shows its own figures"
    )
    logs: Literal["json", "off"] = _setting("off", "MONITOR_LOGS", "json: log records of smw as JSON lines on stderr")


class SecuritySettings(PartSettings):
    """Audit log, compliance and what the web adapter refuses."""

    trail_dir: Folder | None = _setting(None, "SECURITY_TRAIL_DIR", "folder of the audit log; unset: kept in memory")
    catalogue: Mapping[str, Any] | Path | None = _setting(None, "SECURITY_CATALOGUE", "data catalogue: mapping or TOML")
    audit_level: Literal["LOW", "MEDIUM", "HIGH"] = _setting("HIGH", "SECURITY_AUDIT_LEVEL", "LOW, MEDIUM or HIGH")
    mode: Literal["enforce", "shadow"] | None = _setting(None, "SECURITY_MODE", "unset: production enforces")
    signing_key: KeyFile | None = _setting(None, "SECURITY_SIGNING_KEY", "file of the key that signs checkpoints")
    digest_key: str | None = _setting(
        None, "SECURITY_DIGEST_KEY", "secret of the pseudonyms in the audit log", secret=True, min_length=16
    )
    threat_detection_enabled: bool = _setting(
        default=True, env="THREAT_DETECTION_ENABLED", about="threat detectors", used=False
    )
    compliance_frameworks: Frameworks = _setting((), "COMPLIANCE_FRAMEWORKS", "frameworks of web policy", used=False)
    trusted_proxies: Names = _setting((), "SECURITY_TRUSTED_PROXIES", "networks whose forwarding headers count")
    rate_limit: str | None = _setting(None, "SECURITY_RATE_LIMIT", "requests per client, such as 100/minute")
    max_body_bytes: int = _setting(10 * 2**20, "SECURITY_MAX_BODY_BYTES", "largest request body", ge=0)


class PipelineSettings(PartSettings):
    """Streams and batches."""

    kafka_brokers: Servers = _setting((), "KAFKA_BROKERS", "Kafka brokers, host:port")
    redis_url: StreamsUrl | None = _setting(None, "PIPELINE_REDIS_URL", "Redis for streams")
    stream_buffer_size: int = _setting(10_000, "STREAM_BUFFER_SIZE", "records fetched or waiting to be sent", ge=1)
    batch_size: int = _setting(1_000, "BATCH_SIZE", "rows per call of a batch function", ge=1)
    stream_keep: int = _setting(100_000, "STREAM_KEEP", "settled records a Redis stream keeps, roughly", ge=0)
    stream_on_gap: Literal["continue", "stop"] = _setting(
        "continue", "STREAM_ON_GAP", "what serving does where records were deleted before they were handled"
    )
    claim_idle_s: float = _setting(60.0, "STREAM_CLAIM_IDLE_S", "silence after which a worker counts as dead", gt=0)
    drain_s: float = _setting(5.0, "STREAM_DRAIN_S", "longest wait for running handlers when stopping", ge=0, le=3600)
    emit_timeout_s: float = _setting(5.0, "STREAM_EMIT_TIMEOUT_S", "longest wait of emit for room or the store", ge=0)


class WebSettings(PartSettings):
    """Endpoints and the response cache."""

    metrics_path: str | None = _setting("/metrics", "WEB_METRICS_PATH", "path of the Prometheus exposition")
    health_path: str | None = _setting("/health", "WEB_HEALTH_PATH", "path of the health checks")
    response_cache_max_bytes: int = _setting(2**20, "WEB_RESPONSE_CACHE_MAX_BYTES", "largest stored response", ge=0)


PARTS: dict[str, type[PartSettings]] = {
    "cache": CacheSettings,
    "monitor": MonitorSettings,
    "security": SecuritySettings,
    "pipeline": PipelineSettings,
    "web": WebSettings,
}
PROFILES: dict[str, dict[str, dict[str, Any]]] = {
    "development": {"security": {"audit_level": "LOW"}},
    "testing": {"security": {"audit_level": "LOW"}},
    "production": {"monitor": {"logs": "json"}, "security": {"rate_limit": "600/minute"}},
}

M = TypeVar("M", bound=PartSettings)


def build(model: type[M], settings: M | Mapping[str, Any] | None, options: Mapping[str, Any] | None = None) -> M:
    """Make a settings model from a model, a mapping, keyword options, or a mix of them.

    Args:
        model: The part's settings model.
        settings: A model (taken as it is unless `options` are given) or a mapping.
        options: Further settings; they win over `settings`.

    Raises:
        ConfigError: A name is unknown (with the nearest valid one) or a value is refused.
    """
    if isinstance(settings, model) and not options:
        return settings
    told: object = settings
    given: dict[str, Any] = {}
    if isinstance(settings, PartSettings):
        given = {name: getattr(settings, name) for name in settings.model_fields_set}
    elif isinstance(told, Mapping):
        given = dict(told)
    elif told is not None:
        what = f"{model.__name__} are made of a mapping or of keywords"
        raise ConfigError("SMW-S101", what, seen=type(told).__name__, fix=f"one of: {', '.join(_given_names(model))}")
    given |= options or {}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise explain_invalid(model, error) from None


def encrypts(cache: CacheSettings, profile: str) -> bool:
    """Tell whether stored values are encrypted.

    Args:
        cache: The cache's settings.
        profile: Only `production` insists on a key that outlives the process.

    Raises:
        ConfigError: There is no key for it, or pickles would be taken that nothing authenticates.
    """
    asked = bool(cache.encryption_keys) if cache.encryption is None else cache.encryption
    if asked and not cache.encryption_keys and profile == "production":
        fix = "CACHE_ENCRYPTION_KEYS=id:KEY, where KEY comes from: openssl rand -base64 32"
        raise ConfigError("SMW-C120", "cache setting 'encryption' is on, but there is no key", fix=fix)
    if cache.allow_pickle and not asked:
        what = "cache setting 'allow_pickle' needs encryption: a forged pickle runs code"
        raise ConfigError("SMW-C121", what, fix="set encryption_keys, or leave allow_pickle off")
    return asked


def _given_names(model: type[PartSettings]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


def explain_invalid(
    model: type[PartSettings], error: ValidationError, names: Mapping[str, str] | None = None
) -> ConfigError:
    """Turn pydantic's complaint into one `ConfigError` that names each setting.

    Args:
        model: The model that refused.
        error: What pydantic raised.
        names: How the user spelled a field (an environment variable), where it is not the field's name.
    """
    part = model.__name__.removesuffix("Settings").lower()
    valid = [*model.model_fields, *(f.alias for f in model.model_fields.values() if f.alias)]
    spelled = {f.alias: name for name, f in model.model_fields.items() if f.alias}
    problems, wanted = [], []
    for item in error.errors(include_input=False, include_url=False):
        given = str(item["loc"][0]) if item["loc"] else ""
        field = spelled.get(given, given)
        name = model.model_fields[field].alias or field if field in model.model_fields else given
        shown = (names or {}).get(field, name)
        if item["type"] == "extra_forbidden":
            problems.append(f"unknown {part} setting {shown!r}.{nearest(field, valid)}")
            continue
        problems.append(f"{part} setting {shown!r}: {item['msg'].removeprefix('Value error, ')}")
        if field in model.model_fields:
            info: Any = model.model_fields[field]
            wanted.append(f"{name}, or {info.json_schema_extra['env']}: {info.description}")
    known = f"known {part} settings: {', '.join(_given_names(model))}"
    return ConfigError("SMW-S101", "; ".join(problems), fix="; ".join(dict.fromkeys(wanted)) or known)
