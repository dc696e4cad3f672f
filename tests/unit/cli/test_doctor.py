"""What `smw doctor` says where no server is needed to say it, and how it exits."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import smw
from smw.cache.strategies.journal import Journal
from smw.cache.strategies.journal_rows import bury, put
from smw.cli.app import app
from smw.doctor import Finding, Report, declared, disk, examine_environment, process, versions
from smw.doctor.journal import writes
from smw.doctor.network import Place, ask, hang_up, reach
from smw.doctor.probe import Probe, in_daemon, run
from smw.doctor.telemetry import collector, metrics_port
from smw.runtime import Runtime
from smw.testing import FakeClock

ROOT = Path(__file__).resolve().parents[3]
CLEAN = {"SMW_PROFILE": "testing"}
PRODUCTION = {"SMW_PROFILE": "production"}


def findings(environ, prefix=""):
    """Return the findings for an environment, by name; several of one name come as the last."""
    report = examine_environment(environ=environ)
    return {finding.name: finding for finding in report.findings if finding.name.startswith(prefix)}


async def collected(found):
    """Return all that an asynchronous check yields."""
    return [each async for each in found]


def test_a_clean_machine_is_well():
    """Without servers everything can be checked, and exit 0 says so."""
    report = examine_environment(environ=CLEAN)
    assert report.exit_code == 0
    assert report.counts()["not checked"] == 0
    assert {"settings.profile", "process.descriptors", "versions.python"} <= {each.name for each in report.findings}
    (own,) = [each for each in report.findings if each.name == "versions.smw"]
    assert (own.verdict, own.seen) == ("ok", f"smw {smw.__version__}")


def test_the_exit_code_follows_the_worst_verdict():
    """0 with warnings, 3 when something could not be checked, 1 when there is a problem, whatever else there is."""
    ok, warn, fail, unchecked = (Finding("x", verdict, "") for verdict in ("ok", "warn", "fail", "not checked"))
    assert [Report("", found).exit_code for found in ((ok, warn), (ok, unchecked), (unchecked, fail, ok))] == [0, 3, 1]


def test_json_is_stable():
    """The fields that programs read are these and no others."""
    result = CliRunner().invoke(app, ["doctor", "--json"], env=CLEAN)
    report = json.loads(result.stdout)
    assert sorted(report) == ["checks", "counts", "exit", "profile", "schema"]
    assert (report["schema"], report["exit"], report["profile"]) == (1, result.exit_code, "testing")
    assert sorted(report["counts"]) == ["fail", "not checked", "ok", "warn"]
    assert {tuple(sorted(check)) for check in report["checks"]} == {("fix", "name", "seen", "verdict")}


def test_a_pipe_gets_one_whole_line_a_check():
    """Nothing is folded, cut or coloured where no terminal reads."""
    result = CliRunner().invoke(app, ["doctor"], env={**CLEAN, "COLUMNS": "40", "CACHE_L2_ULR": "x"})
    assert result.exit_code == 1
    assert "\x1b" not in result.stdout
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("settings.unknown")]
    assert re.search(r"fail +CACHE_L2_ULR is not known to smw +did you mean CACHE_L2_URL\?$", line)
    assert re.fullmatch(r"\d+ ok, 1 fail", result.stdout.splitlines()[-1])


def test_settings_that_cannot_be_read_are_the_first_finding():
    """A wrong value is named, what does not depend on it is still checked, the rest counts as not checked."""
    found = findings({**CLEAN, "BATCH_SIZE": "many"})
    assert next(iter(found)) == "settings.values"
    assert "BATCH_SIZE" in found["settings.values"].seen
    assert found["servers"].verdict == "not checked"
    assert found["versions.python"].verdict == "ok"


def test_a_shadowed_and_an_unused_variable_are_named():
    """Of two spellings with different values the losing one is named; so is a setting that nothing acts on."""
    found = findings({**CLEAN, "BATCH_SIZE": "5", "SMW_BATCH_SIZE": "6", "METRICS_PUSH_GATEWAY": "http://h"})
    assert "SMW_BATCH_SIZE hides BATCH_SIZE" in found["settings.shadowed"].seen
    assert "METRICS_PUSH_GATEWAY" in found["settings.unused"].seen
    assert findings({**CLEAN, "BATCH_SIZE": "5", "SMW_BATCH_SIZE": "5"}, "settings.shadowed") == {}


def test_production_without_folder_keys_and_name_is_warned(tmp_path):
    """What development can do without is a warning in production, each with its variable."""
    places = {"CACHE_L2_URL": "redis://127.0.0.1:1", "PIPELINE_REDIS_URL": "redis://127.0.0.1:1"}
    bare = findings(PRODUCTION | places, "settings.")
    assert {name for name, finding in bare.items() if finding.verdict == "warn"} == {
        "settings.service", "settings.trail_dir", "settings.encryption_keys", "settings.cache",
    }  # fmt: skip
    assert "CACHE_NAMESPACE" in bare["settings.cache"].fix
    full = {"SECURITY_TRAIL_DIR": str(tmp_path / "log"), "SMW_SERVICE": "shop"}
    unsigned = findings(PRODUCTION | places | full, "settings.")
    assert {"settings.signing_key", "settings.digest_key"} <= unsigned.keys()
    assert not {"settings.service", "settings.trail_dir"} & unsigned.keys()
    assert findings(CLEAN | places | full, "settings.service") == {}


def test_what_a_part_would_refuse_is_a_finding(tmp_path):
    """Parts are built as the application would build them; each refusal keeps its message and fix."""
    key = tmp_path / "key.pem"
    key.write_text("no key")
    wrong = {"CACHE_ENCRYPTION": "true", "SECURITY_RATE_LIMIT": "often", "JAEGER_ENDPOINT": "http://jaeger:14268"}
    found = findings(PRODUCTION | wrong, "settings.")
    assert "openssl rand" in found["settings.cache"].fix
    assert found["settings.security"].verdict == "fail"
    assert "4318" in found["settings.monitor"].fix
    signed = findings({**CLEAN, "SECURITY_SIGNING_KEY": str(key)}, "settings.security")
    assert "openssl genpkey" in signed["settings.security"].fix


def test_the_holder_is_the_variable_or_the_setting():
    """A cause names the variable as the user spelled it, or the setting where code set it."""
    spelled = Runtime(environ={"SMW_CACHE_L2_URL": "redis://h"}).settings
    given = Runtime(cache={"l2_url": "redis://h"}, environ={}).settings
    assert declared.holder(spelled, "cache", "l2_host") == "SMW_CACHE_L2_URL"
    assert declared.holder(given, "cache", "l2_host") == "cache setting l2_url"


async def test_a_folder_is_tried_and_left_as_it_was(tmp_path):
    """Write, fsync and room are checked; no file stays behind, no folder is made."""
    clock = FakeClock()
    names = [each.name for each in await collected(disk.folder(tmp_path / "a" / "b", "d", "DIR", clock))]
    assert names == ["d.write", "d.fsync", "d.room"]
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_that_cannot_be_is_a_problem(tmp_path):
    """A path that leads through a file names the setting."""
    (tmp_path / "file").write_text("")
    (found,) = await collected(disk.folder(tmp_path / "file", "d", "SECURITY_TRAIL_DIR", FakeClock()))
    assert (found.verdict, "SECURITY_TRAIL_DIR" in found.fix) == ("fail", True)


async def test_acknowledged_writes_that_wait_or_are_dead(tmp_path):
    """A journal that is empty or at work is fine; old writes name their function, dead ones their table."""
    clock = FakeClock()
    journal = Journal(tmp_path / "shop", lambda: "me")

    async def told():
        return [(each.name, each.verdict, each.seen + each.fix) for each in await collected(writes(tmp_path, clock))]

    assert await told() == [("cache.writes shop", "ok", "0 wait")]
    row = {"key": "k", "writer": "shop:save", "owner": "me", "loop": 0, "arguments": b"", "value": b""}
    journal.submit(put(row | {"made": clock.wall()}, most=10)).result()
    assert await told() == [("cache.writes shop", "ok", "1 wait")]
    clock.advance(7200)
    ((_, verdict, words),) = await told()
    assert (verdict, "for 2 hours" in words, "imports shop:save" in words) == ("warn", True, True)
    journal.submit(bury(1, "OSError", clock.wall())).result()
    (dead, rest) = await told()
    assert (dead[:2], "table dead" in dead[2]) == (("cache.writes shop dead", "warn"), True)
    assert rest == ("cache.writes shop", "ok", "0 wait")
    journal.close()
    (tmp_path / "shop" / "writes.db").write_bytes(b"no database, whatever it is called" * 100)
    assert [verdict for _, verdict, _ in await told()] == ["fail"]


async def test_a_slow_disk_is_a_warning(tmp_path):
    """Each recorded call waits for fsync, so a slow one is told."""

    class Slow(FakeClock):
        def now(self) -> float:
            self.advance(0.1)
            return super().now()

    found = await collected(disk.folder(tmp_path, "d", "DIR", Slow()))
    assert [each.verdict for each in found if each.name == "d.fsync"] == ["warn"]


@pytest.mark.parametrize(
    ("environ", "workers"),
    [
        ({}, 1),
        ({"WEB_CONCURRENCY": "4"}, 4),
        ({"WEB_CONCURRENCY": "many"}, 1),
        ({"GUNICORN_CMD_ARGS": "--bind :80 --workers=3"}, 3),
        ({"GUNICORN_CMD_ARGS": "-w 2 --preload"}, 2),
    ],
)
def test_workers_are_read_as_servers_read_them(environ, workers):
    """gunicorn and uvicorn take their number of workers from these variables."""
    assert process.workers_of(environ) == workers


async def test_few_descriptors_are_a_warning(monkeypatch):
    """A low soft limit comes with the command that raises it."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (256, 4096))
    (found,) = await collected(process.descriptors())
    assert (found.verdict, "ulimit -n" in found.fix) == ("warn", True)


def test_versions_are_judged_by_what_was_tested():
    """Too old is a problem, a newer major version a warning, everything between is well."""
    installed = {"redis": "5.0.1", "wrapt": "3.0", "pydantic": "2.99", "psutil": "7.0", "crc32c": "1!x"}
    found = versions.judge(
        installed, {"redis": "6", "wrapt": "2.0"}, {"redis": "8.1.0", "wrapt": "2.5.2", "pydantic": "2.14.4"}
    )
    verdicts = {each.name: each.verdict for each in found}
    assert verdicts == {"versions.redis": "fail", "versions.wrapt": "warn", "versions.packages": "ok"}
    young = versions.judge({"prometheus-client": "0.27.0"}, {}, {"prometheus-client": "0.26.0"})
    assert young[0].verdict == "warn"
    assert versions.oldest(["redis>=6; extra == 'all'", "smw[redis]; extra == 'all'"]) == {"redis": "6"}
    assert versions.oldest(["aiomcache<0.9,>=0.8.2", "a>=1,<2"]) == {"aiomcache": "0.8.2", "a": "1"}


def test_the_tested_versions_are_the_pinned_ones():
    """The table in the package holds each dependency with the version that the tests are pinned to."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    pins = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE))
    wanted = {name: pins[name] for name in versions.oldest(lines)}
    minors = re.findall(r'"(3\.\d+)"', re.search(r"^MATRIX = .*$", (ROOT / "noxfile.py").read_text(), re.MULTILINE)[0])
    assert versions.tested() == {"python": minors[-1], **wanted}


async def test_a_check_that_hangs_or_breaks_takes_no_other_with_it():
    """Each check has a deadline of its own; what it found before counts, and the rest is named as not checked."""

    async def hangs():
        yield Finding("a.first", "ok", "")
        await asyncio.Event().wait()

    async def breaks():
        raise ZeroDivisionError
        yield

    async def works():
        yield Finding("c", "ok", "")

    found = await run([Probe("a", hangs, 0.05), Probe("b", breaks), Probe("c", works)])
    assert [(each.name, each.verdict) for each in found] == [
        ("a.first", "ok"), ("a", "not checked"), ("b", "not checked"), ("c", "ok"),
    ]  # fmt: skip


def test_what_hangs_in_the_system_does_not_hold_up_the_end():
    """A name server that never answers keeps neither the event loop nor the interpreter from ending."""
    code = (
        "import asyncio, threading\nfrom smw.doctor.probe import in_daemon\n"
        "async def main():\n"
        "    try:\n        async with asyncio.timeout(0.1):\n            await in_daemon(threading.Event().wait)\n"
        "    except TimeoutError:\n        print('given up')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "given up\n"


async def test_errors_of_a_daemon_thread_arrive():
    """What the blocking function raises is raised where it is awaited."""
    with pytest.raises(ZeroDivisionError):
        await in_daemon(lambda: 1 // 0)


async def served(answer):
    """Start a server that answers everything with `answer`; returns it and its port."""

    async def serve(reader, writer):
        await reader.read(100)
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("answer", "verdict", "words"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", "ok", "answers 200"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "fail", "no OTLP receiver"),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "warn", "answers 401"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "warn", "answers 503"),
        (b"\x00\x00\x12\x04\x00\x00\x00", "fail", "no HTTP server"),
        (b"", "fail", "no HTTP server"),
    ],
)
async def test_a_collector_is_sent_an_export_without_spans(answer, verdict, words):
    """Its answer tells a collector from a wrong path, a login, and a port that speaks something else."""
    server, port = await served(answer)
    async with server:
        found = await collected(collector(f"http://127.0.0.1:{port}/v1/traces", "JAEGER_ENDPOINT"))
    assert [each.name for each in found] == ["monitor.otlp.resolve", "monitor.otlp.connect", "monitor.otlp.post"]
    assert (found[-1].verdict, words in found[-1].seen) == (verdict, True)
    assert verdict == "ok" or found[-1].fix


async def test_a_collector_behind_tls_that_is_none_is_named():
    """https:// against a plain port says that there is no TLS."""
    server, port = await served(b"HTTP/1.1 400 no\r\n\r\n")
    async with server:
        found = await collected(collector(f"https://127.0.0.1:{port}/v1/traces", "JAEGER_ENDPOINT"))
    assert found[1].verdict == "fail"
    assert "no TLS there" in found[1].seen
    assert found[-1].verdict == "not checked"


async def test_a_metrics_port_is_free_taken_or_ours():
    """A free port is well, a running smw on it too; another program there is a problem with the setting."""
    server, port = await served(b"hello")
    async with server:
        (taken,) = await collected(metrics_port("127.0.0.1", port, "PROMETHEUS_PORT"))
    (free,) = await collected(metrics_port("127.0.0.1", port, "PROMETHEUS_PORT"))
    ours, port = await served(b"HTTP/1.0 200 OK\r\n\r\n# HELP smw_x y\nsmw_x 1\n")
    async with ours:
        (own,) = await collected(metrics_port("0.0.0.0", port, "PROMETHEUS_PORT"))
    assert (taken.verdict, "PROMETHEUS_PORT" in taken.fix) == ("fail", True)
    assert (free.verdict, own.verdict) == ("ok", "ok")
    assert "running smw" in own.seen


async def test_a_host_without_an_address_is_named():
    """A name that does not resolve ends the check with the setting that holds it."""
    found = [finding async for finding, _ in reach(Place("x", "nowhere.invalid", 1, "HOST", "a server"))]
    assert [(each.name, each.verdict, each.fix) for each in found] == [
        ("x.resolve", "fail", "correct the host in HOST")
    ]


async def test_a_unix_socket_is_connected_by_its_path(tmp_path):
    """No host is looked up for a socket; a missing one names the path."""
    path = str(tmp_path / "s")

    async def serve(reader, writer):
        await reader.read(1)
        writer.write(b"yes\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_unix_server(serve, path)
    place = Place("x", "", 0, "URL", "a server", socket_path=path)
    async with server:
        steps = [step async for step in reach(place)]
        assert await ask(steps[-1][1], b"?", until=b"\n") == b"yes\n"
        hang_up(steps[-1][1])
    gone = [finding async for finding, _ in reach(Place("x", "", 0, "URL", "a server", socket_path=path + "2"))]
    assert (steps[-1][0].verdict, gone[0].verdict) == ("ok", "fail")


APP = """
import smw
from smw import cached, trace

smw.configure("testing", service="shop", monitor={{"prometheus_port": {port}}})

@cached(ttl=60)
@trace()
def price(sku: str) -> int:
    return 1
"""


def doctor_of(folder, *words):
    """Run the command in a folder and return its exit code and report."""
    env = CLEAN | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, "-m", "smw", "doctor", "--json", *words],
        cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout)


def test_an_application_brings_its_settings_and_stacks(tmp_path, unused_port):
    """--app takes what the application configured, tells order warnings, and does not stumble over its own listener."""
    (tmp_path / "shop.py").write_text(APP.format(port=unused_port))
    code, report = doctor_of(tmp_path, "--app", "shop:app")
    checks = {check["name"]: check for check in report["checks"]}
    assert code == 0
    assert checks["app.order"]["verdict"] == "warn"
    assert checks["app.order"]["fix"] == "put @trace on top"
    assert "service shop" in checks["settings.profile"]["seen"]
    assert "is free" in checks["monitor.prometheus_port"]["seen"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("from smw import cached, audit_log\n@cached(60)\n@audit_log('a')\ndef f(): ...\n", "app.order"),
        ("from smw import cached\ncached(ttl='60')\n", "app.import"),
        ("raise SystemExit(3)\n", "app.import"),
        ("import no_such_module_here\n", "app.import"),
    ],
)
def test_an_application_that_cannot_be_imported_is_a_problem(tmp_path, text, name):
    """An unsafe order and whatever else stops the import is the first finding."""
    (tmp_path / "shop.py").write_text(text)
    code, report = doctor_of(tmp_path, "--app", "shop")
    assert code == 1
    assert (report["checks"][0]["name"], report["checks"][0]["verdict"]) == (name, "fail")
    assert report["checks"][0]["fix"]


@pytest.fixture
def unused_port():
    """A loopback port that nobody has."""
    from tests.services.server import free_port

    return free_port()


@pytest.mark.timed
def test_the_whole_command_ends_within_its_bound(tmp_path):
    """With servers that never answer and hosts that do not resolve the command still ends in time."""
    env = CLEAN | {
        "CACHE_L2_URL": "redis://10.255.255.1:6379",
        "PIPELINE_REDIS_URL": "redis://nowhere.invalid",
        "CACHE_L3_SERVERS": "10.255.255.1:11211,10.255.255.2:11211",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://10.255.255.1:4318",
        "SECURITY_TRAIL_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
    }
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "smw", "doctor"], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    took = time.monotonic() - started
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert took < 5 * 2  # five seconds are promised; the machine of the tests may be busy


AUDITED = "from smw import audit_log, cached\n@cached(60)\ndef f(): ...\n@audit_log('a')\ndef pay(): ...\n"


@pytest.mark.parametrize("command", [("doctor",), ("config", "check")])
def test_production_without_a_folder_refuses_what_is_audited(tmp_path, monkeypatch, command):
    """The first audited call would be refused: with --app that is a problem, and without one a warning says so."""
    (tmp_path / "a_audited.py").write_text(AUDITED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def told(*words, **environ):
        result = CliRunner().invoke(app, [*command, "--json", *words], env=PRODUCTION | environ)
        checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
        return result.exit_code, checks

    try:
        code, checks = told("--app", "a_audited")
        assert (code, checks["app.audit"]["verdict"]) == (1, "fail")
        assert "a_audited:pay refuses to run" in checks["app.audit"]["seen"]
        assert "SECURITY_TRAIL_DIR" in checks["app.audit"]["fix"]
        code, checks = told("--app", "a_audited", SECURITY_TRAIL_DIR=str(tmp_path / "trail"))
        assert (code, "app.audit" in checks) == (0, False)
        code, checks = told("--app", "a_audited", SMW_PROFILE="development")
        assert (code, "app.audit" in checks) == (0, False)
        code, checks = told()
        assert (code, checks["settings.trail_dir"]["verdict"]) == (0, "warn")
        assert "--app" in checks["settings.trail_dir"]["fix"]
    finally:
        sys.modules.pop("a_audited", None)
        gc.collect()


def test_strict_makes_a_warning_a_problem():
    """Who wants none has them stop the deployment, and development has none."""
    strict = ["config", "check", "--strict"]
    assert CliRunner().invoke(app, strict, env=CLEAN).exit_code == 0
    result = CliRunner().invoke(app, strict, env=PRODUCTION)
    assert result.exit_code == 1
    assert "warn: no folder for the audit log" in result.stdout
    assert "settings are valid" not in result.stdout
    assert json.loads(CliRunner().invoke(app, [*strict, "--json"], env=PRODUCTION).stdout)["exit"] == 1


def test_workers_whose_cache_has_no_server_are_told():
    """Several workers without a server of the cache are a finding, and with one they are none."""
    told = [
        {each.name for each in examine_environment("testing", environ).findings if each.name == "process.drops"}
        for environ in ({"WEB_CONCURRENCY": "4"}, {"WEB_CONCURRENCY": "4", "CACHE_L2_URL": "memory://workers"})
    ]
    assert told == [{"process.drops"}, set()]
