"""What is secret in settings is never shown, whatever is wrong with it."""

from __future__ import annotations

import base64
import json
import logging
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from smw import Runtime
from smw.cli.app import app
from smw.configuration import resolve
from smw.doctor import examine_environment
from smw.environment import variables
from smw.errors import ConfigError, SmwError
from smw.settings import PARTS, build

if TYPE_CHECKING:
    from smw.environment import Variable

HIDDEN = "hidCRETsixteenle"  # base64 and long enough for every setting
RING = base64.b64encode(HIDDEN.encode() * 2).decode()
KEYS = [
    RING, f"k={RING}", f"one:{RING[:-4]}", f"one:{RING[:-1]}", f"one:{RING}{RING}", f"{RING}:one", f"one:{HIDDEN}-_",
    f"one:ä{HIDDEN}", f":{RING}", f"one:{RING},{RING}", f"one:{RING},one:{RING}", f"one;{RING}", f'{{"one": "{RING}"}}',
    f"['one:{RING}']", f"one: {RING[:20]} {RING[20:]}", f'"one:{RING}"',
]  # fmt: skip
KEYS_IN_CODE: list[Any] = [
    [f"one:{RING}"], [HIDDEN], (RING,), {RING: "one"}, {"one": RING[:-4]}, {"one": [RING]}, {"one": HIDDEN.encode()},
    {"one": {"two": RING}}, {RING.encode(): RING}, {"": RING}, RING.encode(), {1: RING},
]  # fmt: skip
URLS = [
    "redis://:{}", "redis://user:{}/0", "redis://user:{}@", "user:{}@cache:nop", ":{}@cache/shop", "redis:/u:{}@cache",
    "u:{}://x@cache", "redis://h:{}/0", "redis://h:1/shop?password={}", "redis://h/0?password={}&db", "{}@://x",
    "redis://h/0?nope=1&password={}", "redis+sentinel://h:nop/m?sentinel_password={}", "redis+sentinel://u:{}/m",
    "redis+sentinel://u:{}@h", "redis+cluster://u:{}@h/3", "http://u:{}@h",
    "rediss://u:{}@h/0?ssl_ca_certs=none.pem", "rediss://h?ssl_password={}&ssl_certfile=none.pem", "x://u:{}@h?token={}",
    "redis://u:{}@a,b", "redis://[::1]:{}", "redis://h?decode_responses=1&password={}",
    "redis://h/0?password=a&{}", "redis://h/0?password=a&{}=1", "redis+sentinel://h/m?sentinel_password=a&{}=2&b",
]  # fmt: skip
_AS_TEXT = {
    "encryption_keys": KEYS,
    "digest_key": [HIDDEN[:15]],
    "signing_key": [
        f"-----BEGIN PRIVATE KEY-----\n{HIDDEN}\n-----END",
        f"-----BEGIN PRIVATE KEY-----{HIDDEN}",
        RING,
        RING.rstrip("="),
        f" {RING} ",
        base64.b64encode(HIDDEN.encode() * 3).decode(),
        f'{{"d": "{RING}"}}',
        base64.urlsafe_b64encode(b"\xff" * 17 + HIDDEN[:15].encode()).decode(),
    ],
}
_IN_CODE: dict[str, list[Any]] = {
    "encryption_keys": KEYS_IN_CODE,
    "digest_key": [[HIDDEN], {HIDDEN: 1}, HIDDEN.encode(), (HIDDEN,)],
}
_URLS = {"l2_host", "redis_url", "l3_servers", "kafka_brokers", "jaeger_endpoint", "otlp_endpoint"}


SETTINGS = [variable for variable in variables() if variable.field in _URLS | _AS_TEXT.keys()]
each_setting = pytest.mark.parametrize("variable", SETTINGS, ids=[variable.field for variable in SETTINGS])


def _as_text(variable: Variable) -> list[str]:
    if variable.field in _URLS:
        return [url.format(*[HIDDEN] * url.count("{}")) for url in URLS]
    return _AS_TEXT[variable.field]


def _leaks(text: str) -> bool:
    return any(part in text for part in (HIDDEN[:15], RING[:15], RING[16:30], "hidCRET"))


def test_every_secret_setting_is_among_the_cases() -> None:
    """A setting that is marked secret cannot be left out of the tests below."""
    secret = {variable.field for variable in variables() if variable.secret}
    assert secret <= _AS_TEXT.keys()
    assert {"encryption_keys", "digest_key"} <= secret
    assert not _URLS - {variable.field for variable in variables()}


def _built(variable: Variable, value: Any) -> str:
    return repr(build(PARTS[variable.part], {variable.field: value}))


def _resolved(variable: Variable, value: Any) -> str:
    settings = resolve(None, parts={variable.part: {variable.field: value}}, environ={})
    return f"{settings}{settings.rows()}"


def _opened(variable: Variable, value: Any) -> str:
    given: dict[str, Any] = {variable.part: {variable.field: value}}
    runtime = Runtime(environ={}, **given)
    try:
        return repr(runtime.part(variable.part))
    finally:
        runtime.close()


@pytest.mark.parametrize("key", _AS_TEXT["signing_key"] + [("ab" * 32), ("0f" * 48), "/" * 43 + "="])
def test_a_key_in_place_of_its_file_is_refused(key: str) -> None:
    """As PEM, JSON, base64 or hexadecimal: the report of all settings could not mask it."""
    with pytest.raises(ConfigError, match="names the file of a key"):
        build(PARTS["security"], {"signing_key": key})


@pytest.mark.parametrize(
    "path", ["key.pem", "/run/secrets/" + "signing/key" * 7, "keys/ed25519", "/etc/smw/" + "k" * 34, "C:\\keys\\a"]
)
def test_paths_of_keys_are_taken(path: str) -> None:
    """Also those that base64 could be written like."""
    assert build(PARTS["security"], {"signing_key": path}).signing_key == path


@each_setting
def test_no_error_shows_it(variable: Variable, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the error, nor what it came from, nor a log line, nor the repr of what was accepted has it."""
    caplog.set_level(logging.DEBUG, "smw")
    for value in (*_as_text(variable), *_IN_CODE.get(variable.field, ())):
        for make in (_built, _resolved, _opened):
            try:
                shown = make(variable, value)
            except (SmwError, ImportError) as error:
                shown = "".join([str(error), repr(error), *traceback.format_exception(error)])
            assert not _leaks(shown), value
    assert not _leaks(caplog.text)


@each_setting
def test_no_command_shows_it(variable: Variable, monkeypatch: pytest.MonkeyPatch) -> None:
    """`smw config` prints it in no form, nor in the traceback of a failure."""
    for value in _as_text(variable)[::6]:
        monkeypatch.setenv(variable.name, value)
        for command in (["config", "check"], ["config", "show", "--json"]):
            done = CliRunner().invoke(app, command)
            error = "" if done.exception is None else "".join(traceback.format_exception(done.exception))
            assert not _leaks(f"{done.output}{error}"), value


@pytest.mark.parametrize("value", [RING, f"k={RING}", f"one:{RING[:-4]}", f"{RING}:one"])
def test_the_doctor_shows_no_key(value: str) -> None:
    """Its report names the setting and the form, and has no key."""
    report = json.dumps(examine_environment(environ={"CACHE_ENCRYPTION_KEYS": value}).as_dict())
    assert "CACHE_ENCRYPTION_KEYS" in report
    assert "id:KEY" in report
    assert not _leaks(report)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (RING, "the key has no id: in front"),
        (f"k={RING}", "the key has no id: in front"),
        (f"one:{RING},{RING}", "key 2 of 2 has no id: in front"),
        (f"one:{RING},one:{RING}", "key 2 of 2 has the id of another"),
        (f"one:{base64.b64encode(b'k' * 16).decode()}", "the key has 16 bytes instead of 32"),
        (f"one:{RING[:-1]}-", "the key is not base64"),
        ({"one": b"k" * 31}, "the key has 31 bytes instead of 32"),
        ([f"one:{RING}"], "not as list"),
        ({"one": [RING]}, "of type list"),
    ],
)
def test_a_wrong_key_is_told_by_what_is_wrong_with_it(value: Any, says: str) -> None:
    """What is missing, or how many bytes there are, and the form to write."""
    with pytest.raises(SmwError) as caught:
        resolve(None, parts={"cache": {"encryption_keys": value}}, environ={})
    assert says in str(caught.value)
    assert "write id:KEY" in str(caught.value)
