"""What the command line prints and how it exits."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import smw
from smw.cli.app import app

RUNNER = CliRunner()
CLEAN = {"SMW_PROFILE": "testing"}


def _smw(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "smw", *args], capture_output=True, text=True, check=False, env={**CLEAN, **(env or {})}
    )


def test_the_version_is_one_line() -> None:
    """What a report of an error needs first: smw, Python and the system."""
    result = RUNNER.invoke(app, ["--version"])
    assert result.exit_code == 0
    wanted = rf"smw {re.escape(smw.__version__)}, Python {re.escape(platform.python_version())}, \S+\n"
    assert re.fullmatch(wanted, result.stdout)


def test_config_show_masks_and_names_sources() -> None:
    """Each setting shows its value and where it came from; secrets are masked."""
    result = RUNNER.invoke(app, ["config", "show", "--json"], env={**CLEAN, "CACHE_L2_URL": "redis://u:pw@h"})
    assert result.exit_code == 0
    rows = {row["name"]: row for row in json.loads(result.stdout)["settings"]}
    assert rows["cache.l2_url"]["value"] == "redis://***@h"
    assert rows["cache.l2_url"]["source"] == "environment CACHE_L2_URL"
    assert rows["monitor.metrics_push_gateway"]["used"] is False


def test_config_show_shows_what_an_application_configures(tmp_path, monkeypatch) -> None:
    """With --app the settings are those that the module gave, and named as it gave them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shown_app.py").write_text("import smw\nsmw.configure('testing', cache={'l1_size': 7})\n")
    result = RUNNER.invoke(app, ["config", "show", "--json", "--app", "shown_app"], env=CLEAN)
    rows = {row["name"]: row for row in json.loads(result.stdout)["settings"]}
    assert (rows["cache.l1_size"]["value"], rows["cache.l1_size"]["source"]) == ("7", "argument")


def test_config_show_prints_a_table_with_what_is_not_used_yet() -> None:
    """People get a table; a variable of a later feature says so."""
    result = RUNNER.invoke(app, ["config", "show"], env={**CLEAN, "METRICS_PUSH_GATEWAY": "http://h", "COLUMNS": "200"})
    assert result.exit_code == 0
    assert "(not yet used)" in result.stdout
    assert "METRICS_PUSH_GATEWAY" in result.stdout


def test_config_check_exits_1_for_a_wrong_or_misspelled_variable() -> None:
    """Right is 0, wrong and suspicious are 1, each naming the variable."""
    assert RUNNER.invoke(app, ["config", "check"], env=CLEAN).exit_code == 0
    wrong = RUNNER.invoke(app, ["config", "check"], env={**CLEAN, "BATCH_SIZE": "none"})
    assert (wrong.exit_code, "BATCH_SIZE" in wrong.stdout) == (1, True)
    near = RUNNER.invoke(app, ["config", "check"], env={**CLEAN, "CACHE_L2_ULR": "x"})
    assert (near.exit_code, "CACHE_L2_URL" in near.stdout) == (1, True)
    unknown = RUNNER.invoke(app, ["config", "check"], env={**CLEAN, "SMW_FOO": "x"})
    assert (unknown.exit_code, "SMW_FOO is not known" in unknown.stdout, "did you mean" in unknown.stdout) == (
        1, True, False,
    )  # fmt: skip


def test_explain_prints_the_stack_of_a_function(tmp_path: pytest.TempPathFactory) -> None:
    """module:function is imported from the current folder and explained."""
    (tmp_path / "shop.py").write_text("import smw\n\n@smw.cached(60)\ndef price(sku: str) -> int:\n    return 1\n")
    result = subprocess.run(
        [sys.executable, "-m", "smw", "explain", "shop:price"],
        capture_output=True, text=True, check=False, cwd=tmp_path, env={**CLEAN, "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "shop:price (function)" in result.stdout
    assert "cached" in result.stdout


@pytest.mark.parametrize("what", ["shop", "smw.errors:nothing", "no_such_module_here:f", "smw.errors:nearest"])
def test_expected_errors_leave_without_a_traceback(what: str) -> None:
    """Asking for something that is not there exits 2 with a message."""
    result = _smw("explain", what, env={"PYTHONPATH": ":".join(sys.path)})
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "[SMW-" in result.stderr


def test_without_typer_the_script_names_the_extra() -> None:
    """Where the extra is missing, the way to get it is printed and the exit code is 2."""
    code = "import sys; sys.modules['typer'] = None; from smw.__main__ import main; sys.exit(main())"
    env = {**CLEAN, "PYTHONPATH": ":".join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)
    assert result.returncode == 2
    assert 'pip install "smw[cli]"' in result.stderr
