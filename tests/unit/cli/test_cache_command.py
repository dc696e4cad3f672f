"""What `smw cache` says without servers: its errors and its tables; with servers see the integration tests."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

MODULE = """
from smw import cache

@cache.cached(ttl=60)
def price(sku: str) -> int:
    return len(sku)

def plain(sku: str) -> int:
    return 1

class Shop:
    @cache.cached(ttl=60)
    def method(self, sku: str) -> int:
        return 1
"""


@pytest.fixture
def smw(tmp_path):
    """Return a function that runs ``smw cache`` in a folder with a module, in an environment of its own."""
    (tmp_path / "shop.py").write_text(MODULE)

    def run(*args: str, code: int = 0, text: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "smw", "cache", *args], capture_output=True, text=True, check=False, cwd=tmp_path,
            input=text, env={"SMW_PROFILE": "testing", "SMW_SERVICE": "shop", "PYTHONPATH": ":".join(sys.path), **env},
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["why", "no_module_here:f"], "K124"),
        (["why", "shop:none", "1"], "K124"),
        (["why", "shop:plain", "1"], "C112"),
        (["why", "shop:price", "{not json"], "K125"),
        (["why", "shop:Shop.method", "[1, 2]"], "C113"),
        (["why", "no key"], "C110"),
        (["invalidate"], "K125"),
        (["invalidate", "--tag", "a", "--yes"], "K125"),
        (["warm", "shop:price", "absent.jsonl"], "K125"),
        (["warm", "shop:plain", "-"], "C112"),
        (["stats", "--app", "no_module_here"], "K124"),
    ],
)
def test_what_cannot_be_done_exits_2_with_a_message(smw, args, code):
    """Wrong names, arguments and files end without a traceback, and the error names its code."""
    assert f"[SMW-{code}]" in smw(*args, code=2).stderr


def test_without_servers_there_is_only_memory(smw):
    """A cache without servers shows the memory that each process has, and holds no keys."""
    assert smw("stats").stdout.splitlines()[-1].startswith("l1     memory")
    assert json.loads(smw("keys", "--json").stdout)["keys"] == []
    told = smw("why", "shop:price", '["a"]').stdout
    assert "l1  memory: holds nothing" in told
    assert "the function would be called" in told


def test_a_server_within_the_process_is_warmed_and_gone(smw):
    """memory:// is a level like any other, and its contents end with the command."""
    url = {"CACHE_L2_URL": "memory://shop"}
    assert smw("warm", "shop:price", "-", "--json", text='"a"\n"b"\n', **url).stdout.count('"loaded": 2') == 1
    assert json.loads(smw("stats", "--json", **url).stdout)["servers"][0]["entries"] == 0


def test_narrow_and_help(smw):
    """The group lists its commands."""
    text = smw("--help").stdout
    assert all(name in text for name in ("stats", "keys", "get", "why", "invalidate", "warm"))
