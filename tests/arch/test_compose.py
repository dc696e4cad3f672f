"""compose.yaml is valid, closed to the network and pinned, and what it mounts speaks of things that exist."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml

from tests.arch.source import ROOT, modules
from tests.docs.snippets import blocks
from tests.services.specs import SPECS

COMPOSE = ROOT / "compose.yaml"
FOLDER = ROOT / "examples" / "observability"
SERVICES = yaml.safe_load(COMPOSE.read_text())["services"]
ALWAYS = {"redis", "memcached"}
NAMED = {*ALWAYS, "kafka", "prometheus", "alertmanager", "pushgateway", "jaeger", "grafana"}
PORT = re.compile(r"127\.0\.0\.1:\$\{(SMW_[A-Z]+_PORT):-(\d+)\}:(\d+)")
IMAGE = re.compile(r"[a-z]+(/[a-z]+)?:v?\d+\.\d+\.\d+(-alpine)?")


def load(name):
    """Return one of the files that are mounted."""
    return yaml.safe_load((FOLDER / name).read_text())


@pytest.mark.house
def test_it_follows_the_compose_specification():
    """The file is valid by the schema of the compose specification."""
    command = ["check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.house
def test_the_one_of_the_documentation_does_too(tmp_path):
    """What the page on deployment shows is valid by the same schema, pins its images, and publishes to nobody."""
    page = ROOT / "docs" / "howto" / "deploy.md"
    text = next(block.text for block in blocks(page) if block.note == "file: compose.yaml")
    (tmp_path / "compose.yaml").write_text(text)
    command = ["check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(tmp_path / "compose.yaml")]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    services = yaml.safe_load(text)["services"].values()
    assert [port for service in services for port in service.get("ports", []) if not port.startswith("127.")] == []
    assert [s["image"] for s in services if "image" in s and not IMAGE.fullmatch(s["image"])] == []


def test_it_has_the_servers_that_the_documentation_names():
    """Nothing is missing, nothing else is there, and only the two light ones start without being asked for."""
    assert set(SERVICES) == NAMED
    assert {name for name, service in SERVICES.items() if not service.get("profiles")} == ALWAYS


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_pinned_local_and_watched(name):
    """An exact version, ports on the loopback address only, and a health check that gives up."""
    service = SERVICES[name]
    assert IMAGE.fullmatch(service["image"]), service["image"]
    assert [port for port in service["ports"] if not PORT.fullmatch(port)] == []
    assert "network_mode" not in service
    assert "privileged" not in service
    check = service["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert {"interval", "timeout", "retries"} <= check.keys()


def test_ports_differ():
    """No two services want the same port of the machine, or are moved by the same variable."""
    ports = [PORT.fullmatch(port) for service in SERVICES.values() for port in service["ports"]]
    assert len({port[1] for port in ports}) == len({port[2] for port in ports}) == len(ports)


def test_mounted_files_exist_and_cannot_be_written():
    """Whatever is mounted is part of the checkout, and read-only."""
    mounts = [mount.split(":") for service in SERVICES.values() for mount in service.get("volumes", [])]
    assert len(mounts) == 3
    assert [source for source, _, mode in mounts if not (ROOT / source).exists() or mode != "ro"] == []


@pytest.mark.parametrize("name", SPECS)
def test_the_tests_can_use_every_server_of_theirs(name):
    """The servers of the tests are there under their names, each on a port that one variable moves."""
    assert [PORT.fullmatch(port)[1] for port in SERVICES[name]["ports"]] == [f"SMW_{name.upper()}_PORT"]


def test_kafka_is_the_one_of_the_tests():
    """Container and unpacked broker are of one version, and the broker sends clients to the port that is published."""
    pom = (ROOT / "tests" / "services" / "kafka.pom.xml").read_text()
    version = re.search(r"kafka_2\.13.*?<version>(.*?)<", pom, re.DOTALL)[1]
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{version}"
    published = SERVICES["kafka"]["ports"][0].rpartition(":")[0]
    assert f"HOST://{published}," in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]


def test_addresses_of_the_telemetry_name_services():
    """Prometheus, Alertmanager and Grafana look for each other where compose.yaml has them."""
    scraped = load("prometheus.yml")
    targets = {
        target
        for job in (*scraped["scrape_configs"], *scraped["alerting"]["alertmanagers"])
        for group in job["static_configs"]
        for target in group["targets"]
    }
    targets |= {source["url"].removeprefix("http://") for source in load("grafana/datasources.yml")["datasources"]}
    inside = {f"{name}:{port.rpartition(':')[2]}" for name, service in SERVICES.items() for port in service["ports"]}
    assert targets - inside == {"host.docker.internal:8000"}
    assert {"prometheus:9090", "alertmanager:9093", "pushgateway:9091", "jaeger:16686"} <= targets
    assert scraped["rule_files"] == ["alerts.yml"]


def test_alerts_ask_for_metrics_that_exist():
    """Every name in an alert's expression is a metric of the package, or Prometheus' own `up`."""
    rules = [rule for group in load("alerts.yml")["groups"] for rule in group["rules"]]
    asked = {name for rule in rules for name in re.findall(r"\b(?:smw|http)_[a-z_]+\b", rule["expr"])}
    assert len(rules) == 4
    assert len(asked) == 3
    shipped = "".join(module.text for module in modules())
    assert [name for name in asked if f'"{name}"' not in shipped] == []


def test_the_receiver_of_alerts_exists():
    """Alertmanager sends to a receiver that it has."""
    alerting = load("alertmanager.yml")
    assert alerting["route"]["receiver"] in {receiver["name"] for receiver in alerting["receivers"]}
