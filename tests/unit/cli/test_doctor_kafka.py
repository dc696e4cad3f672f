"""What `smw doctor` says of Kafka: well, unreachable, hung, of another kind, locked, unfit for streams."""

from __future__ import annotations

import importlib.util
import json
import struct

import pytest
from typer.testing import CliRunner

from smw.cli.app import app
from smw.doctor import kafka
from smw.doctor.network import Place
from tests.services.locate import locate
from tests.services.server import Server, free_port
from tests.services.specs import SPECS
from tests.unit.cli.test_doctor_servers import certificate, listening

SECRET = "hunter2-secret"
LOGIN = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_app="{SECRET}";'
API_VERSIONS_ONLY = struct.pack(">hihhhhhh", 0, 2, 18, 0, 4, 3, 0, 13)


def report(brokers, **environ):
    """Run the command for these brokers; returns its exit code and name → verdict, what was seen and the fix."""
    given = {"SMW_PROFILE": "testing", "SMW_SERVICE": "shop", "KAFKA_BROKERS": brokers} | environ
    result = CliRunner().invoke(app, ["doctor", "--json"], env=given)
    checks = json.loads(result.stdout)["checks"]
    return result.exit_code, {
        check["name"].removeprefix("pipeline.kafka."): (check["verdict"], check["seen"], check["fix"])
        for check in checks
        if check["name"].startswith("pipeline.kafka.")
    }


def answering(*bodies):
    """Return what answers questions of Kafka with these bodies, one each, and then hangs up."""

    def answer(connection):
        for body in bodies:
            question = connection.recv(4096)
            connection.sendall(struct.pack(">i", len(body) + 4) + question[8:12] + body)
        connection.recv(4096)
        connection.close()

    return answer


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A broker with doors for TLS and for logins that makes no topics and wants to be called elsewhere."""
    spec, found = SPECS["kafka"], locate(SPECS["kafka"], fetch=False)
    server = Server(spec, found)
    spec.prepare(found.program, found.env, server.port, server._home, ())
    written = server._home / "broker.properties"
    doors = {"SSL": free_port(), "SASL_PLAINTEXT": free_port()}
    (mine,) = [line for line in written.read_text().splitlines() if line.startswith("listeners=")]
    lines = [
        ",".join([mine, *(f"{kind}://127.0.0.1:{port}" for kind, port in doors.items())]),
        "listener.security.protocol.map="
        + ",".join(["CONTROLLER:PLAINTEXT", "PLAINTEXT:PLAINTEXT", *(f"{kind}:{kind}" for kind in doors)]),
        "advertised.listeners=PLAINTEXT://kafka.invalid:9092",
        "ssl.keystore.type=PEM",
        f"ssl.keystore.location={certificate(tmp_path_factory.mktemp('tls'), days=30)}",
        "sasl.enabled.mechanisms=PLAIN",
        f"listener.name.sasl_plaintext.plain.sasl.jaas.config={LOGIN}",
        "auto.create.topics.enable=false",
    ]
    with written.open("a") as file:
        file.write("\n".join(lines))
    server.start()
    yield server, doors
    server.close()


def test_a_broker_that_is_well(kafka_server):
    """Every step is told, and the exit code is 0."""
    code, found = report(kafka_server.url)
    assert code == 0
    assert {name: verdict for name, (verdict, _, _) in found.items()} == dict.fromkeys(
        ["resolve", "connect", "api", "cluster", "topics", "copies"], "ok"
    )
    assert "1 broker live" in found["cluster"][1]


def test_one_broker_of_two_is_away(kafka_server):
    """The one that is away is named with the variable; the cluster is looked at through the other one."""
    away = f"127.0.0.1:{free_port()}"
    for brokers in (f"{away},{kafka_server.url}", f"{kafka_server.url},{away}"):
        code, found = report(brokers)
        assert code == 1
        assert found["cluster"][0] == "ok"
    verdict, seen, fix = found["connect"]
    assert (verdict, f"{away}: connection refused" in seen, "KAFKA_BROKERS" in fix) == ("fail", True, True)


def test_no_broker_is_there():
    """With none that answers the rest is not checked."""
    _, found = report(f"127.0.0.1:{free_port()}")
    assert found["connect"][0] == "fail"
    assert (found["api"][0], found["cluster"][0]) == ("not checked", "not checked")


def test_the_time_of_a_session_does_not_fit(kafka_server):
    """A time that the group coordinator would refuse is told with the bounds and the variable that holds it."""
    code, found = report(kafka_server.url, STREAM_CLAIM_IDLE_S="0.5")
    assert (code, found["session"][0]) == (1, "fail")
    assert "STREAM_CLAIM_IDLE_S is 0.5 s, the cluster takes 1 to 1800 s" in found["session"][1]


def test_a_port_of_the_controller(kafka_server):
    """Kafka's other port is told apart from a broker's."""
    lines = (kafka_server._home / "broker.properties").read_text().splitlines()
    (controller,) = [line.partition("=")[2] for line in lines if line.startswith("controller.quorum.bootstrap")]
    _, found = report(controller)
    assert found["api"][0] == "fail"
    assert "a controller of Kafka" in found["api"][1]


@pytest.mark.service("kafka")
def test_a_broker_that_wants_to_be_called_where_nobody_is(odd):
    """That is where every client goes on, so it is a problem; that it makes no topics is a warning."""
    server, _ = odd
    code, found = report(server.url)
    assert code == 1
    verdict, seen, fix = found["advertised"]
    assert (verdict, seen) == ("fail", "a broker wants to be called at kafka.invalid:9092: no such host")
    assert "advertised.listeners" in fix
    assert found["topics"][0] == "warn"
    assert "NAME.dlq" in found["topics"][2]


@pytest.mark.service("kafka")
@pytest.mark.parametrize(
    ("door", "step", "seen"),
    [("SSL", "api", "speaks TLS"), ("SASL_PLAINTEXT", "cluster", "it wants a login (SASL)")],
)
def test_a_broker_that_is_locked(odd, door, step, seen):
    """A listener for TLS or with a login is named as such, with the kind that fits."""
    _, doors = odd
    code, found = report(f"127.0.0.1:{doors[door]}")
    assert (code, found[step][0]) == (1, "fail")
    assert seen in found[step][1]
    assert "PLAINTEXT in KAFKA_BROKERS" in found[step][2]


@pytest.mark.service("redis")
@pytest.mark.service("memcached")
def test_another_server_on_the_port(redis_server, memcached_server):
    """What is no Kafka is told as that, also where it waits for the end of a line."""
    for server in (redis_server, memcached_server):
        code, found = report(server.address)
        assert (code, found["api"][0]) == (1, "fail")
        assert "it is no Kafka" in found["api"][1]
        assert "KAFKA_BROKERS" in found["api"][2]


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"), "it is no Kafka"),
        (lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "it is no Kafka"),
        (lambda connection: (connection.recv(99), connection.sendall(b"no"), connection.close()), "it is no Kafka"),
        (lambda connection: connection.close(), "closes them"),
        (lambda connection: None, "gave no answer within 1 s"),
        (answering(b"\0"), "it is no Kafka"),
        (answering(struct.pack(">hi", 0, 0)), "a controller"),
        (answering(struct.pack(">hihhhhhh", 0, 2, 18, 0, 0, 3, 0, 1)), "older than 0.11"),
    ],
)
def test_what_a_port_may_answer(answer, seen):
    """Another protocol, a door that shuts, silence and a broker that does not fit are different causes."""
    with listening(answer) as port:
        _, found = report(f"127.0.0.1:{port}")
    assert found["api"][0] == "fail"
    assert seen in found["api"][1]


def test_a_broker_that_does_not_tell_its_settings():
    """Who may not ask is told that this was not checked, which is exit code 3."""
    host = "127.0.0.1"
    with listening(lambda connection: None) as broker:
        live = struct.pack(">iiih", 0, 1, 1, len(host)) + host.encode() + struct.pack(">ihhii", broker, -1, -1, 1, 0)
        refused = struct.pack(">iihhbhi", 0, 1, 31, -1, 4, 1, 0)[:-4] + b"1" + struct.pack(">i", 0)
        with listening(answering(API_VERSIONS_ONLY, live, refused)) as port:
            code, found = report(f"{host}:{port}")
    assert (code, found["settings"][0], found["advertised"][0]) == (3, "not checked", "ok")


def test_the_client_is_missing(monkeypatch):
    """Without kafka-python the line to install it is the first finding."""
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "kafka" else there(name))
    _, found = report(f"127.0.0.1:{free_port()}")
    assert found["client"][::2] == ("fail", 'pip install "smw[kafka]"')


@pytest.mark.parametrize(
    ("copies", "needed", "brokers", "verdict"),
    [(1, 1, 1, "ok"), (1, 1, 3, "warn"), (3, 1, 3, "warn"), (3, 3, 3, "warn"), (3, 2, 3, "ok")],
)
def test_copies_of_topics(copies, needed, brokers, verdict):
    """With several brokers the loss of one should neither lose records nor stop writing."""
    told = {"default.replication.factor": str(copies), "min.insync.replicas": str(needed)}
    asked = kafka.Kafka([Place("k", "host", 9092, "KAFKA_BROKERS", "a broker")], 60.0, "STREAM_CLAIM_IDLE_S")
    found = {finding.name: finding for finding in kafka._settings(asked, told, brokers)}
    assert found["k.copies"].verdict == verdict
    assert bool(found["k.copies"].fix) == (verdict == "warn")
