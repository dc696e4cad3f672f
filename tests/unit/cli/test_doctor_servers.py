"""What `smw doctor` says of real servers: well, locked, hung, of another kind, unfit for what they are to keep."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner

from smw.cache import Cache, info
from smw.cli.app import app
from smw.doctor import examine_environment
from tests.services.server import free_port

SECRET = "hunter2-secret"
STEPS = ["resolve", "connect", "auth", "ping", "role", "memory", "clients"]


def report(**environ):
    """Run the command for these variables and return its exit code and its findings by name; no secret is in them."""
    result = CliRunner().invoke(app, ["doctor", "--json"], env={"SMW_PROFILE": "testing"} | environ)
    assert SECRET not in result.stdout
    checks = json.loads(result.stdout)["checks"]
    return result.exit_code, {check["name"]: check for check in checks}


def verdicts(checks, prefix):
    """Return the verdicts of the checks below a prefix, by the last word of their names."""
    return {name.rpartition(".")[2]: check["verdict"] for name, check in checks.items() if name.startswith(prefix)}


@pytest.fixture
def private(service_factory):
    """A Redis that the test may spoil, and a client for it."""
    server = service_factory("redis")
    with redis.Redis(port=server.port) as client:
        yield server, client


@contextlib.contextmanager
def listening(answer):
    """A server that is none: takes connections and does with each what `answer` says."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    held.append(server.accept()[0])
                    answer(held[-1])

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in held:
            connection.close()


@pytest.mark.service("redis")
def test_a_redis_that_is_well(redis_server):
    """Every step is told, for the cache and for streams, and the exit code is 0."""
    code, checks = report(CACHE_L2_URL=redis_server.url, PIPELINE_REDIS_URL=redis_server.url, SMW_SERVICE="shop")
    assert code == 0
    assert verdicts(checks, "cache.l2") == dict.fromkeys([*STEPS, "rights"], "ok")
    assert verdicts(checks, "pipeline.redis") == dict.fromkeys(STEPS, "ok")
    assert "primary, Redis" in checks["cache.l2.role"]["seen"]
    assert checks["cache.l2.auth"]["seen"] == "answers PING without a login; CACHE_L2_URL names none"


@pytest.mark.service("redis")
@pytest.mark.parametrize(
    ("credentials", "seen"),
    [
        (f":{SECRET}@", "the server refuses user or password"),
        (f"nobody:{SECRET}@", "the server refuses user or password"),
        ("", "the server wants a password, none is given"),
    ],
)
def test_a_password_that_is_wrong_or_missing(private, credentials, seen):
    """The login fails by name, with the variable that holds the URL; what needs a login counts as not checked."""
    server, client = private
    client.config_set("requirepass", "right")
    code, checks = report(SMW_CACHE_L2_URL=f"redis://{credentials}127.0.0.1:{server.port}")
    assert code == 1
    assert (checks["cache.l2.auth"]["verdict"], checks["cache.l2.auth"]["seen"]) == ("fail", seen)
    assert "SMW_CACHE_L2_URL" in checks["cache.l2.auth"]["fix"]
    assert checks["cache.l2.role"]["verdict"] == "not checked"
    assert checks["cache.l2.role"]["seen"] == "asked only after a login that works"


@pytest.mark.service("redis")
def test_a_password_that_is_right_or_not_wanted(private):
    """The right one is well; one that the server does not have is told as such."""
    server, client = private
    url = f"redis://:{SECRET}@127.0.0.1:{server.port}"
    _, unwanted = report(CACHE_L2_URL=url)
    assert "the server has none" in unwanted["cache.l2.auth"]["seen"]
    client.config_set("requirepass", SECRET)
    code, checks = report(CACHE_L2_URL=url, SMW_SERVICE="shop")
    assert (code, checks["cache.l2.auth"]["seen"]) == (0, "answers PING to the default user, with a password")


@pytest.mark.service("redis")
@pytest.mark.timed
def test_a_server_that_hangs(private):
    """A stopped server still accepts connections: that it gives no answer is told, and the report ends in time."""
    server, _ = private
    server.pause()
    started = time.monotonic()
    found = {each.name: each for each in examine_environment(environ={"CACHE_L2_URL": server.url}).findings}
    took = time.monotonic() - started
    server.resume()
    assert found["cache.l2.connect"].verdict == "ok"
    assert "gave no answer within 1 s" in found["cache.l2.ping"].seen
    assert "CACHE_L2_URL" in found["cache.l2.ping"].fix
    assert took < 5


@pytest.mark.service("redis")
@pytest.mark.service("memcached")
def test_the_servers_are_swapped(redis_server, memcached_server):
    """Each of them on the other's port is told to be something else, with the variable to correct."""
    code, checks = report(
        CACHE_L2_URL=f"redis://127.0.0.1:{memcached_server.port}", CACHE_L3_SERVERS=redis_server.address
    )
    assert code == 1
    assert "it is no Redis" in checks["cache.l2.ping"]["seen"]
    assert "it is no memcached" in checks["cache.l3.version"]["seen"]
    assert "CACHE_L3_SERVERS" in checks["cache.l3.version"]["fix"]


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"), "it is no Redis"),
        (lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "it is no Redis"),
        (lambda connection: connection.close(), "closes them"),
        (lambda connection: None, "gave no answer"),
    ],
)
def test_something_else_behind_the_port(answer, seen):
    """Another protocol, a door that shuts and silence are three different causes."""
    with listening(answer) as port:
        _, checks = report(CACHE_L2_URL=f"redis://127.0.0.1:{port}")
    assert checks["cache.l2.ping"]["verdict"] == "fail"
    assert seen in checks["cache.l2.ping"]["seen"]


def test_nothing_behind_the_port():
    """A refused connection is told as one, with host, port and the variable."""
    port = free_port()
    _, checks = report(PIPELINE_REDIS_URL=f"redis://127.0.0.1:{port}", CACHE_L3_SERVERS=f"127.0.0.1:{port}")
    for name in ("pipeline.redis.connect", "cache.l3.connect"):
        assert f"127.0.0.1:{port}: connection refused" in checks[name]["seen"]
    assert "PIPELINE_REDIS_URL" in checks["pipeline.redis.connect"]["fix"]


@pytest.mark.service("redis")
def test_a_database_that_is_not_there(redis_server):
    """A number beyond those that the server has is refused at login; the words of the server are kept."""
    _, checks = report(CACHE_L2_URL=f"redis://127.0.0.1:{redis_server.port}/9999")
    assert checks["cache.l2.ping"]["verdict"] == "fail"
    assert "DB index" in checks["cache.l2.ping"]["seen"]


@pytest.mark.service("redis")
def test_a_replica_refuses_writes(private):
    """A replica answers everything but what matters, so its role is a problem."""
    server, client = private
    client.replicaof("127.0.0.1", free_port())
    code, checks = report(CACHE_L2_URL=server.url)
    assert (code, checks["cache.l2.role"]["verdict"]) == (1, "fail")
    assert "READONLY" in checks["cache.l2.role"]["seen"]


@pytest.mark.service("redis")
@pytest.mark.parametrize(
    ("policy", "cache", "streams"),
    [
        ("noeviction", "warn", "ok"),
        ("allkeys-lru", "ok", "fail"),
        ("volatile-lru", "ok", "ok"),
        ("volatile-random", "warn", "ok"),
    ],
)
def test_what_a_full_server_does_must_fit_what_it_keeps(private, policy, cache, streams):
    """A cache wants eviction, streams must not have it; one policy serves both."""
    server, client = private
    client.config_set("maxmemory", "100mb")
    client.config_set("maxmemory-policy", policy)
    _, checks = report(CACHE_L2_URL=server.url, PIPELINE_REDIS_URL=server.url)
    assert (checks["cache.l2.memory"]["verdict"], checks["pipeline.redis.memory"]["verdict"]) == (cache, streams)
    page = Path(__file__).parents[3].joinpath("docs", "howto", "one_redis.md").read_text()
    for advised in ("allkeys-lru", "allkeys-lfu", "volatile-lru"):
        assert f"`{advised}`" in page.replace("maxmemory-policy ", "")
        assert cache == "ok" or advised in checks["cache.l2.memory"]["fix"]


@pytest.mark.service("redis")
def test_a_server_without_a_limit_is_a_warning_in_production(redis_server):
    """Without maxmemory a cache may fill the machine."""
    found = examine_environment("production", environ={"CACHE_L2_URL": redis_server.url}).findings
    (memory,) = [each for each in found if each.name == "cache.l2.memory"]
    assert (memory.verdict, "set maxmemory" in memory.fix) == ("warn", True)


@pytest.mark.service("redis")
def test_too_few_connections_for_all_workers(private):
    """64 connections for each worker have to fit into maxclients."""
    server, client = private
    client.config_set("maxclients", 100)
    _, checks = report(CACHE_L2_URL=server.url, WEB_CONCURRENCY="4")
    assert checks["cache.l2.clients"]["verdict"] == "warn"


@pytest.mark.service("redis")
def test_a_user_that_may_not_ask(private):
    """Where INFO is not allowed the rest counts as not checked, and the exit code is 3."""
    server, client = private
    client.execute_command("ACL", "SETUSER", "app", "on", f">{SECRET}", "~*", "+@all", "-info")
    code, checks = report(CACHE_L2_URL=f"redis://app:{SECRET}@127.0.0.1:{server.port}", SMW_SERVICE="shop")
    assert code == 3
    assert checks["cache.l2.auth"]["seen"] == "answers PING to user app, with a password"
    assert {checks[f"cache.l2.{step}"]["verdict"] for step in ("role", "memory", "clients")} == {"not checked"}


@pytest.mark.service("redis")
def test_tls_where_there_is_none(redis_server):
    """rediss:// against a plain Redis, which waits for the end of the greeting, asks whether it has TLS at all."""
    _, checks = report(CACHE_L2_URL=f"rediss://127.0.0.1:{redis_server.port}")
    (finding,) = [check for check in checks.values() if check["verdict"] == "fail"]
    assert "gave no answer" in finding["seen"]
    assert "without TLS" in finding["fix"]
    assert "CACHE_L2_URL" in finding["fix"]


def certificate(folder, *, days):
    """Write a certificate for 127.0.0.1 that ends in `days` days, and return its file."""
    import datetime as dt
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    built = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - dt.timedelta(days=30)).not_valid_after(now + dt.timedelta(days=days))
        .add_extension(address, critical=False).sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8
    path = folder / "server.pem"
    path.write_bytes(built.public_bytes(pem) + key.private_bytes(pem, form, serialization.NoEncryption()))
    return path


def hits_of_another_process(url, namespace):
    """Store a value through one cache, and return how often another one finds it on the server."""
    for _ in range(2):
        cache = Cache(l2_url=url, namespace=namespace, budget_ms=2000)
        function = cache.cached(ttl=60)(doubled)
        assert function(2) == 4
        hits = info(function).hits["l2"]
        cache.close()
    return hits


def doubled(x: int) -> int:
    """A function to keep results of."""
    return x * 2


def encrypted(service_factory, pem):
    """Start a Redis that also takes TLS; returns its URL."""
    port = free_port()
    files = ("--tls-cert-file", str(pem), "--tls-key-file", str(pem), "--tls-ca-cert-file", str(pem))
    service_factory("redis", "--tls-port", str(port), *files, "--tls-auth-clients", "no")
    return f"rediss://127.0.0.1:{port}?ssl_ca_certs={pem}"


@pytest.mark.service("redis")
def test_tls_with_a_good_certificate(service_factory, tmp_path):
    """Every step is well, each time; blocking callers of the cache reach such a server too."""
    url = encrypted(service_factory, certificate(tmp_path, days=30))
    for _ in range(5):
        code, checks = report(CACHE_L2_URL=url, SMW_SERVICE="shop")
        assert code == 0, checks
    assert [hits_of_another_process(url, f"tls{number}") for number in range(5)] == [1] * 5


@pytest.mark.service("redis")
def test_tls_with_a_server_that_wants_a_certificate_of_its_clients(service_factory, tmp_path):
    """It is told as that, with the options that give one, and not as a port without TLS."""
    port, pem = free_port(), str(certificate(tmp_path, days=30))
    files = ("--tls-cert-file", pem, "--tls-key-file", pem, "--tls-ca-cert-file", pem)
    service_factory("redis", "--tls-port", str(port), *files, "--tls-auth-clients", "yes")
    code, checks = report(CACHE_L2_URL=f"rediss://127.0.0.1:{port}?ssl_ca_certs={pem}")
    assert code == 1
    assert "wants a certificate of its clients" in checks["cache.l2.auth"]["seen"]
    assert checks["cache.l2.auth"]["fix"] == "add ssl_certfile= and ssl_keyfile= to CACHE_L2_URL"


@pytest.mark.service("redis")
@pytest.mark.parametrize(
    ("form", "name", "seen", "fix"),
    [
        ("redis+sentinel://{}/main", "ping", "a Redis answers there that is no Sentinel", "name the Sentinels in"),
        ("redis+cluster://{}", "cluster", "a Redis answers there that is no cluster", "name nodes of a cluster in"),
        ("redis://{}/99", "ping", "refuses: DB index is out of range", "correct the number of the database in"),
    ],
)
def test_a_url_of_another_kind_than_the_server(redis_server, form, name, seen, fix):
    """What answers there is said, and what to write for it."""
    code, checks = report(CACHE_L2_URL=form.format(redis_server.address), SMW_SERVICE="shop")
    assert code == 1
    assert seen in checks[f"cache.l2.{name}"]["seen"]
    assert f"{fix} CACHE_L2_URL" in checks[f"cache.l2.{name}"]["fix"]


@pytest.mark.service("redis")
def test_a_unix_socket(service_factory, tmp_path):
    """A path instead of host and port is checked without a lookup; blocking callers of the cache reach it too."""
    path = tmp_path / "redis.sock"
    service_factory("redis", "--unixsocket", str(path))
    code, checks = report(CACHE_L2_URL=f"unix://{path}", SMW_SERVICE="shop")
    assert (code, verdicts(checks, "cache.l2")) == (0, dict.fromkeys([*STEPS[1:], "rights"], "ok"))
    assert hits_of_another_process(f"unix://{path}", "socket") == 1


@pytest.mark.service("redis")
def test_tls_with_a_certificate_that_has_expired(service_factory, tmp_path):
    """The login fails with the words of the check, and the variable that holds scheme and options."""
    code, checks = report(CACHE_L2_URL=encrypted(service_factory, certificate(tmp_path, days=-1)))
    assert code == 1
    assert "certificate has expired" in checks["cache.l2.auth"]["seen"]
    assert "CACHE_L2_URL" in checks["cache.l2.auth"]["fix"]


@pytest.mark.service("memcached")
def test_a_memcached_that_is_well(memcached_server):
    """Version and size of items are told."""
    code, checks = report(CACHE_L3_SERVERS=memcached_server.address, SMW_SERVICE="shop")
    assert code == 0
    assert verdicts(checks, "cache.l3") == dict.fromkeys(["resolve", "connect", "version", "items"], "ok")


@pytest.mark.service("memcached")
@pytest.mark.parametrize(
    ("arguments", "verdict", "fix"),
    [(("-I", "512k"), "warn", "-I 1m"), (("-C",), "fail", "-C")],
)
def test_a_memcached_that_does_not_fit(service_factory, arguments, verdict, fix):
    """Small items are a warning; without compare-and-swap nothing can be stored safely."""
    server = service_factory("memcached", *arguments)
    _, checks = report(CACHE_L3_SERVERS=server.address)
    assert checks["cache.l3.items"]["verdict"] == verdict
    assert fix in checks["cache.l3.items"]["fix"]


@pytest.mark.service("memcached")
def test_a_memcached_that_hangs(service_factory):
    """A stopped memcached is told as one that gives no answer."""
    server = service_factory("memcached")
    server.pause()
    _, checks = report(CACHE_L3_SERVERS=server.address)
    server.resume()
    assert "gave no answer" in checks["cache.l3.version"]["seen"]


@pytest.mark.parametrize(
    ("greeting", "name", "verdict"),
    [
        (b"CLIENT_ERROR unauthenticated\r\n", "version", "fail"),
        (b"VERSION 1.6.18\r\nEND\r\n", "items", "not checked"),
    ],
)
def test_a_memcached_that_wants_a_login_or_hides(greeting, name, verdict):
    """A login is a problem; a proxy that does not tell its settings leaves them not checked."""

    def answer(connection):
        connection.recv(100)
        connection.sendall(greeting)
        connection.close()

    with listening(answer) as port:
        _, checks = report(CACHE_L3_SERVERS=f"127.0.0.1:{port}")
    assert checks[f"cache.l3.{name}"]["verdict"] == verdict


def test_sentinels_and_their_master(redis_sentinel):
    """All Sentinels are reached, and what follows is said of the master."""
    code, checks = report(CACHE_L2_URL=redis_sentinel.url)
    assert code == 0
    assert verdicts(checks, "cache.l2") == dict.fromkeys(["sentinels", *STEPS[2:], "rights"], "ok")
    assert checks["cache.l2.sentinels"]["seen"] == "3 of 3 accept"


def test_a_sentinel_that_is_gone_and_a_name_that_nobody_knows(redis_sentinel):
    """The one is a warning, the other is what keeps the service from its Redis."""
    url = redis_sentinel.url.replace("://", "://127.0.0.1:1,").replace("mymaster", "other")
    code, checks = report(CACHE_L2_URL=url)
    assert (code, checks["cache.l2.sentinels"]["verdict"]) == (1, "warn")
    assert "3 of 4 accept; 127.0.0.1:1: connection refused" in checks["cache.l2.sentinels"]["seen"]
    assert checks["cache.l2.auth"]["fix"] == "correct the name of the master in CACHE_L2_URL"


def test_nodes_and_sentinels_are_no_servers(redis_cluster, redis_sentinel):
    """Both answer a PING as a server does; they are told by name, with the scheme that leads there."""
    node, sentinel = redis_cluster.nodes[0].address, redis_sentinel.url.partition("://")[2].partition(",")[0]
    code, checks = report(CACHE_L2_URL=f"redis://{node}", PIPELINE_REDIS_URL=f"redis://{sentinel}")
    assert code == 1
    assert checks["cache.l2.role"]["seen"].startswith("a node of a cluster")
    assert checks["cache.l2.role"]["fix"].endswith("redis+cluster://host1:6379,host2:6379 in CACHE_L2_URL")
    assert checks["pipeline.redis.role"]["seen"].startswith("a Sentinel")
    _, checks = report(CACHE_L2_URL=f"redis+cluster://{sentinel}", PIPELINE_REDIS_URL=f"redis://{node}")
    assert checks["cache.l2.cluster"]["seen"] == "a Redis answers there that is no cluster"
    assert checks["pipeline.redis.role"]["fix"] == "name a Redis that is none in PIPELINE_REDIS_URL"


def test_a_cluster_that_is_whole(redis_cluster):
    """The doctor says that all slots are served, and does not mind a replica among the nodes that are named."""
    url = f"redis+cluster://{redis_cluster.nodes[3].address},127.0.0.1:1"
    code, checks = report(CACHE_L2_URL=url)
    assert checks["cache.l2.nodes"]["verdict"] == "warn"
    assert checks["cache.l2.cluster"]["seen"] == "3 masters have all slots"
    assert (code, checks["cache.l2.role"]["verdict"]) == (0, "ok")


@pytest.mark.service("redis")
def test_a_cluster_without_some_of_its_slots(service_factory):
    """Where slots are missing and nothing is served because of it, that is what the doctor says."""
    server = service_factory("redis", "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with redis.Redis(port=server.port) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 9999)
    _, checks = report(CACHE_L2_URL=f"redis+cluster://{server.address}")
    assert checks["cache.l2.cluster"]["verdict"] == "fail"
    assert checks["cache.l2.cluster"]["seen"].startswith("10000 of 16384 slots are served, state fail")
    assert "cluster-require-full-coverage no" in checks["cache.l2.cluster"]["fix"]


def test_a_certificate_that_is_not_trusted(redis_tls):
    """The doctor names the cause and the setting."""
    code, checks = report(CACHE_L2_URL=redis_tls.url(redis_tls.wrong))
    assert (code, checks["cache.l2.auth"]["verdict"]) == (1, "fail")
    assert "certificate" in checks["cache.l2.auth"]["seen"]
    assert "CACHE_L2_URL" in checks["cache.l2.auth"]["fix"]
