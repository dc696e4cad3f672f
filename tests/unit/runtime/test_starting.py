"""What `configure` refuses at once, rather than the first call that needs it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import pytest

import smw
from smw.errors import ConfigError, MissingExtra
from smw.runtime import current

KEYS = {"one": b"k" * 32}


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"cache": {"l2_url": "redis://h:nop"}}, "cache setting 'l2_url'.*not host:port.*write redis://host:6379/0"),
        ({"cache": {"l2_url": "redis+sentinel://h"}}, r"name of the master is missing(.|\n)*fix: *redis\+sentinel://"),
        ({"cache": {"l2_url": "redis+sentinel://h/m/x"}}, "no number of a database"),
        ({"cache": {"l2_url": "redis+cluster://h/3"}}, r"no database 3(.|\n)*fix: *redis\+cluster://"),
        ({"cache": {"encryption": True}}, "'encryption' is on, but there is no key"),
        ({"cache": {"allow_pickle": True}}, "'allow_pickle' needs encryption"),
        ({"pipeline": {"redis_url": "redis+sentinel://h"}}, "pipeline setting 'redis_url'.*name of the master"),
        ({"pipeline": {"redis_url": "redis://h/shop"}}, "number of a database"),
        ({"security": {"rate_limit": "often"}}, "'often' is no rate"),
        ({"security": {"trusted_proxies": "nonsense"}}, "has no network"),
    ],
)
def test_a_setting_that_no_call_could_use_is_refused_by_configure(parts: dict[str, Any], says: str) -> None:
    """Without a server asked; what was configured before goes on."""
    before = smw.configure("testing")
    try:
        with pytest.raises(ConfigError, match=says):
            smw.configure("production", service="shop", **parts)
        assert current() is before
        assert before.is_open
    finally:
        smw.shutdown()


@pytest.mark.parametrize(
    ("parts", "package", "extra"),
    [
        ({"cache": {"l2_url": "redis://h"}}, "redis", "redis"),
        ({"cache": {"l3_servers": "h:1"}}, "aiomcache", "memcached"),
        ({"cache": {"l3_servers": "h:1"}}, "pymemcache", "memcached"),
        ({"cache": {"encryption_keys": KEYS}}, "cryptography", "crypto"),
        ({"pipeline": {"redis_url": "redis://h"}}, "redis", "redis"),
        ({"pipeline": {"kafka_brokers": "h:1"}}, "kafka", "kafka"),
        ({"security": {"signing_key": "audit.key"}}, "cryptography", "crypto"),
    ],
)
def test_a_setting_whose_extra_is_not_installed_is_refused_by_configure(
    parts: dict[str, Any], package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names what to install."""
    found = importlib.util.find_spec
    monkeypatch.setattr("smw.starting.find_spec", lambda name: None if name == package else found(name))
    with pytest.raises(MissingExtra, match=rf'smw\[{extra}\]"'):
        smw.configure("testing", **parts)


def test_looking_whether_a_part_can_start_imports_no_client() -> None:
    """Streams, encryption and signatures are configured without the packages behind them."""
    script = (
        "import sys, smw; smw.configure('testing', pipeline={'redis_url': 'redis://h', 'kafka_brokers': 'h:1'},"
        " cache={'encryption_keys': {'one': b'k' * 32}}, security={'signing_key': 'audit.key'});"
        "print([name for name in ('redis', 'kafka', 'cryptography', 'aiomcache') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
