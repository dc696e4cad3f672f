"""Several real redis-servers as one: with TLS, under Sentinels, as a cluster; made of the same program as one alone."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import inspect
import ipaddress
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.services.locate import Found, Missing
from tests.services.places import free_port
from tests.services.plugin import found
from tests.services.server import Server, launch
from tests.services.specs import SPECS, Spec

SLOTS = 16_384
MASTER = "mymaster"
_DOWN_AFTER_MS = 300
_NODE_TIMEOUT_MS = 600


def _wait(what: str, done: Callable[[], object], limit_s: float = 15.0) -> None:
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        with contextlib.suppress(redis.RedisError, OSError):
            if done():
                return
        time.sleep(0.02)
    pytest.fail(f"{what} within {limit_s:g} s")


def ask(server: Server, *command: Any) -> Any:
    """Return what a server says to one command."""
    with redis.Redis(port=server.port, socket_timeout=2.0, decode_responses=True) as client:
        return client.execute_command(*command)


class Authority:
    """A certificate authority of the tests, with a certificate for the loopback address.

    Args:
        home: Where the files go.
        name: Prefix of the files.
        is_simple: Leave out what Python 3.13 insists on and older ones do not.
    """

    def __init__(self, home: Path, name: str, *, is_simple: bool = False) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        self.ca, self.certificate, self.key = (home / f"{name}-{part}.pem" for part in ("ca", "cert", "key"))
        now = dt.datetime.now(dt.UTC)
        ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} authority")])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )

        made_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())

        def signed(whom: Any, public: Any, *critical: Any) -> Any:
            builder = x509.CertificateBuilder().subject_name(whom).issuer_name(authority).public_key(public)
            for extension in critical:
                builder = builder.add_extension(extension, critical=True)
            for extension in () if is_simple else (x509.SubjectKeyIdentifier.from_public_key(public), made_by):
                builder = builder.add_extension(extension, critical=False)
            builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(hours=1))
            return builder.not_valid_after(now + dt.timedelta(days=1)).sign(ca_key, hashes.SHA256())

        pem = serialization.Encoding.PEM
        signs = dict.fromkeys(inspect.signature(x509.KeyUsage).parameters, False) | {"key_cert_sign": True}
        usage = () if is_simple else (x509.KeyUsage(**signs),)
        is_authority = x509.BasicConstraints(ca=True, path_length=None)
        self.ca.write_bytes(signed(authority, ca_key.public_key(), is_authority, *usage).public_bytes(pem))
        self.certificate.write_bytes(signed(subject, key.public_key(), names).public_bytes(pem))
        plain = serialization.NoEncryption()
        self.key.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))

    def arguments(self, port: int, *, clients: bool = False) -> list[str]:
        """Return what makes a redis-server speak TLS on `port`, to all or to clients with a certificate."""
        files = ("--tls-cert-file", self.certificate, "--tls-key-file", self.key, "--tls-ca-cert-file", self.ca)
        return ["--tls-port", str(port), "--tls-auth-clients", "yes" if clients else "no", *map(str, files)]


class TlsRedis:
    """A redis-server with a port for TLS beside its plain one.

    Attributes:
        server: The server; `server.port` is the plain port.
        tls_port: The other one.
        right: The authority that its certificate is from.
        wrong: Another one.
    """

    def __init__(self, found: Found) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="smw-tls-"))
        self.right, self.wrong = Authority(self.home, "right"), Authority(self.home, "wrong")
        self.tls_port = free_port()
        self.server = launch(SPECS["redis"], found, *self.right.arguments(self.tls_port))

    def url(self, authority: Authority | None = None, scheme: str = "rediss") -> str:
        """Return its URL, trusting `authority`."""
        trusted = f"?ssl_ca_certs={authority.ca}" if authority else ""
        return f"{scheme}://127.0.0.1:{self.tls_port}/0{trusted}"

    def close(self) -> None:
        self.server.close()
        shutil.rmtree(self.home, ignore_errors=True)


def sentinel_spec(port_of_master: int, replica: Server | None, identities: dict[int, str]) -> Spec:
    """Return how a Sentinel is started that knows the others from the start, which takes seconds otherwise."""
    quorum = len(identities) // 2 + 1

    def prepare(_program: Path, _env: object, port: int, home: Path, _extra: object) -> None:
        name = f"{MASTER} 127.0.0.1"
        lines = [
            f"sentinel myid {identities[port]}",
            f"sentinel monitor {name} {port_of_master} {quorum}",
            f"sentinel down-after-milliseconds {MASTER} {_DOWN_AFTER_MS}",
            f"sentinel failover-timeout {MASTER} 1000",
            *([f"sentinel known-replica {name} {replica.port}"] if replica else []),
            *(f"sentinel known-sentinel {name} {other} {own}" for other, own in identities.items() if other != port),
        ]
        (home / "sentinel.conf").write_text("\n".join([*lines, ""]))

    def arguments(port: int, home: Path) -> list[str]:
        where = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(home), "--daemonize", "no"]
        return [str(home / "sentinel.conf"), "--sentinel", *where]

    return dataclasses.replace(SPECS["redis"], arguments=arguments, prepare=prepare)


class SentinelRedis:
    """A master, a replica, and three Sentinels that make the one the other.

    Attributes:
        servers: The two redis-servers.
        sentinels: The three Sentinels.
    """

    def __init__(self, found: Found) -> None:
        master = launch(SPECS["redis"], found, "--repl-diskless-sync-delay", "0")
        self.servers = [master, launch(SPECS["redis"], found, "--replicaof", "127.0.0.1", str(master.port))]
        identities = {free_port(): f"{number:040x}" for number in range(1, 4)}
        spec = sentinel_spec(master.port, self.servers[1], identities)
        self.sentinels = []
        for port in identities:
            sentinel = Server(spec, found)
            sentinel.port = port
            sentinel.start()
            self.sentinels.append(sentinel)
        _wait("no replica is in step", self._in_step)

    def _in_step(self) -> bool:
        state = ask(self.servers[1], "INFO", "replication")
        known = [ask(sentinel, "SENTINEL", "REPLICAS", MASTER) for sentinel in self.sentinels]
        return state["master_link_status"] == "up" and all(known)

    @property
    def url(self) -> str:
        """The URL that smw takes."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{MASTER}/0"

    @property
    def master(self) -> Server:
        """The server that most Sentinels call the master."""
        ports = [int(ask(each, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)[1]) for each in self.sentinels]
        port = max(set(ports), key=ports.count)
        return next(server for server in self.servers if server.port == port)

    def close(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.kill()  # ending in order waits for the replica
            server.close()


class RedisCluster:
    """Three masters of a third of the slots each, and a replica of the third one; with TLS beside the plain ports.

    Attributes:
        nodes: All four.
    """

    def __init__(self, found: Found) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="smw-cluster-"))
        self.authority = Authority(self.home, "cluster")
        self.tls_ports = [free_port() for _ in range(4)]
        self.nodes: list[Server] = []
        self._bus: list[int] = []
        for tls_port in self.tls_ports:
            self._bus.append(free_port())
            own = ("--cluster-enabled", "yes", "--cluster-port", str(self._bus[-1]))
            how = ("--cluster-node-timeout", str(_NODE_TIMEOUT_MS), "--cluster-require-full-coverage", "no")
            quick = ("--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0")
            tls = (*self.authority.arguments(tls_port), "--tls-cluster", "yes", "--tls-replication", "yes")
            self.nodes.append(launch(SPECS["redis"], found, *own, *how, *quick, *tls))
        for number, node in enumerate(self.nodes[:3]):
            first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
            ask(node, "CLUSTER", "ADDSLOTSRANGE", first, last)
            ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for port, bus in zip(self.tls_ports[1:], self._bus[1:], strict=True):
            ask(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", port, bus)
        _wait("the nodes do not know one another", lambda: all(len(self._seen(node)) == 4 for node in self.nodes))
        ask(self.nodes[3], "CLUSTER", "REPLICATE", ask(self.nodes[2], "CLUSTER", "MYID"))
        self.settle()

    @staticmethod
    def _seen(node: Server) -> list[str]:
        nodes = ask(node, "CLUSTER", "NODES")
        return list(nodes) if isinstance(nodes, dict) else str(nodes).split("\n")[:-1]

    def settle(self) -> None:
        """Start what was stopped, and wait until all four agree and answer."""
        for node in self.nodes:
            with contextlib.suppress(ProcessLookupError):
                node.resume() if node._process is not None else node.start()
        _wait("the cluster is not whole", self._whole)

    def _whole(self) -> bool:
        infos = [dict(line.split(":") for line in ask(node, "CLUSTER", "INFO").split()) for node in self.nodes]
        linked = [ask(node, "INFO", "replication") for node in self.nodes]
        ok = all(info["cluster_state"] == "ok" and info["cluster_slots_ok"] == str(SLOTS) for info in infos)
        return ok and sum(one["role"] == "slave" and one["master_link_status"] == "up" for one in linked) == 1

    @property
    def url(self) -> str:
        """The URL that smw takes, with two of the nodes."""
        return f"redis+cluster://{self.nodes[0].address},{self.nodes[1].address}"

    @property
    def tls_url(self) -> str:
        """The same over TLS."""
        return f"rediss+cluster://127.0.0.1:{self.tls_ports[0]}?ssl_ca_certs={self.authority.ca}"

    def owner(self, key: str) -> Server:
        """Return the master that has the slot of `key`."""
        slot = int(ask(self.nodes[0], "CLUSTER", "KEYSLOT", key))
        for first, last, master, *_ in ask(self.nodes[0], "CLUSTER", "SLOTS"):
            if int(first) <= slot <= int(last):
                return next(node for node in self.nodes if node.port == int(master[1]))
        raise AssertionError(f"nobody has slot {slot}")

    def close(self) -> None:
        for node in self.nodes:
            node.kill()  # ending in order waits for the replica
            node.close()
        shutil.rmtree(self.home, ignore_errors=True)


def found_here(config: pytest.Config) -> Found:
    """Return the program of redis-server; skip the test where there is none."""
    here = found(config, "redis")
    if isinstance(here, Missing) or here.program is None:
        # A server that runs elsewhere cannot be started three times; in CI a marked test has failed before this.
        pytest.skip("NOT RUN: redis: several servers need the program itself")
    return here


@pytest.fixture(scope="session")
def redis_tls(pytestconfig: pytest.Config) -> Iterator[TlsRedis]:
    """A real redis-server that speaks TLS, one for the whole run."""
    made = TlsRedis(found_here(pytestconfig))
    yield made
    made.close()


@pytest.fixture(scope="session")
def redis_sentinel(pytestconfig: pytest.Config) -> Iterator[SentinelRedis]:
    """A real master with its replica under three Sentinels, one for the whole run; leave both running."""
    made = SentinelRedis(found_here(pytestconfig))
    yield made
    made.close()


@pytest.fixture(scope="session")
def one_cluster(pytestconfig: pytest.Config) -> Iterator[RedisCluster]:
    """The cluster itself; tests take `redis_cluster`."""
    made = RedisCluster(found_here(pytestconfig))
    yield made
    made.close()


@pytest.fixture
def redis_cluster(one_cluster: RedisCluster) -> Iterator[RedisCluster]:
    """A real cluster of four nodes; a test may stop and kill them, the next one finds it whole."""
    yield one_cluster
    one_cluster.settle()
