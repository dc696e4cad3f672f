"""The cache over a real Redis that speaks TLS: who is trusted, who is not, and what is said then."""

from __future__ import annotations

import asyncio
import logging
import uuid

import pytest
import redis

from smw.cache import Cache
from smw.doctor import examine_environment
from smw.errors import ConfigError
from tests.integration.cache.test_servers import Source, called, loader
from tests.services.places import free_port
from tests.services.topologies import Authority, ask


@pytest.fixture
def cache_at():
    """Make caches of one namespace."""
    namespace, made = f"t{uuid.uuid4().hex}", []

    def make(url: str, **options) -> Cache:
        patient = {"budget_ms": 5000}  # however slow the machine is to shake hands
        made.append(Cache(namespace=namespace, l2_url=url, **{**patient, **options}))
        return made[-1]

    yield make
    for cache in made:
        cache.close()


async def test_processes_share_values_over_tls(redis_tls, cache_at, mode):
    """With the authority of the server's certificate in the URL, values are stored, found and dropped."""
    source, url = Source(), redis_tls.url(redis_tls.right)
    here, there = (loader(cache_at(url), source, mode, levels=("l2",)) for _ in range(2))
    assert await called(here(1)) == await called(there(1))
    assert source.reads == 1
    cache = cache_at(url)
    cache.drop_sync(tags=["user:1"])
    assert not any(level.debt for level in cache._engine.remote.servers)
    source.value = "new"
    assert (await called(there(1)))["value"] == "new"


@pytest.mark.parametrize("trusted", ["wrong", None])
async def test_a_certificate_of_nobody_we_trust_ends_it_at_once(redis_tls, cache_at, mode, trusted, caplog):
    """One refused handshake opens the breaker, the function answers, and one error names option and setting."""
    url = redis_tls.url(getattr(redis_tls, trusted) if trusted else None)
    cache, source = cache_at(url), Source()
    with caplog.at_level(logging.ERROR, "smw"):
        assert (await called(loader(cache, source, mode)(1)))["value"] == "old"
    assert cache.backends() == {"redis": False}
    (record,) = caplog.records
    assert "certificate" in record.getMessage()
    assert "ssl_ca_certs or the host in CACHE_L2_URL (cache setting l2_url)" in record.getMessage()
    assert cache._engine.remote.servers[0].errors["certificate"] == 1


async def test_no_word_goes_out_in_clear(service_factory, redis_tls, cache_at, mode):
    """A server without TLS is never spoken to without it: it sees no command, and the failure needs a person."""
    plain = service_factory("redis")
    before = ask(plain, "INFO", "commandstats")
    url = f"rediss://127.0.0.1:{plain.port}/0?ssl_ca_certs={redis_tls.right.ca}"
    cache = cache_at(url, budget_ms=200)
    load = loader(cache, Source(), mode)
    for number in range(20):  # each of the first five waits for an answer to its handshake
        await called(load(number))
    assert cache.backends() == {"redis": False}
    after = ask(plain, "INFO", "commandstats")
    assert set(after) - set(before) <= {"cmdstat_info"}


async def test_clients_show_a_certificate_of_their_own(service_factory, redis_tls, cache_at, mode):
    """A server that wants certificates of its clients gets the one that the URL names; without it nothing is stored.

    Its refusal comes after the handshake, and may be lost on a connection that the server has closed already.
    """
    port = free_port()
    service_factory("redis", *redis_tls.right.arguments(port, clients=True))
    url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={redis_tls.right.ca}"
    own = f"&ssl_certfile={redis_tls.right.certificate}&ssl_keyfile={redis_tls.right.key}"
    source = Source()
    for _ in range(2):
        await called(loader(cache_at(url + own), source, mode, levels=("l2",))(1))
    assert source.reads == 1
    bare = cache_at(url)
    load = loader(bare, source, mode, levels=("l2",))
    for _ in range(8):
        await called(load(1))
    assert source.reads == 9
    assert bare.backends() == {"redis": False}
    assert {"tls", "connection"} & set(bare._engine.remote.servers[0].errors)


def test_a_changed_certificate_is_taken_without_a_restart(service_factory, redis_tls, cache_at):
    """Once the server shows a certificate that is trusted, the probe finds out by itself."""
    port, wrong, right = free_port(), redis_tls.wrong, redis_tls.right
    server = service_factory("redis", *wrong.arguments(port))
    source = Source()
    cache = cache_at(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={right.ca}")
    load = loader(cache, source, "sync", levels=("l2",))
    load(1)
    assert cache.backends() == {"redis": False}
    files = {"tls-cert-file": right.certificate, "tls-key-file": right.key, "tls-ca-cert-file": right.ca}
    with redis.Redis(port=server.port) as client:
        client.execute_command("CONFIG", "SET", *[str(word) for pair in files.items() for word in pair])
    level = cache._engine.remote.servers[0]
    assert level.breaker.probe_now()
    load(2)
    reads = source.reads
    load(2)
    assert source.reads == reads


def test_a_changed_authority_is_taken_without_a_restart(redis_tls, cache_at, tmp_path):
    """The file of the authority is read again for the next connection once it has changed."""
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(redis_tls.wrong.ca.read_bytes())
    cache = cache_at(f"{redis_tls.url()}?ssl_ca_certs={trusted}")
    loader(cache, Source(), "sync", levels=("l2",))(1)
    assert cache.backends() == {"redis": False}
    trusted.write_bytes(redis_tls.right.ca.read_bytes())
    assert cache._engine.remote.servers[0].breaker.probe_now()


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_a_file_that_holds_no_certificate_is_refused_at_once(redis_tls, tmp_path, option):
    """What cannot be read as a certificate or key is a mistake in the settings, named when the cache is made."""
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    with pytest.raises(ConfigError, match=option):
        Cache(l2_url=f"{redis_tls.url()}?{option}={broken}", namespace="t")


@pytest.mark.service("redis")
async def test_certificates_without_formalities(service_factory, tmp_path, cache_at, mode, caplog):
    """What Python checks from 3.13 on is refused there, with the option that leaves it out and nothing else."""
    simple, other = Authority(tmp_path, "simple", is_simple=True), Authority(tmp_path, "other", is_simple=True)
    tls_port = free_port()
    service_factory("redis", *simple.arguments(tls_port))
    as_newest, as_before = "ssl_include_verify_flags=VERIFY_X509_STRICT", "ssl_exclude_verify_flags=VERIFY_X509_STRICT"
    url = f"rediss://127.0.0.1:{tls_port}/0?ssl_ca_certs="
    source = Source()
    with caplog.at_level(logging.ERROR, "smw"):
        refused = cache_at(f"{url}{simple.ca}&{as_newest}")
        assert (await called(loader(refused, source, mode)(1)))["value"] == "old"
    assert refused.backends() == {"redis": False}
    assert f"or add {as_before}" in caplog.text
    taken = cache_at(f"{url}{simple.ca}&{as_before}")
    await called(loader(taken, source, mode)(1))
    assert taken.backends() == {"redis": True}
    stranger = cache_at(f"{url}{other.ca}&{as_before}")
    await called(loader(stranger, source, mode)(1))
    assert stranger.backends() == {"redis": False}
    report = await asyncio.to_thread(examine_environment, environ={"CACHE_L2_URL": f"{url}{simple.ca}&{as_newest}"})
    (found,) = [each for each in report.findings if each.name == "cache.l2.auth"]
    assert (found.verdict, as_before in found.fix) == ("fail", True)
