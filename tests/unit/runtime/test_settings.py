"""Which value a setting has, and what a wrong one says."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from smw.configuration import resolve
from smw.environment import variables
from smw.errors import ConfigError
from smw.security.compliance import names
from smw.settings import FRAMEWORKS, PARTS, CacheSettings, build

KEY = base64.b64encode(b"k" * 32).decode()


def test_argument_beats_environment_beats_profile_beats_default() -> None:
    """The order of sources, each visible in `sources`."""
    environ = {"CACHE_L1_SIZE": "5", "SECURITY_RATE_LIMIT": "9/minute"}
    settings = resolve("production", parts={"cache": {"l1_size": 7}}, environ=environ)
    assert settings.cache.l1_size == 7
    assert settings.security.rate_limit == "9/minute"
    assert settings.monitor.logs == "json"
    assert settings.sources["cache.l1_size"] == "argument"
    assert settings.sources["security.rate_limit"] == "environment SECURITY_RATE_LIMIT"
    assert settings.sources["monitor.logs"] == "profile production"
    assert "cache.l1_bytes" not in settings.sources


def test_the_prefixed_variable_wins() -> None:
    """SMW_ in front of a name is the more specific spelling."""
    settings = resolve(None, environ={"CACHE_L1_SIZE": "5", "SMW_CACHE_L1_SIZE": "6"})
    assert settings.cache.l1_size == 6
    assert settings.sources["cache.l1_size"] == "environment SMW_CACHE_L1_SIZE"


@pytest.mark.parametrize(
    ("environ", "part", "field", "value"),
    [
        ({"CACHE_L2_URL": "redis://h:1/0"}, "cache", "l2_host", "redis://h:1/0"),
        ({"CACHE_L2_URL": "h:1"}, "cache", "l2_host", "redis://h:1"),
        ({"CACHE_L3_SERVERS": "a:1, b:2"}, "cache", "l3_servers", ("a:1", "b:2")),
        ({"CACHE_ENCRYPTION_KEYS": f"one:{KEY}"}, "cache", "encryption_keys", {"one": b"k" * 32}),
        ({"PROMETHEUS_PORT": "9090"}, "monitor", "prometheus_port", 9090),
        ({"JAEGER_ENDPOINT": "http://h:4318"}, "monitor", "jaeger_endpoint", "http://h:4318"),
        ({"METRICS_PUSH_GATEWAY": "http://h:9091"}, "monitor", "metrics_push_gateway", "http://h:9091"),
        ({"SECURITY_AUDIT_LEVEL": "MEDIUM"}, "security", "audit_level", "MEDIUM"),
        ({"THREAT_DETECTION_ENABLED": "false"}, "security", "threat_detection_enabled", False),
        ({"COMPLIANCE_FRAMEWORKS": "GDPR,SOX"}, "security", "compliance_frameworks", ("GDPR", "SOX")),
        ({"KAFKA_BROKERS": "k:9092"}, "pipeline", "kafka_brokers", ("k:9092",)),
        ({"STREAM_BUFFER_SIZE": "10"}, "pipeline", "stream_buffer_size", 10),
        ({"BATCH_SIZE": "10"}, "pipeline", "batch_size", 10),
    ],
)
def test_every_documented_variable_is_read(environ: dict[str, str], part: str, field: str, value: Any) -> None:
    """Each name of the product reaches its setting, parsed; and so does its prefixed form."""
    assert getattr(getattr(resolve(None, environ=environ), part), field) == value
    prefixed = {f"SMW_{name}": text for name, text in environ.items()}
    assert getattr(getattr(resolve(None, environ=prefixed), part), field) == value


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"CACHE_L1_SIZE": "many"}, "CACHE_L1_SIZE"),
        ({"SMW_BATCH_SIZE": "0"}, "SMW_BATCH_SIZE"),
        ({"KAFKA_BROKERS": "kafka"}, "KAFKA_BROKERS.*host:port"),
        ({"CACHE_L3_SERVERS": "a:1 b:2"}, "'a:1 b:2' is not host:port; commas separate several"),
        ({"CACHE_L3_SERVERS": "memcached://a:1"}, "host:port without a scheme names a memcached"),
        ({"CACHE_L2_URL": "reddis://h"}, "CACHE_L2_URL.*Did you mean 'redis'"),
        ({"SECURITY_AUDIT_LEVEL": "LOUD"}, "SECURITY_AUDIT_LEVEL"),
        ({"SMW_PROFILE": "prod"}, "unknown profile 'prod'. Did you mean 'production'"),
        ({"CACHE_ENCRYPTION_KEYS": "one:short"}, "32 bytes"),
    ],
)
def test_a_wrong_variable_is_named(environ: dict[str, str], words: str) -> None:
    """One error, naming the variable as the user spelled it."""
    with pytest.raises(ConfigError, match=words):
        resolve(None, environ=environ)


def test_an_unknown_setting_gets_the_nearest_name() -> None:
    """A typing error in code is refused with the name that was probably meant."""
    with pytest.raises(ConfigError, match=r"unknown cache setting 'l1_sizee'\. Did you mean 'l1_size'"):
        resolve(None, parts={"cache": {"l1_sizee": 3}}, environ={})
    with pytest.raises(ConfigError, match="takes a mapping"):
        resolve(None, parts={"cache": 3}, environ={})  # type: ignore[dict-item]


def test_a_misspelled_variable_is_reported_not_swallowed() -> None:
    """A near miss and an unknown SMW_ name are suspicious, with what is near if anything is; others are left alone."""
    environ = {"CACHE_L2_ULR": "x", "SMW_CAHCE_L1_SIZE": "1", "PATH": "/bin", "HOME": "/"}
    environ |= {"CACHE_L2_HOST": "x", "CACHE_L3_HOST": "x", "CACHE_ENCRYPTION_KEY": "x", "CACHE_DIR": "/"}
    environ |= {"SMW_FOO": "1", "SMW_CACHE_URL": "x", "SMW_BATCHSIZE": "5", "SMW_SERVIC": "shop"}
    assert resolve(None, environ=environ).suspicious == {
        "CACHE_L2_ULR": "CACHE_L2_URL",
        "CACHE_L2_HOST": "CACHE_L2_URL",
        "CACHE_L3_HOST": "CACHE_L3_SERVERS",
        "CACHE_ENCRYPTION_KEY": "CACHE_ENCRYPTION_KEYS",
        "SMW_CAHCE_L1_SIZE": "SMW_CACHE_L1_SIZE",
        "SMW_FOO": "",
        "SMW_CACHE_URL": "SMW_CACHE_L2_URL",
        "SMW_BATCHSIZE": "SMW_BATCH_SIZE",
        "SMW_SERVIC": "SMW_SERVICE",
    }


@pytest.mark.parametrize("server", ["cache", "cache:", "cache:0", "cache:65536", "cache:x", ":11211", "a b:1"])
@pytest.mark.parametrize("variable", ["CACHE_L3_SERVERS", "KAFKA_BROKERS"])
def test_a_server_is_host_and_port(variable: str, server: str) -> None:
    """A port that no server can have is refused where it is set, with the variable."""
    with pytest.raises(ConfigError, match=rf"{variable}(.|\n)*is not host:port"):
        resolve(None, environ={variable: f"fine:11211,{server}"})


def test_secrets_never_show() -> None:
    """Rows for people and the repr of the model mask keys and URLs with passwords."""
    settings = resolve(None, environ={"CACHE_ENCRYPTION_KEYS": f"one:{KEY}", "CACHE_L2_URL": "redis://u:pw@h"})
    rows = {row.name: row.value for row in settings.rows()}
    assert rows["cache.encryption_keys"] == "***"
    assert rows["cache.l2_url"] == "redis://***@h"
    assert "pw" not in repr(settings)
    assert KEY not in repr(settings)


def test_variables_of_later_features_are_marked() -> None:
    """A variable that nothing acts on yet is known, validated and says so."""
    unused = {variable.name for variable in variables() if not variable.used}
    assert "METRICS_PUSH_GATEWAY" in unused
    assert "CACHE_L2_URL" not in unused


def test_no_two_settings_share_a_variable() -> None:
    """Each variable sets one thing."""
    names = [variable.name for variable in variables()]
    assert len(names) == len(set(names))
    assert len(names) == 2 + sum(len(model.model_fields) for model in PARTS.values())


def test_an_address_in_the_place_of_settings_is_refused() -> None:
    """Whoever hands a part an address is told that it takes settings, by which names, and is not shown its password."""
    with pytest.raises(ConfigError, match=r"made of a mapping or of keywords(.|\n)*l2_url") as raised:
        build(CacheSettings, "redis://:secret@cache:6379")  # type: ignore[arg-type]
    assert "secret" not in str(raised.value)


def test_build_takes_models_mappings_and_options() -> None:
    """A part used on its own is configured the same three ways."""
    model = CacheSettings(l1_size=3)
    assert build(CacheSettings, model) is model
    assert build(CacheSettings, {"l1_size": 4}).l1_size == 4
    assert build(CacheSettings, model, {"l1_bytes": 9}) == CacheSettings(l1_size=3, l1_bytes=9)
    with pytest.raises(ConfigError, match="l1_bytes"):
        build(CacheSettings, None, {"l1_byte": 9})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://ada:hunter2@gateway:9091/x", "http://***@gateway:9091/x"),
        ("https://hunter2@collector", "https://***@collector"),
        ("ada:hunter2@gateway:9091", "***@gateway:9091"),
        ("http://ada:hunter2/@x@gateway", "http://***@gateway"),
        ("http://gateway:9091", "http://gateway:9091"),
    ],
)
def test_passwords_in_addresses_never_show(url: str, shown: str) -> None:
    """Name and password in front of a host are masked wherever settings are shown, whatever they consist of."""
    variable_names = ("JAEGER_ENDPOINT", "METRICS_PUSH_GATEWAY", "OTEL_EXPORTER_OTLP_ENDPOINT")
    settings = resolve(None, environ=dict.fromkeys(variable_names, url))
    rows = {row.variable: row.value for row in settings.rows()}
    assert [rows[name] for name in variable_names] == [shown] * 3
    assert settings.monitor.jaeger_endpoint == url
    assert "hunter2" not in repr(settings) + str(settings.monitor)


def test_frameworks_are_checked_when_configuring() -> None:
    """A framework that does not exist is refused with the nearest name; spellings of one framework are one."""
    with pytest.raises(ConfigError, match=r"COMPLIANCE_FRAMEWORKS.*'GDRP'.*Did you mean 'GDPR'"):
        resolve(None, environ={"COMPLIANCE_FRAMEWORKS": "SOX,GDRP"})
    with pytest.raises(ConfigError, match="unknown framework 'XYZ'; known: GDPR"):
        resolve(None, environ={"COMPLIANCE_FRAMEWORKS": "GDPR,XYZ"})
    settings = resolve(None, parts={"security": {"compliance_frameworks": ["pci-dss", "PCI", "sox"]}})
    assert settings.security.compliance_frameworks == ("PCI", "SOX")
    assert FRAMEWORKS == names.FRAMEWORKS
