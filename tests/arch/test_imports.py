"""Importing smw stays cheap, and every client is known to the one module named after it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.arch.source import ROOT, imports, modules

# client -> words, one of which occurs in the dotted name of every module that imports it
CLIENTS = {
    "aiomcache": {"memcached"},
    "crc32c": {"kafka"},
    "cryptography": {"crypto", "cryptography", "seal"},
    "fastapi": {"fastapi"},
    "flask": {"flask"},
    "kafka": {"kafka"},
    "opentelemetry": {"otel"},
    "pandas": {"pandas"},
    "prometheus_client": {"prometheus"},
    "psutil": {"process", "workers"},
    "pymemcache": {"memcached"},
    "redis": {"redis", "_redis"},
    "rich": {"cli"},
    "sqlalchemy": {"sqlalchemy"},
    "starlette": {"fastapi", "starlette"},
    "typer": {"cli"},
    "wrapt": {"_kernel"},
}
HEAVY = sorted({*CLIENTS, "cachetools", "msgpack", "numpy", "pydantic", "pydantic_settings"})
EIGHT = """
from smw import audit_log, batch_transform, cached, invalidate, require_compliance, stream_process, trace
from smw import cache, monitor, pipeline, security, track_business_metric
"""
DECORATED = """
@audit_log("read")
@require_compliance(["GDPR"])
@trace("a")
@track_business_metric("b")
@cached(ttl=60, tags=["t:{x}"])
def f(x: int) -> int:
    return x

@stream_process("events")
async def g(event: dict) -> None: ...

@batch_transform("rows")
def h(row: dict) -> dict:
    return row

@invalidate(tags=["t"])
def i() -> None: ...
"""


def loaded_by(code):
    """Return which of the heavy packages a fresh interpreter has loaded after running some code."""
    probe = f"{code}\nimport sys, json\nprint(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_import_smw_loads_nothing_heavy():
    """`import smw` loads neither wrapt nor pydantic nor any client."""
    assert loaded_by("import smw") == []


def test_taking_the_decorators_loads_nothing_heavy():
    """The eight decorators and their packages can be imported without any third-party package."""
    assert loaded_by(EIGHT) == []


def test_decorating_loads_at_most_wrapt():
    """Decorating functions loads wrapt at most: settings and clients wait for the first call."""
    assert loaded_by(EIGHT + DECORATED) in ([], ["wrapt"])


def named_after(module):
    """Return the words in a module's dotted name: `smw/cache/stores/redis_lines.py` is named after redis."""
    return {*module.words, *(part for word in module.words for part in word.split("_"))}


@pytest.mark.parametrize("client", sorted(CLIENTS))
def test_a_client_is_imported_only_where_it_is_named(client):
    """A third-party client is imported only by a module named after it."""
    bad = [
        f"{module.name}:{line}"
        for module in modules()
        for line, name in imports(module)
        if name.partition(".")[0] == client and not CLIENTS[client] & named_after(module)
    ]
    assert bad == []
