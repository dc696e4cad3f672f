"""Each extra of the wheel brings what it is for, in an environment of its own; without it the error names it."""

from __future__ import annotations

import re
import zipfile
from email import message_from_bytes
from typing import NamedTuple

import pytest

from tests.arch.wheels import CONSTRAINTS, build, environment, find_uv, run

pytestmark = pytest.mark.house

PYTHONS = ("3.11", "3.12", "3.13")

CACHE = """
from smw.cache import Cache

part = Cache({settings})

@part.cached(ttl=60)
def square(x: int) -> int:
    return x * x

assert square(3) == 9  # nobody listens there, and the function's own answer comes all the same
part.close()
"""
KAFKA = """
from smw.errors import BackpressureError
from smw.pipeline import Pipeline

part = Pipeline(kafka_brokers=["127.0.0.1:1"], emit_timeout_s=0.2)
try:
    part.emit_sync("events", {"n": 1})
except BackpressureError as refused:
    print("refused:", refused.code)
part.close()
"""
CRYPTO = r"""
import base64, pathlib, tempfile
from smw.security import Security, verify

with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    raw = bytes.fromhex("302e020100300506032b657004220420") + bytes(range(32))
    lines = ["-----BEGIN PRIVATE KEY-----", base64.b64encode(raw).decode(), "-----END PRIVATE KEY-----"]
    (folder / "audit.key").write_text("\n".join(lines))
    part = Security(trail_dir=folder / "audit", signing_key=str(folder / "audit.key"))

    @part.audit_log("work")
    def work() -> None: ...

    work()
    part.close()
    (checkpoint,) = (folder / "audit").glob("*/checkpoint")
    assert verify(folder / "audit").status == "ok"
    assert "\u2014 " in checkpoint.read_text("utf-8"), "the checkpoint is not signed"
"""
FASTAPI = """
import asyncio
from fastapi import FastAPI
from smw.web.fastapi import install

async def ask(app):
    scope = {"type": "http", "method": "GET", "path": "/health", "raw_path": b"/health", "query_string": b"",
             "headers": [], "http_version": "1.1", "scheme": "http", "client": ("127.0.0.1", 1), "server": ("x", 80),
             "root_path": "", "asgi": {"version": "3.0"}}
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}
    sent = []
    async def send(message):
        sent.append(message)
    await app(scope, receive, send)
    return sent[0]["status"]

assert asyncio.run(ask(install(FastAPI()))) == 200
"""
FLASK = """
from flask import Flask
from smw.web.flask import install

assert install(Flask("app")).test_client().get("/health").status_code == 200
"""
OTEL = """
import logging
from smw.monitor import Monitor

logging.disable(logging.CRITICAL)  # nobody listens there, which the exporter would say
part = Monitor(jaeger_endpoint="http://127.0.0.1:1").open()
assert part.spans.tracer() is not None
part.close()
"""
BATCH = """
import pandas
from smw.pipeline import Pipeline

part = Pipeline()

@part.batch_transform("minutes")
def minutes(rows: list[dict]) -> list[dict]:
    return [{"minutes": row["seconds"] / 60} for row in rows]

made = part.run("minutes", pandas.DataFrame({"seconds": [60, 90]}).to_dict("records"))
assert made.rows == [{"minutes": 1.0}, {"minutes": 1.5}], made
part.close()
"""
CLI = """
import sys
from smw.__main__ import main

sys.argv = ["smw", "explain", "SMW-S102"]
sys.exit(main())
"""


class Extra(NamedTuple):
    """What an extra lets one do, and what is said where it is not installed."""

    snippet: str
    without: str


def asks(extra):
    """Return what the error of a missing extra says."""
    return f'pip install "smw[{extra}]"'


EXTRAS = {
    "redis": Extra(CACHE.format(settings='l2_url="redis://127.0.0.1:1"'), asks("redis")),
    "memcached": Extra(CACHE.format(settings='l3_servers=["127.0.0.1:1"]'), asks("memcached")),
    "kafka": Extra(KAFKA, asks("kafka")),
    "crypto": Extra(CRYPTO, asks("crypto")),
    "otel": Extra(OTEL, asks("otel")),
    "cli": Extra(CLI, asks("cli")),
    # The user's own import is the first to miss these: smw never imports a framework, nor pandas.
    "fastapi": Extra(FASTAPI, "No module named 'fastapi'"),
    "flask": Extra(FLASK, "No module named 'flask'"),
    "batch": Extra(BATCH, "No module named 'pandas'"),
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """One wheel for all environments."""
    return build(tmp_path_factory.mktemp("wheel") / "w")


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory):
    """An environment without any extra."""
    return environment(tmp_path_factory.mktemp("bare") / "venv", wheel)


@pytest.fixture(scope="module")
def whole(wheel, tmp_path_factory):
    """An environment with the extra `all`."""
    return environment(tmp_path_factory.mktemp("all") / "venv", wheel, "all")


def test_every_extra_is_tried(wheel):
    """The table of snippets has every extra that the wheel offers, besides `all`."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    assert set(metadata.get_all("Provides-Extra")) == {*EXTRAS, "all"}


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_alone_is_enough(wheel, tmp_path, extra):
    """With the extra and nothing else its snippet runs, without a warning."""
    python = environment(tmp_path / "venv", wheel, extra)
    run(python, "-W", "error", "-c", EXTRAS[extra].snippet, cwd=tmp_path)


@pytest.mark.parametrize("extra", EXTRAS)
def test_without_its_extra_the_error_names_it(bare, tmp_path, extra):
    """Without the extra the same snippet fails, and what it says is what to install."""
    said = run(bare, "-c", EXTRAS[extra].snippet, cwd=tmp_path, fails=True)
    assert EXTRAS[extra].without in said
    if extra not in ("cli", "fastapi", "flask", "batch"):  # those are told before an error of smw can be raised
        assert re.search(r"^smw\.errors\.MissingExtra: \[SMW-S102\]", said, re.MULTILINE), said


@pytest.mark.parametrize("extra", EXTRAS)
def test_all_is_the_sum_of_them(whole, tmp_path, extra):
    """With `all` every snippet runs."""
    run(whole, "-W", "error", "-c", EXTRAS[extra].snippet, cwd=tmp_path)


@pytest.mark.parametrize("python", PYTHONS)
def test_all_resolves_on_every_python(wheel, tmp_path, python):
    """One set of versions for `all` exists on every supported Python, from wheels alone."""
    uv = find_uv()
    if not uv:
        # pip knows the markers of its own interpreter alone.
        pytest.skip("only uv resolves for a Python that is not running")
    wanted = tmp_path / "wanted.txt"
    wanted.write_text(f"smw[all] @ {wheel.as_uri()}\n")
    command = (uv, "pip", "compile", "-q", "--no-header", "--no-annotate", "--only-binary", ":all:")
    found = run(*command, "--python-version", python, "-c", CONSTRAINTS, wanted)
    names = {line.partition("==")[0].partition(" @")[0] for line in found.splitlines()}
    assert {"smw", "redis", "aiomcache", "kafka-python", "cryptography", "fastapi", "flask", "pandas", "typer"} <= names
