"""What `smw cache` says without servers: its errors and its tables; with servers see the integration tests."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from smw.cache import key_for
from smw.cli.app import app
from smw.errors import SmwError
from smw.testing import isolated

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

class Shelf:
    def __init__(self, number):
        self.number = number

    def __cache_key__(self):
        return self.number

    @cache.cached(ttl=60)
    def first(self, sku: str) -> int:
        return 1

    @cache.cached(ttl=60, tags=["shelf:{self.number}", "sku:{sku}"])
    def tagged(self, sku: str) -> int:
        return 1

    @classmethod
    @cache.cached(ttl=60)
    def every(cls, sku: str) -> int:
        return 1

class Rack(Shelf):
    pass
"""


@pytest.fixture
def smw(tmp_path, monkeypatch):
    """Return a function that runs ``smw cache`` in a folder with a module, in an environment of its own."""
    (tmp_path / "shop.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for variable in [variable for variable in os.environ if variable.startswith(("SMW_", "CACHE_"))]:
        monkeypatch.delenv(variable)

    def run(*args: str, text: str | None = None, **env: str) -> str:
        env = {"SMW_PROFILE": "testing", "SMW_SERVICE": "shop", **env}
        done = CliRunner().invoke(app, ["cache", *args], input=text, env=env)
        if isinstance(done.exception, SmwError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    yield run
    sys.modules.pop("shop", None)


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["why", "no_module_here:f"], "K124"),
        (["why", "shop:none", "1"], "K124"),
        (["why", "shop:plain", "1"], "C112"),
        (["why", "shop:price", "{not json"], "K125"),
        (["why", "shop:price", "[" * 100_000], "K125"),
        (["warm", "shop:price", sys.executable], "K125"),
        (["why", "shop:Shop.method", "[1, 2]"], "C113"),
        (["why", "no key"], "C110"),
        (["why", "nonsense"], "C110"),
        (["get", f"smw:otherx:{'0' * 32}"], "C110"),
        (["invalidate", "--yes", "--key", "nonsense"], "C110"),
        (["invalidate", "--yes", "--key", f"smw:otherx:{'0' * 32}"], "C110"),
        (["invalidate"], "K125"),
        (["invalidate", "--tag", "a", "--yes"], "K125"),
        (["warm", "shop:price", "absent.jsonl"], "K125"),
        (["warm", "shop:plain", "-"], "C112"),
        (["warm", "shop:price", "-"], "K125"),
        (["keys"], "K125"),
        (["warm"], "K125"),
        (["warm", "shop:price"], "K125"),
        (["warm", "shop:price", "absent.jsonl", "--fleet"], "K125"),
        (["stats", "--app", "no_module_here"], "K124"),
    ],
)
def test_what_cannot_be_done_is_an_error_with_a_code(smw, args, code):
    """Wrong names, arguments and files are expected errors, and each names its code."""
    with pytest.raises(SmwError) as raised:
        smw(*args)
    assert raised.value.code == f"SMW-{code}"


@pytest.mark.parametrize("args", [["why", "nonsense"], ["get", "smw:x"], ["invalidate", "--yes", "--key", "nonsense"]])
def test_what_is_no_key_is_told_where_there_are_some(smw, args):
    """On a command line keys come from another command, not from a function of Python."""
    with pytest.raises(SmwError) as raised:
        smw(*args)
    assert "smw cache keys" in str(raised.value.fix)
    assert "key_for" not in str(raised.value)


@pytest.mark.parametrize(
    "command", [["get", "shop:price"], ["why", "shop:price"], ["invalidate", "--yes", "--function"]]
)
@pytest.mark.parametrize("given", ['{"nope": 1}', "[1, 2]", None])
def test_arguments_that_do_not_fit_are_told_with_the_signature(smw, command, given):
    """Whoever names too many, too few or other arguments reads which ones there are, and no traceback."""
    named = command[1:] if command[0] != "invalidate" else [*command[1:], "shop:price"]
    arguments = [] if given is None else ["--args", given] if command[0] == "invalidate" else [given]
    with pytest.raises(SmwError, match=r"do not fit shop:price\(sku: '?str'?\)") as raised:
        smw(command[0], *named, *arguments)
    assert raised.value.code == "SMW-K125"
    assert '{"sku": 1}' in raised.value.fix


def test_a_method_is_not_called_without_its_object(smw):
    """The object is named first, by its identity, and the command says so."""
    with pytest.raises(SmwError, match="__cache_key__") as raised:
        smw("why", "shop:Shelf.first", "[7]")
    assert raised.value.code == "SMW-K125"


@pytest.mark.parametrize(
    ("named", "given", "call"),
    [
        ("Shelf.first", '[7, "a"]', lambda shop: (shop.Shelf(7).first, "a")),
        ("Shelf.first", '[[7, 8], "a"]', lambda shop: (shop.Shelf((7, 8)).first, "a")),
        ("Rack.first", '[7, "a"]', lambda shop: (shop.Rack(7).first, "a")),
        ("Shelf.tagged", '[7, "a"]', lambda shop: (shop.Shelf(7).tagged, "a")),
        ("Shelf.every", '["a"]', lambda shop: (shop.Shelf.every, "a")),
        ("Rack.every", '["a"]', lambda shop: (shop.Rack.every, "a")),
    ],
)
def test_a_method_is_named_with_its_object(smw, named, given, call):
    """What an object says of itself stands first; a class is the one that is named, which tells subclasses apart."""
    said = smw("why", f"shop:{named}", given, "--json")
    with isolated(service="shop"):
        fn, *arguments = call(importlib.import_module("shop"))
        assert json.loads(said)["key"] == key_for(fn, *arguments)


def test_tags_that_read_the_object_are_not_told_of_its_identity(smw):
    """Key and function are known, the tags are not, and nothing claims that there are none."""
    told = json.loads(smw("why", "shop:Shelf.tagged", '[7, "a"]', "--json"))
    assert (told["fn"], told["tags"]) == ("shop:Shelf.tagged", None)
    assert "(shop:Shelf.tagged, tags not known here)" in smw("why", "shop:Shelf.tagged", '[7, "a"]')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("raise RuntimeError('secret')", "importing broken failed: RuntimeError"),
        ("import sys; sys.exit(3)", r"importing broken failed: it ends the process, sys.exit\(3\)"),
        ("import no_such_package.part", "importing broken failed: it needs no_such_package, which is not installed"),
        ("from os import nothing_there", "importing broken failed: ImportError"),
        ("def", "importing broken failed: SyntaxError"),
    ],
)
@pytest.mark.parametrize(
    "command", [["cache", "why", "broken:f"], ["cache", "stats", "--app", "broken"], ["explain", "broken:f"]]
)
def test_a_module_that_cannot_be_imported_is_told_in_lines_of_its_own(tmp_path, monkeypatch, command, text, says):
    """What it raises, that it ends the process, what it needs: never a traceback, and never what it says itself."""
    (tmp_path / "broken.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, SmwError)
    assert re.search(says, str(done.exception))
    assert "secret" not in str(done.exception)


def test_a_module_that_fails_ends_the_command_with_2(tmp_path):
    """In a shell it is the exit code of every command that was told something wrong."""
    (tmp_path / "broken.py").write_text("import sys; sys.exit(3)")
    command = [sys.executable, "-m", "smw", "cache", "stats", "--app", "broken"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("[SMW-K124] importing broken failed")


def test_a_line_that_is_no_json_is_told_by_its_number(smw):
    """Before any call is made, so that a file with a mistake in it loads nothing."""
    with pytest.raises(SmwError, match="-, line 3: arguments are given as JSON") as raised:
        smw("warm", "shop:price", "-", text='"a"\n\n{"sku": \n', CACHE_L2_URL="memory://")
    assert raised.value.seen == '{"sku": '


def test_without_servers_there_is_only_memory(smw):
    """A cache without servers shows the memory that each process has, and there is nothing that it could list."""
    assert smw("stats").splitlines()[-1].startswith("l1     memory")
    told = smw("why", "shop:price", '["a"]')
    assert "l1  memory: holds nothing" in told
    assert "the function would be called" in told


def test_a_server_within_the_process_is_a_level(smw):
    """memory:// is warmed and shown like any other level."""
    url = {"CACHE_L2_URL": "memory://shop"}
    assert smw("warm", "shop:price", "-", "--json", text='"a"\n"b"\n', **url).count('"loaded": 2') == 1
    assert json.loads(smw("stats", "--json", **url))["servers"][0]["state"] == "answers"


def test_what_a_process_would_start_with_is_shown(smw):
    """`warm --fleet` reads what the fleet asks for most, as a process does that starts, and calls nothing."""
    settings = {"l2_url": "memory://shop-fleet", "namespace": "shop", "warm": "fleet"}
    with isolated(cache=settings) as runtime:
        shop = importlib.import_module("shop")
        assert [shop.price("a"), shop.price("a")] == [1, 1]
        other = runtime.cache  # what is at a memory:// URL is there for as long as a cache of it is
        other.close()
        patience = {"CACHE_WARM": "fleet", "CACHE_WARM_TIMEOUT_S": "60"}
        env = {"CACHE_L2_URL": settings["l2_url"], **patience}
        told = json.loads(smw("warm", "--fleet", "--app", "shop", "--json", **env))
        assert (told["kept"], told["skipped"], told["ended"]) == (1, 0, "")
        assert smw("warm", "--fleet", "--app", "shop", **env).startswith("kept 1 (")
        assert smw("warm", "--fleet", "--app", "shop", **patience).startswith("kept 0 (0 B), skipped 0")
        assert other.backends() == {"memory shop-fleet": True}


def test_narrow_and_help(smw):
    """The group lists its commands."""
    text = smw("--help")
    assert all(name in text for name in ("stats", "keys", "get", "why", "invalidate", "warm"))
