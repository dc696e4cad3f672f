"""A real Kafka broker from its jars: fetched by Maven under `.services/`, formatted, and run by a plain `java`.

Java and Maven come from PATH, or from Debian packages that are only unpacked. Words on a broker's command line are
Kafka's own: `--override node.id=2`.
"""

from __future__ import annotations

import gc
import hashlib
import os
import re
import shutil
import ssl
import struct
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tests.services.places import ROOT, free_port, home

if TYPE_CHECKING:
    from tests.services.server import Server

POM = Path(__file__).with_name("kafka.pom.xml")
CLUSTER = "c213LXRlc3RzLWthZmthMA"  # 16 bytes in base64: brokers of one cluster share it
# A version of ApiVersions that no broker knows is answered in the oldest form, which has always the same length.
HELLO = struct.pack(">ihhih3sx", 14, 18, 32767, 7, 3, b"smw")
GREETING = struct.pack(">iih", 16, 7, 35)
# Tests start brokers often and ask little of them: quick to start beats quick to run.
JVM = ("-Xms128m", "-Xmx512m", "-Xshare:auto", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
COMMON = """
process.roles=broker,controller
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
offsets.topic.replication.factor=1
offsets.topic.num.partitions=5
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=5
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=5
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
"""


def version() -> str:
    """Return the version of the broker."""
    found = re.search(r"<artifactId>kafka_[\d.]+</artifactId>\s*<version>([\d.]+)<", POM.read_text(encoding="utf-8"))
    assert found is not None
    return found[1]


def jars() -> Path:
    """Return the folder of the jars, there or not."""
    return ROOT / ".services" / f"kafka-{version()}"


def complete(java: Path, *, fetch: bool) -> str:
    """Bring the jars that `java` needs; returns why they cannot be had, or an empty string."""
    if jars().is_dir():
        return ""
    if not fetch:
        return "no jars: python3 noxfile.py services"
    unpacked = home() / "kafka" / "usr" / "share" / "maven" / "bin" / "mvn"
    maven = str(unpacked) if java.is_relative_to(home()) else shutil.which("mvn")
    return _copy_jars(java, maven) if maven else "no mvn on PATH"


def _copy_jars(java: Path, maven: str) -> str:
    jars().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=jars().parent, prefix="fetch-") as name:
        work = Path(name)
        env = {**os.environ, "JAVA_HOME": str(java.resolve().parents[1])}
        if java.is_relative_to(home()):  # its own list of authorities is made when it is installed, not when unpacked
            _trust_store(work / "authorities")
            env["MAVEN_OPTS"] = f"-Djavax.net.ssl.trustStore={work / 'authorities'}"
        command = [maven, "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", "-DincludeScope=runtime"]
        command += [f"-DoutputDirectory={work / 'jars'}", f"-Dmaven.repo.local={work / 'repository'}"]
        try:
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
        except subprocess.TimeoutExpired:
            return "mvn did not end within 300 s"
        if done.returncode != 0:
            lines = [line for line in done.stdout.splitlines() if "ERROR" in line] or [f"exit {done.returncode}"]
            return f"mvn: {lines[0][:200]}"
        shutil.rmtree(jars(), ignore_errors=True)
        (work / "jars").rename(jars())
    return ""


def _trust_store(target: Path) -> None:
    """Write the authorities that this Python trusts in Java's format."""
    context = ssl.create_default_context()
    certificates = context.get_ca_certs(binary_form=True)
    data = struct.pack(">III", 0xFEEDFEED, 2, len(certificates))
    for number, certificate in enumerate(certificates):
        alias = str(number).encode()
        data += struct.pack(">IH", 2, len(alias)) + alias + struct.pack(">QH", 0, 5) + b"X.509"
        data += struct.pack(">I", len(certificate)) + certificate
    digest = hashlib.sha1("changeit".encode("utf-16-be") + b"Mighty Aphrodite" + data)  # the format's own seal
    target.write_bytes(data + digest.digest())


def arguments(_port: int, home: Path) -> list[str]:
    """Return the command line of a broker after `java`."""
    return [*JVM, "-cp", f"{jars()}/*", "kafka.Kafka", str(home / "broker.properties")]


def prepare(java: Path, env: dict[str, str], port: int, home: Path, extra: Sequence[str]) -> None:
    """Write a broker's configuration and format its folder, before its first start."""
    if (home / "broker.properties").exists():
        return
    given = dict(word.split("=", 1) for word in extra if "=" in word)
    voters = given.get("controller.quorum.voters", "")
    node = given.setdefault("node.id", "1")
    mine = re.search(rf"\b{node}@[\d.]+:(\d+)", voters)
    controller = int(mine[1]) if mine else free_port()
    lines = {
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "log.dirs": str(home / "data"),
        **({} if voters else {"controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}"}),
        **given,
    }
    written = home / "unformatted.properties"
    written.write_text(COMMON + "".join(f"{key}={value}\n" for key, value in lines.items()), encoding="utf-8")
    command = [str(java), *JVM, "-cp", f"{jars()}/*", "kafka.tools.StorageTool", "format", "-t", CLUSTER]
    command += ["-c", str(written), *(() if voters else ("--standalone",))]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"kafka could not be formatted: {(done.stderr or done.stdout)[-600:]}")
    written.rename(home / "broker.properties")


def cluster(start: Callable[..., Server], size: int = 3) -> list[Server]:
    """Start brokers that keep each record on all of them, and accept it once two have it.

    Args:
        start: The fixture `service_factory`.
        size: How many.
    """
    voters = ",".join(f"{node}@127.0.0.1:{free_port()}" for node in range(1, size + 1))
    shared = {
        "controller.quorum.voters": voters,
        "default.replication.factor": str(size),
        "offsets.topic.replication.factor": str(size),
        "transaction.state.log.replication.factor": str(size),
        "transaction.state.log.min.isr": "2",
        "min.insync.replicas": "2",
        "broker.session.timeout.ms": "3000",  # the others lead in its place after 3 s instead of 9
        "broker.heartbeat.interval.ms": "500",
    }

    def one(node: int) -> Server:
        words = {**shared, "node.id": str(node)}
        return start("kafka", *(part for pair in words.items() for part in ("--override", "=".join(pair))))

    with ThreadPoolExecutor(size) as together:  # none of them is ready before most are
        return list(together.map(one, range(1, size + 1)))


def collected() -> None:
    """Collect the sockets that kafka-python leaves: of refused connections, and of those that it was still making.

    Here, and not in a test that has nothing to do with them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
