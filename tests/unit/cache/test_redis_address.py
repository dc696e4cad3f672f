"""What a Redis URL may look like, and what it leads to."""

from __future__ import annotations

import inspect
import re

import pytest
import redis
from redis.connection import URL_QUERY_ARGUMENT_PARSERS

from smw import _redis
from smw.cache import Cache
from smw.errors import ConfigError
from smw.pipeline import Pipeline
from smw.settings import CacheSettings, PipelineSettings, build
from smw.url_options import OPTIONS

SENTINELS = "redis+sentinel://u:p%40@h1:1,[::1]:2,h3/main/3?ssl_check_hostname=false&sentinel_password=x%40"


def test_sentinels_and_master_have_logins_of_their_own():
    """Name, password, database and options go to the master; the Sentinels get theirs and what concerns TLS."""
    address = _redis.parse(SENTINELS)
    assert (address.kind, address.service) == ("sentinel", "main")
    assert address.hosts == (("h1", 1), ("::1", 2), ("h3", 26379))
    assert address.server("m", 6) == "redis://u:p%40@m:6/3?ssl_check_hostname=false"
    assert address.sentinel("::1", 2) == "redis://:x%40@[::1]:2?ssl_check_hostname=false"


def test_a_cluster_is_named_by_some_of_its_nodes():
    """The nodes share one login; the default port is that of Redis; TLS is the scheme's first part."""
    address = _redis.parse("rediss+cluster://:p@a,b:7/0?shards=24")
    assert (address.kind, address.hosts, address.shards) == ("cluster", (("a", 6379), ("b", 7)), 24)
    assert address.server("c", 8) == "rediss://:p@c:8/0"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis+sentinel://h1,h2", "name of the master is missing: redis+sentinel://"),
        ("redis+sentinel://h1:x/main", "'h1:***' is not host:port"),
        ("redis+sentinel://h1:70000/main", "'h1:70000' is not host:port"),
        ("redis+sentinel://h1,,h2/main", "'' is not host:port"),
        ("redis+cluster://h/3", "a cluster has no database 3"),
        ("redis+cluster://h?shards=0", "shards=0 is no number from 1 to 256"),
        ("rediss://h?ssl_ca_certs=/nowhere.pem", "ssl_ca_certs names /nowhere.pem, which is no file"),
        ("redis+ring://h", "Did you mean"),
    ],
)
def test_a_refused_url_says_how_it_should_look(url, says):
    """Each mistake is refused when the cache is made, with the right form and without the password."""
    secret = url.replace("://", "://user:hidden@", 1)
    with pytest.raises(ConfigError) as caught:
        Cache(l2_url=secret, namespace="t")
    assert says in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_streams_refuse_a_cluster():
    """A stream needs one server, and the refusal names the schemes that lead to one."""
    with pytest.raises(ConfigError, match=r"redis\+sentinel://"):
        Pipeline(redis_url="redis+cluster://h")


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("cache", "redis://cache"),
        ("redis:6379", "redis://redis:6379"),
        ("cache.internal:6379/2", "redis://cache.internal:6379/2"),
        (":p%2Fw@cache_1:6379", "redis://:p%2Fw@cache_1:6379"),
        ("redis://u:p@w@cache:6379/", "redis://u:p@w@cache:6379/"),
        ("rediss://[fe80::1%25eth0]:6380/0?ssl_cert_reqs=none", "rediss://[fe80::1%25eth0]:6380/0?ssl_cert_reqs=none"),
        ("redis://cache?db=3&socket_timeout=0.1", "redis://cache?db=3&socket_timeout=0.1"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("unix://user:p@/run/redis.sock", "unix://user:p@/run/redis.sock"),
        ("redis+sentinel://h1,h2/main?sentinel_password=a@b", "redis+sentinel://h1,h2/main?sentinel_password=a@b"),
    ],
)
def test_a_url_that_is_one(given, url):
    """A host alone is a server; everything that leads to one is left as it is."""
    assert CacheSettings(l2_url=given).l2_host == url
    assert PipelineSettings(redis_url=given).redis_url == url


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis:/cache", "lacks the // behind redis:; write redis://host:6379/0"),
        ("rediss:cache:6379", "lacks the // behind rediss:; write rediss://host:6379/0"),
        ("unix:/run/redis.sock", "lacks the // behind unix:; write unix:///run/redis.sock"),
        ("unix://run/redis.sock", "three slashes"),
        ("unix://", "three slashes"),
        ("redis+sentinel:/h/main", "lacks the // behind redis+sentinel:; write redis+sentinel://host1"),
        ("", "is empty"),
        ("redis://", "names no host"),
        ("redis:///0", "names no host"),
        ("redis://:6379", "names no host"),
        ("redis://cache:", "not host:port"),
        ("redis://cache:0", "not host:port"),
        ("redis://cache:65536", "not host:port"),
        ("redis://cache:6379:1", "not host:port"),
        ("redis://redis://cache", "not host:port"),
        ("redis://[::1", "is no URL"),
        ("redis://cache/shop", "number of a database"),
        ("redis://cache/-1", "number of a database"),
        ("redis//cache", "number of a database"),
        ("redis://a,b:6379", "names several servers; write redis+sentinel://"),
        ("redis://cache:6379\n", "a blank or a line's end"),
        (" redis://cache", "unknown scheme ' redis'"),
        ("redis://cache?db", "an option without a value"),
        ("REDIS://cache", "Did you mean 'redis'?"),
    ],
)
def test_a_url_that_is_none_is_refused_with_the_form(url, says):
    """What would be read as another server, as another database, or as this machine, is refused where it is set."""
    for make in (lambda: Cache(l2_url=url), lambda: Pipeline(redis_url=url)):
        with pytest.raises(ConfigError) as caught:
            make()
        assert says in str(caught.value)


@pytest.mark.parametrize("letter", ["/", "?", "#", "[", "/?", "1#", "12/", "x=1?y="])
@pytest.mark.parametrize("form", ["redis://user:{}@cache", "redis://:{}@cache/0", "rediss+sentinel://u:{}@h1,h2/main"])
def test_a_password_that_is_not_escaped_is_never_shown(form, letter):
    """The message says how to write it, wherever the URL is given."""
    url = form.format(f"hid{letter}den")
    for make in (lambda: Cache(l2_url=url), lambda: Pipeline(redis_url=url), lambda: _redis.blocking(url, timeout_s=1)):
        with pytest.raises(ConfigError) as caught:
            make()
        assert "%2F" in str(caught.value)
        assert not re.search("hid|den", str(caught.value))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://cache?socket_timout=1", "unknown option 'socket_timout'. Did you mean 'socket_timeout'?"),
        ("rediss://cache?ssl_ca_cert=x", "unknown option 'ssl_ca_cert'. Did you mean 'ssl_ca_certs'?"),
        ("unix:///run/redis.sock?foo=1", "unknown option 'foo'"),
        ("redis+cluster://a,b?foo=1", "unknown option 'foo'"),
    ],
)
async def test_an_option_that_redis_py_does_not_take(url, says):
    """It would fail at each connection; it is refused where the URL is set, for both kinds of client."""
    for make in (lambda: Cache(l2_url=url, namespace="t"), lambda: _redis.awaiting(url, timeout_s=1)):
        with pytest.raises(ConfigError) as caught:
            make()
        assert says in str(caught.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://cache?decode_responses=true", "decode_responses, which it must not: smw needs bytes"),
        ("redis://cache?encoding=latin-1", "encoding, which it must not"),
        ("redis://cache?retry_on_error=x", "retry_on_error, which it must not"),
        ("redis://cache?shards=3", "shards, which is for redis+cluster:// alone"),
        ("redis+sentinel://h/m?shards=3", "shards, which is for redis+cluster:// alone"),
        ("redis://cache?sentinel_password=x", "sentinel_password, which is for redis+sentinel:// alone"),
        ("redis://cache?ssl_ca_certs=x", "ssl_ca_certs, which is for rediss:// alone"),
        ("redis://cache?db=two", "an option db that is no number"),
        ("redis://cache?socket_timeout=soon", "an option socket_timeout that is no number"),
        ("redis://cache?protocol=4", "neither 2 nor 3"),
        ("redis://cache?port=7", "unknown option 'port'"),
        ("redis+sentinel://h/m?socket_timout=1", "Did you mean 'socket_timeout'?; write redis+sentinel://host1"),
    ],
)
def test_an_option_that_breaks_or_does_nothing_is_refused_where_it_is_set(url, says):
    """No server has to be asked to see it: both parts refuse the URL in their settings."""
    for model, name in ((CacheSettings, "l2_url"), (PipelineSettings, "redis_url")):
        with pytest.raises(ConfigError) as caught:
            build(model, {name: url})
        assert says in str(caught.value)


def test_options_that_are_taken_are_those_of_redis_py():
    """Each option that a URL may have reaches the connections of redis-py, with the type that it wants."""
    known = {
        name
        for kind in (redis.SSLConnection, redis.BlockingConnectionPool)
        for base in kind.__mro__
        for name in inspect.signature(base.__init__).parameters
    }
    assert OPTIONS.keys() <= known | {"db"}
    numbers = {name: kind for name, kind in URL_QUERY_ARGUMENT_PARSERS.items() if kind in (int, float)}
    assert {name: OPTIONS[name] for name in numbers} == numbers


@pytest.mark.parametrize(
    "url",
    ["rediss://h?ssl_ca_certs=/nowhere.pem", "redis+sentinel://h", "redis+cluster://h/3", "redis+sentinel://h/m/x"],
)
def test_the_fix_shows_the_form_of_the_kind_of_url(url):
    """Whoever writes a Sentinel URL wrong is not told how one of a single server looks."""
    with pytest.raises(ConfigError) as caught:
        Cache(l2_url=url, namespace="t")
    assert caught.value.fix.startswith(url.partition("://")[0] + "://host")
    assert str(caught.value).count("SMW-S103") == 2  # with the line that says where to read more
