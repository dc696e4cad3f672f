"""What a Redis URL may look like, and what it leads to."""

from __future__ import annotations

import pytest

from smw import _redis
from smw.cache import Cache
from smw.errors import ConfigError
from smw.pipeline import Pipeline

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
        ("redis+sentinel://h1:x/main", "'h1:x' is not host:port"),
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
