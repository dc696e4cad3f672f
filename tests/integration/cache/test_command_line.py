"""`smw cache` against a real Redis and a real memcached, as a person or a script calls it."""

from __future__ import annotations

import importlib
import json
import os
import sys
import uuid

import pytest
from typer.testing import CliRunner

import smw
from smw.cache.naming.key import Key
from smw.cli.app import app

RUNNER = CliRunner()
MODULE = """
import dataclasses
import smw
from smw import cache
from smw.cache import Cache

loads = []

@dataclasses.dataclass
class Money:
    amount: int

@cache.cached(ttl=60, tags=["price", "sku:{sku}"])
def price(sku: str) -> Money:
    loads.append(sku)
    if sku == "bad":
        raise LookupError(sku)
    return Money(len(sku))

@cache.cached(ttl=60)
async def stock(sku: str, *, place: str = "x") -> dict:
    loads.append((sku, place))
    return {"sku": sku, "place": place}

def plain(sku: str) -> int:
    return 1
"""


class Shop:
    """A module with cached functions, the environment that names its servers, and a process that has stored values."""

    def __init__(self, name, env) -> None:
        self.name = name
        self.env = env
        self.module = importlib.import_module(name)

    def smw(self, *args, code=0, text=None):
        """Run ``smw cache`` and return what it printed."""
        done = RUNNER.invoke(app, ["cache", *args], env=self.env, input=text)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, done.output
        return done.stdout

    def json(self, *args, code=0):
        return json.loads(self.smw(*args, "--json", code=code))


@pytest.fixture
def shop(redis_server, memcached_server, tmp_path, monkeypatch):
    name = f"shop_{uuid.uuid4().hex[:8]}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    env = {
        "SMW_PROFILE": "testing", "SMW_SERVICE": name, "CACHE_L2_URL": redis_server.url,
        "CACHE_L3_SERVERS": memcached_server.address, "CACHE_BUDGET_MS": "5000", "COLUMNS": "200",
    }  # fmt: skip
    for variable in [variable for variable in os.environ if variable.startswith(("SMW_", "CACHE_"))]:
        monkeypatch.delenv(variable)
    with smw.Runtime("testing", service=name, environ=env) as runtime:
        made = Shop(name, env)
        made.cache = runtime.cache
        yield made
    smw.shutdown()
    sys.modules.pop(name)


def fill(shop, *skus):
    """Store values as another process would have."""
    for sku in skus:
        shop.module.price(sku)
    return smw.cache.key_for(shop.module.price, skus[0]) if skus else None


def test_stats_show_every_server(shop):
    """Each server has a row with its figures; the memory of other processes is only described."""
    fill(shop, "a")
    text = shop.smw("stats")
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["level", "l1", "l2", "l3"]
    assert "each process has its own: at most 1000 entries, 64.0 MiB" in text
    rows = {row["level"]: row for row in shop.json("stats")["servers"]}
    assert rows["l2"]["state"] == rows["l3"]["state"] == "answers"
    assert rows["l2"]["entries"] >= 1
    assert rows["l3"]["entries"] >= 1
    assert "Redis 7" in rows["l2"]["note"] or "Redis" in rows["l2"]["note"]
    assert rows["l3"]["note"].startswith("memcached 1.")


def test_a_server_that_is_away_is_exit_1(shop):
    """Figures of the others are shown all the same."""
    shop.env["CACHE_L2_URL"] = "redis://127.0.0.1:1"
    rows = {row["level"]: row for row in shop.json("stats", code=1)["servers"]}
    assert rows["l2"]["state"] == "refused"
    assert rows["l3"]["state"] == "answers"
    assert shop.smw("keys", code=1) == ""


def test_keys_are_listed_up_to_a_limit(shop):
    """The values of the namespace are listed with age, life and size, counters and other services' keys are not."""
    key = fill(shop, "a", "bb", "ccc")
    rows = shop.json("keys")["keys"]
    assert len(rows) == 3
    assert {row["level"] for row in rows} == {"l2"}
    row = next(row for row in rows if row["key"] == str(key))
    assert 0 <= row["age_s"] < 5
    assert 55 < row["remaining_s"] <= 60
    assert (row["encoding"], row["size_bytes"] > 30) == ("msgpack", True)
    assert len(shop.json("keys", "--limit", "2")["keys"]) == 2
    assert str(key) in shop.smw("keys")
    shop.env["SMW_SERVICE"] = "another"
    assert shop.json("keys")["keys"] == []


def test_get_prints_the_value_of_a_function_or_a_key(shop):
    """Named by function the value has its class again; under a bare key it is shown by its fields."""
    key = fill(shop, "abc")
    assert f"{shop.name}:Money(amount=3)" in shop.smw("get", str(key))
    assert "Money(amount=3)" in shop.smw("get", f"{shop.name}:price", '["abc"]')
    assert shop.json("get", str(key))["value"] == f"{shop.name}:Money(amount=3)"
    assert shop.smw("get", f"{shop.name}:price", '{"sku": "none"}', code=1) == ""


def test_get_unpickles_nothing_that_is_not_sealed_and_allowed(shop):
    """A planted pickle is not read; with a key and the setting, only what was sealed with that key is."""
    from smw.cache.values.envelope import Envelope, Letter

    key = Key.of(shop.cache.prefix + "0" * 32, ())
    wall_ms = int(shop.cache.host.clock.wall() * 1000)
    blob = Envelope(compress_from=None, seal=None).close(
        Letter(2, b"cos\nsystem\n.", wall_ms, 60_000, 1, ()), key.encode()
    )
    store = shop.cache.engine.remote.servers[0].store
    store._client().run("SET", str(key), blob)
    assert shop.smw("get", str(key), code=1) == ""
    shop.env |= {"CACHE_ALLOW_PICKLE": "true", "CACHE_ENCRYPTION_KEYS": "k:" + "A" * 43 + "="}
    assert shop.smw("get", str(key), code=1) == ""
    assert shop.json("keys")["keys"][0]["encoding"] == ""


def test_why_tells_of_a_function_and_its_arguments(shop):
    """The story names function, tags and levels."""
    fill(shop, "a")
    told = shop.json("why", f"{shop.name}:price", "a".join('""'))
    assert (told["fn"], told["tags"], told["served_by"]) == (f"{shop.name}:price", ["price", "sku:a"], "l2")
    assert "tags price, sku:a" in shop.smw("why", f"{shop.name}:price", '["a"]')
    assert "the function would be called" in shop.smw("why", f"{shop.name}:price", '["b"]')


@pytest.mark.parametrize("how", ["tag", "key", "function", "everything"])
def test_invalidate_drops_for_every_process(shop, how):
    """What is dropped here is loaded again there, and the servers are named that have confirmed it."""
    key = fill(shop, "a", "b")
    shop.module.loads.clear()
    words = {
        "tag": ["--tag", "sku:a"],
        "key": ["--key", str(key)],
        "function": ["--function", f"{shop.name}:price", "--args", '["a"]'],
        "everything": ["--everything"],
    }
    told = shop.json("invalidate", *words[how], "--yes")
    assert told["pending"] == []
    assert {name.split()[0] for name in told["confirmed"]} == {"redis", "memcached"}
    shop.cache.engine.memory.clear()
    fill(shop, "a", "b")
    assert shop.module.loads == (["a", "b"] if how == "everything" else ["a"])


def test_a_value_that_was_dropped_is_told_from_one_that_stands(shop):
    """`get` prints what lies on the server and that no call takes it; a bare key never claims that it answers."""
    key = fill(shop, "a")
    assert shop.json("get", f"{shop.name}:price", '["a"]')["stands"] is True
    assert shop.json("why", str(key))["served_by"] is None
    assert "ask by module:function" in shop.smw("why", str(key))
    shop.smw("invalidate", "--tag", "sku:a", "--yes")
    told = shop.json("get", f"{shop.name}:price", '["a"]')
    assert (told["stands"], told["says"]) == (False, "holds an old value; dropped since it was loaded: tag sku:a")
    assert shop.json("get", str(key))["stands"] is None
    assert shop.json("why", str(key))["served_by"] is None


def test_invalidate_asks_first(shop):
    """Without --yes a person is asked, and whoever declines has dropped nothing."""
    key = fill(shop, "a")
    assert "confirmed" not in shop.smw("invalidate", "--tag", "price", code=2, text="n\n")
    assert "confirmed" not in shop.smw("invalidate", "--tag", "price", code=2, text="")
    assert shop.json("why", f"{shop.name}:price", '["a"]')["served_by"] == "l2"
    assert "confirmed: redis" in shop.smw("invalidate", "--tag", "price", text="y\n")
    assert shop.json("why", f"{shop.name}:price", '["a"]')["served_by"] is None
    assert key.startswith("smw:")


def test_a_drop_that_nobody_confirms_is_exit_1(shop):
    """A server that is away leaves the drop pending, and says so."""
    shop.env["CACHE_L2_URL"] = "redis://127.0.0.1:1"
    told = shop.json("invalidate", "--tag", "price", "--yes", code=1)
    assert told["pending"] == ["redis"]


def test_warm_calls_a_function_for_each_line(shop, tmp_path):
    """Lists, objects and single values are arguments; what is there is not loaded again, what raises is exit 1."""
    fill(shop, "held")
    shop.module.loads.clear()
    lines = tmp_path / "calls.jsonl"
    lines.write_text('["held"]\n\n{"sku": "a"}\n"b"\n')
    assert shop.smw("warm", f"{shop.name}:price", str(lines)) == "loaded 2, hit 1, failed 0\n"
    assert sorted(shop.module.loads) == ["a", "b"]
    assert shop.smw("warm", f"{shop.name}:price", "-", text='"bad"\n"c"\n', code=1) == "loaded 1, hit 0, failed 1\n"
    assert (
        shop.smw("warm", f"{shop.name}:stock", "-", text='{"sku": "a", "place": "y"}\n')
        == "loaded 1, hit 0, failed 0\n"
    )
    assert shop.json("get", f"{shop.name}:stock", '{"sku": "a", "place": "y"}')["value"] == {"sku": "a", "place": "y"}


def test_who_cannot_list_is_named(shop):
    """Beside what Redis lists stands which server was left out; where none can list, it is an error."""
    fill(shop, "a")
    told = shop.json("keys")
    assert (len(told["keys"]), len(told["unlisted"])) == (1, 1)
    del shop.env["CACHE_L2_URL"]
    with pytest.raises(smw.errors.ConfigError, match="no server of this cache can list what it holds: memcached"):
        shop.smw("keys")


def test_the_application_brings_its_own_settings(shop, tmp_path, redis_server, monkeypatch):
    """With --app the module configures smw, or a cache in it is named; the environment needs to say nothing."""
    name = f"app_{uuid.uuid4().hex[:8]}"
    url = redis_server.url
    (tmp_path / f"{name}.py").write_text(
        "import smw\nfrom smw.cache import Cache\n"
        f"smw.configure('testing', service='{shop.name}', cache={{'l2_url': '{url}'}})\n"
        f"own = Cache(l2_url='{url}', namespace='{name}')\n"
    )
    fill(shop, "a")
    shop.env = {"COLUMNS": "200"}
    assert len(shop.json("keys", "--app", name)["keys"]) == 1
    assert shop.json("stats", "--app", f"{name}:own")["prefix"] == f"smw:{name}:"
    assert shop.json("keys", "--app", f"{name}:own")["keys"] == []


def test_a_cluster_is_looked_into_like_one_server(shop, redis_cluster):
    """Keys, values, stories and drops are those of all parts of a cluster."""
    shop.env["CACHE_L2_URL"] = redis_cluster.url
    with smw.Runtime("testing", service=shop.name, environ=shop.env):
        fill(shop, *"abcdefgh")
        key = smw.cache.key_for(shop.module.price, "a")
    assert len(shop.json("keys")["keys"]) == 8
    servers = shop.json("stats")["servers"]
    assert {row["state"] for row in servers} == {"answers"}
    nodes = [row for row in servers if row["level"] == "l2"]
    shards = [row["note"].partition(";")[0].removeprefix("shards ").split(", ") for row in nodes]
    assert sorted(int(number) for some in shards for number in some) == list(range(12))
    assert len({row["server"] for row in nodes}) == len(nodes) < 12
    assert shop.json("get", str(key))["value"] == f"{shop.name}:Money(amount=1)"
    assert shop.json("why", f"{shop.name}:price", '["a"]')["served_by"] == "l2"
    assert shop.json("invalidate", "--tag", "sku:a", "--yes")["pending"] == []
    assert shop.json("why", f"{shop.name}:price", '["a"]')["served_by"] is None
    assert shop.json("why", f"{shop.name}:price", '["b"]')["served_by"] == "l2"
