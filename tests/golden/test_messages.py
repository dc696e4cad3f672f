"""The first mistakes of a user, one golden file each: what is printed for it, word by word.

``SMW_UPDATE_SNAPSHOTS=1`` writes the files anew; a change of them shows in review.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from pathlib import Path

import flask
import pytest
import redis
from fastapi import APIRouter, FastAPI
from typer.testing import CliRunner

import smw
from smw import cached, invalidate, require_compliance, track_business_metric
from smw.cache import Cache, key_for
from smw.cli.app import app
from smw.errors import SmwError
from smw.web import MonitoringMiddleware, create_cache_middleware
from smw.web.fastapi import install as fastapi_install
from smw.web.flask import install as flask_install
from tests.contract.worlds import environ_of
from tests.services.locate import option
from tests.services.server import free_port
from tests.unit.web.driving import scope_of

FOLDER = Path(__file__).parent
SECRET = "hunter2-secret"
CLEAN = {"SMW_PROFILE": "testing", "NO_COLOR": "1"}


def golden(name, text):
    """Compare with the golden file, or write it; whatever it is, no secret and no long value is in it."""
    assert SECRET not in text
    assert [line for line in text.splitlines() if line.startswith("  seen:") and len(line) > 9 + 80] == []
    path = FOLDER / f"{name}.txt"
    if option("SMW_UPDATE_SNAPSHOTS"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


def message(make):
    """Return what is printed for the error that `make` raises, which always says how to mend it."""
    with pytest.raises(SmwError) as caught:
        make()
    assert caught.value.fix
    return f"{type(caught.value).__name__}: {caught.value}\n"


def doctor(environ, *names):
    """Return the findings of those names, one line each, without what differs from run to run."""
    result = CliRunner().invoke(app, ["doctor", "--json"], env=CLEAN | environ)
    found = [row for row in json.loads(result.stdout)["checks"] if row["name"].startswith(names)]
    lines = [
        f"{row['name']}  {row['verdict']}  {row['seen']}" + f"  fix: {row['fix']}" * bool(row["fix"]) for row in found
    ]
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", "\n".join(lines))
    return re.sub(r"[\d.]+ ms", "N ms", re.sub(r"Redis \d[\d.]*", "Redis VERSION", text)) + "\n"


def plain(user_id: str) -> str:
    """A function to decorate."""
    return user_id


def items():
    """A generator function to decorate."""
    yield 1


def test_01_an_extra_is_missing(monkeypatch):
    """The message names the package and the command that installs it."""
    monkeypatch.setitem(sys.modules, "redis", None)
    golden("01-missing-extra", message(lambda: Cache(l2_url=f"redis://:{SECRET}@cache:6379/0")))


def test_02_a_scheme_is_misspelled():
    """The known schemes are listed and the nearest one is offered; the password stays out."""
    golden("02-unknown-scheme", message(lambda: Cache(l2_url=f"reddis://:{SECRET}@cache:6379/0")))


def test_03_an_option_is_misspelled():
    """The nearest option is offered and all are listed, for settings and for what the functions themselves take."""
    with pytest.raises(TypeError, match="sizee"):
        cached(ttl=60, sizee=3)
    mistakes = (
        lambda: smw.configure(cache={"l1_sizee": 3}),
        lambda: smw.configure(cach={"l1_size": 3}),
        lambda: invalidate(tag=["user"]),
    )
    golden("03-unknown-option", "".join(map(message, mistakes)))


def test_04_a_variable_is_misspelled(caplog):
    """A warning when the runtime opens, an error of `config check` and `doctor`, each with the nearest name."""
    typo = {"CACHE_L2_ULR": f"redis://:{SECRET}@cache"}
    with caplog.at_level(logging.WARNING, "smw"):
        smw.Runtime(environ=typo).open().close()
    checked = CliRunner().invoke(app, ["config", "check"], env=CLEAN | typo)
    assert checked.exit_code == 1
    golden("04-unknown-variable", f"{caplog.messages[0]}\n{checked.stdout}{doctor(typo, 'settings.unknown')}")


async def test_05_the_other_colour_works():
    """One decorator serves functions and coroutine functions; the second call of each comes from the cache."""
    calls = []
    cache = Cache()

    @cache.cached(ttl=60)
    def sync(x: int) -> int:
        calls.append(("sync", x))
        return x

    @cache.cached(ttl=60)
    async def coroutine(x: int) -> int:
        calls.append(("async", x))
        return x

    results = [sync(1), sync(1), await coroutine(1), await coroutine(1)]
    golden("05-other-colour", f"results {results}\ncalls   {calls}\n")


def test_06_the_parentheses_are_missing():
    """The message shows the line as it should be."""

    def decorate() -> None:
        @cached
        def playlist(number: int) -> int:
            return number

    golden("06-no-parentheses", message(decorate) + message(lambda: invalidate(plain)))


def test_07_the_time_to_live_is_no_time():
    """A text, a negative number, True and not-a-number are refused with the value and the accepted forms."""
    given = ["60", -5, True, float("nan"), "x" * 500]
    golden("07-ttl", "".join(message(lambda ttl=ttl: cached(ttl=ttl)) for ttl in given))


def test_08_the_order_is_unsafe():
    """The message says what would go wrong and gives the corrected stack."""
    golden("08-unsafe-order", message(lambda: cached(ttl=60)(require_compliance(["GDPR"])(plain))))


def test_09_a_generator_is_cached():
    """The message says why it cannot be, and what can."""
    golden("09-generator", message(lambda: cached(ttl=60)(items)))


def test_10_an_argument_is_no_key(caplog):
    """The function runs uncached with one warning; key_for raises; both name argument, type and ways out."""

    @cached(ttl=60)
    def read(name: str, source: object) -> str:
        return name

    with smw.testing.isolated(), caplog.at_level(logging.WARNING, "smw"):
        source = object()
        assert [read("a", source), read("a", source)] == ["a", "a"]
        raised = message(lambda: key_for(read, "a", source))
    assert len(caplog.messages) == 1
    golden("10-no-key", (raised + caplog.messages[0] + "\n").replace(read.__module__, "tests.golden"))


def test_11_encryption_has_no_key():
    """Production names the variable and the command that makes a key; no key is invented."""
    with smw.Runtime("production", cache={"encryption": True}, environ={}) as runtime:
        golden("11-no-encryption-key", message(lambda: runtime.cache))


@pytest.mark.service("redis")
def test_12_a_password_or_port_is_wrong(service_factory):
    """Cause and setting stand in one line; the application serves on, uncached."""
    server = service_factory("redis")
    with redis.Redis(port=server.port) as client:
        client.config_set("requirepass", "right")
    urls = {
        "a wrong password": f"redis://:{SECRET}@127.0.0.1:{server.port}",
        "no password": server.url,
        "a wrong port": f"redis://:{SECRET}@127.0.0.1:{free_port()}",
    }
    steps = ("cache.l2.connect", "cache.l2.auth", "cache.l2.ping")
    told = [f"{what}\n{doctor({'CACHE_L2_URL': url}, *steps)}" for what, url in urls.items()]
    for url in urls.values():
        with smw.Runtime(cache={"l2_url": url, "namespace": "golden"}, environ={}) as runtime:
            assert runtime.cache.cached(ttl=60)(plain)("u1") == "u1"
    golden("12-wrong-password-or-port", "".join(told))


def test_13_two_applications_have_one_metric():
    """Within a runtime they share it, two runtimes keep it apart; nothing collides."""
    counted = [track_business_metric("orders", labels={"app": name})(lambda: None) for name in ("one", "two")]
    texts = []
    for _ in range(2):
        with smw.testing.isolated():
            for each in counted:
                each()
            lines = smw.monitor.exposition()[1].decode().splitlines()
            texts.append("".join(f"{line}\n" for line in lines if "orders" in line and "_created" not in line))
    assert texts[0] == texts[1]
    golden("13-one-metric", texts[0])


def test_14_the_adapter_is_for_other_applications():
    """Whatever stands where something else belongs, the message says what was given and the line that fits."""
    shop, api = flask.Flask("shop"), FastAPI()
    environ, scope = environ_of("GET", "/"), scope_of("GET", "/")
    mistakes = {
        "install of FastAPI on Flask": lambda: fastapi_install(shop),
        "install of FastAPI on Flask's wsgi_app": lambda: fastapi_install(shop.wsgi_app),
        "install of FastAPI on a class": lambda: fastapi_install(FastAPI),
        "install of FastAPI on a router": lambda: fastapi_install(APIRouter()),
        "install of FastAPI on an application with a middleware": lambda: fastapi_install(MonitoringMiddleware(api)),
        "install of Flask on FastAPI": lambda: flask_install(api),
        "install of Flask on Flask's wsgi_app": lambda: flask_install(shop.wsgi_app),
        "install of Flask on another function": lambda: flask_install(plain),
        "a factory on FastAPI": lambda: create_cache_middleware(api),
        "a factory on Flask": lambda: create_cache_middleware(shop),
        "a middleware on a class": lambda: MonitoringMiddleware(FastAPI),
        "an instance in add_middleware": lambda: MonitoringMiddleware(api)(api),
        "a class in wsgi_app": lambda: MonitoringMiddleware(environ, plain),
        "FastAPI under a WSGI server": lambda: MonitoringMiddleware(api)(environ, plain),
        "Flask under an ASGI server": lambda: MonitoringMiddleware(shop)(scope, plain, plain),
    }
    golden("14-wrong-adapter", "\n".join(f"# {name}\n{message(make)}" for name, make in mistakes.items()))


def test_15_workers_do_not_share_their_metrics():
    """`doctor` warns, with the setting that makes them share."""
    golden("15-several-workers", doctor({"WEB_CONCURRENCY": "4"}, "process.workers"))


def test_16_a_framework_is_misspelled():
    """The nearest framework is offered and all are listed."""
    golden("16-unknown-framework", message(lambda: require_compliance(["GDPA"])))


def test_every_row_has_its_file():
    """There is a file for each of the sixteen rows and none too many."""
    numbers = sorted(int(path.name[:2]) for path in FOLDER.glob("*.txt"))
    assert numbers == list(range(1, 17))
