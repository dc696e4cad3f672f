"""The same rows in a pipe, on a wide and on a narrow terminal, with and without colours."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from smw.cli import output
from smw.cli.app import app

pty = pytest.importorskip("pty")
CLEAN = {"SMW_PROFILE": "testing"}
ROWS = [("cache.l2.connect", "fail", "a" * 90, "start it"), ("process.workers", "ok", "1 worker", "")]


def on_terminal(width, *words, **environ):
    """Run `smw` on a terminal of that width and return what it shows."""
    ours, theirs = pty.openpty()
    env = CLEAN | {"PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": str(width), "TERM": "xterm-256color"} | environ
    with subprocess.Popen([sys.executable, "-m", "smw", *words], stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                more = os.read(ours, 65_536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not more:
                break
            shown += more
        process.wait(30)
    os.close(ours)
    return shown.decode().replace("\r\n", "\n")


def test_a_pipe_gets_whole_rows(capsys):
    """One line a row, columns in line, no colour, the long cell whole."""
    output.as_table("title", ("check", "verdict", "seen", "fix"), ROWS, marks=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "title"
    assert len(lines) == 4
    assert "a" * 90 + "  start it" in lines[2]
    assert lines[3] == "process.workers   ok       1 worker"


def test_what_steers_a_terminal_is_shown_as_escapes(capsys):
    """Names and texts from a server neither move the cursor, nor end a row, nor turn what is read around."""
    cells = ("\x1b[31mred\x07", "ok", "two\nlines\u202e", "caf\u00e9 \u3000\udc80")
    output.as_table("\x1b]0;title\x07", ("check", "verdict", "seen", "fix"), [cells], marks=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "\\x1b]0;title\\x07"
    assert lines[2].split() == ["\\x1b[31mred\\x07", "ok", "two\\nlines\\u202e", "caf\u00e9", "\\udc80"]
    assert output.shown("a\n\x1b[2J", lines=True) == "a\n\\x1b[2J"


def test_letters_of_two_columns_keep_columns_in_line(capsys):
    """A terminal shows some letters twice as wide as others, and a pipe may lead to one."""
    output.as_table("", ("check", "seen"), [("\u6f22\u5b57", "one"), ("four", "two")])
    assert capsys.readouterr().out.splitlines() == ["check  seen", "\u6f22\u5b57   one", "four   two"]


def test_a_wide_terminal_gets_a_table_and_colours():
    """Names are not broken, verdicts have colours."""
    shown = on_terminal(140, "doctor", CACHE_L2_ULR="x")
    assert "\x1b[31m" in shown
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert re.search(r"^settings.unknown +fail +CACHE_L2_ULR is not known to smw", plain, re.MULTILINE)


def test_a_narrow_terminal_gets_blocks():
    """Each row is a short block, so that nothing is squeezed into columns of a few letters."""
    shown = on_terminal(60, "config", "show", NO_COLOR="1")
    assert re.search(r"^cache.l1_size  1000\n    from: default\n    variable: CACHE_L1_SIZE\n", shown, re.MULTILINE)


@pytest.mark.parametrize("width", [60, 140])
def test_no_color_is_obeyed(width):
    """With NO_COLOR there is no colour, on any terminal."""
    shown = on_terminal(width, "doctor", NO_COLOR="1", CACHE_L2_ULR="x")
    assert "CACHE_L2_ULR" in shown
    assert re.findall(r"\x1b\[(?:\d+;)*3\d", shown) == []


def test_config_show_json_is_stable():
    """The fields that programs read are these; --changed leaves defaults out."""
    result = CliRunner().invoke(app, ["config", "show", "--json", "--changed"], env=CLEAN | {"BATCH_SIZE": "5"})
    shown = json.loads(result.stdout)
    assert sorted(shown) == ["profile", "schema", "settings", "suspicious"]
    assert (shown["schema"], shown["profile"]) == (1, "testing")
    assert {tuple(sorted(row)) for row in shown["settings"]} == {
        ("about", "name", "source", "used", "value", "variable")
    }
    names = {row["name"]: row for row in shown["settings"]}
    assert names["pipeline.batch_size"]["source"] == "environment BATCH_SIZE"
    assert all(row["source"] != "default" for row in names.values())


def test_config_check_json_is_that_of_doctor():
    """Both reports have one shape, so that one reader serves both."""
    result = CliRunner().invoke(app, ["config", "check", "--json"], env=CLEAN | {"BATCH_SIZE": "none"})
    report = json.loads(result.stdout)
    assert sorted(report) == ["checks", "counts", "exit", "profile", "schema"]
    assert (result.exit_code, report["exit"], report["checks"][0]["name"]) == (1, 1, "settings.values")


def test_config_check_says_what_a_part_would_refuse():
    """What only shows when a part is built is found without a server."""
    environ = {"SMW_PROFILE": "production", "CACHE_ENCRYPTION": "true"}
    result = CliRunner().invoke(app, ["config", "check"], env=environ)
    assert result.exit_code == 1
    assert "fail: cache setting 'encryption' is on, but there is no key" in result.stdout
    assert "openssl rand" in result.stdout


def test_explain_json_and_nearest_name():
    """--json gives a stack to programs; a misspelled function gets the nearest name."""
    result = CliRunner().invoke(app, ["explain", "smw.errors:nearst"])
    assert "Did you mean 'nearest'?" in str(result.exception)
