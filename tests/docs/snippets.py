"""Runs what a page shows, in order and in one namespace: ``python snippets.py PAGE`` in an empty folder.

An HTML comment in front of a fenced block says what is special about it:

- ``<!-- snippet: skip: REASON -->``    shown, not run
- ``<!-- snippet: raises NAME -->``     must end with that exception
- ``<!-- snippet: prints -->``          what the block before printed; ``...`` stands for anything
- ``<!-- snippet: file: NAME -->``      a file that later blocks read
- ``<!-- snippet: exit N -->``          every ``smw`` command of the block exits with N

Python blocks may ``await`` at top level. In shell blocks ``smw ...`` runs, ``python3 noxfile.py SESSION`` and
``pip install "smw[EXTRA]"`` must name what exists, ``export`` holds for the rest of the block, and other lines are only
counted.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
import types
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHELL = ("sh", "shell", "bash", "console")
_BLOCK = re.compile(
    r"(?:^<!-- snippet: (?P<note>[^\n]+?) -->\n\s*)?"
    r"^(?P<fence>```+)(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block: its first line in the page, its language, its text, and the note in front of it."""

    line: int
    language: str
    text: str
    note: str

    @property
    def skipped(self) -> str | None:
        """Return the reason for not running it, or None."""
        return self.note.removeprefix("skip:").strip() if self.note.startswith("skip") else None


def blocks(page: Path) -> list[Block]:
    """Find the fenced blocks of a page that are run, compared, written or deliberately skipped."""
    source = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(source):
        note = match["note"] or ""
        if note or match["language"] == "python" or match["language"] in SHELL:
            line = source.count("\n", 0, match.start("text")) + 1
            found.append(Block(line, match["language"], match["text"], note))
    return found


class Page:
    """The state that the blocks of one page share."""

    def __init__(self, page: Path) -> None:
        self.path = page
        self.module = types.ModuleType("snippets_of_" + re.sub(r"\W", "_", page.stem))
        sys.modules[self.module.__name__] = self.module
        self.printed = ""
        self.counts = {"python": 0, "shell": 0, "shown": 0, "compared": 0, "skipped": 0}

    def run(self) -> None:
        """Run every block; raises at the first that does not do what the page says."""
        with asyncio.Runner() as self.runner:
            for block in blocks(self.path):
                try:
                    self._one(block)
                except BaseException:
                    sys.stderr.write(f"\n{self.path.name}:{block.line}\n{block.text}\n{self.printed}")
                    raise

    def _one(self, block: Block) -> None:
        if block.skipped is not None:
            assert block.skipped, "a skipped snippet needs a reason"
            self.counts["skipped"] += 1
        elif block.note.startswith("file:"):
            path = Path(block.note.removeprefix("file:").strip())
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.note == "prints":
            self.counts["compared"] += 1
            same = doctest.OutputChecker().check_output(block.text, self.printed, doctest.ELLIPSIS)
            assert same, f"the page says:\n{block.text}\nbut it printed:\n{self.printed}"
        elif block.language == "python":
            self.counts["python"] += 1
            self._python(block)
        elif block.language in SHELL:
            self._shell(block)
        else:
            message = f"unknown note {block.note!r}"
            raise AssertionError(message)

    def _python(self, block: Block) -> None:
        filename = str(self.path)
        text = "\n" * (block.line - 1) + block.text
        code = compile(text, filename, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        wanted = block.note.removeprefix("raises").strip() if block.note.startswith("raises") else ""
        output = io.StringIO()
        try:
            with contextlib.redirect_stdout(output):
                function = types.FunctionType(code, self.module.__dict__)
                if code.co_flags & inspect.CO_COROUTINE:
                    pending: Coroutine[object, object, None] = function()
                    self.runner.run(pending)
                else:
                    function()
        except Exception as error:
            if type(error).__name__ != wanted:
                raise
            self.printed = f"{output.getvalue()}{type(error).__name__}: {error}\n"
            return
        finally:
            if output.getvalue():
                self.printed = output.getvalue()
        self.printed = output.getvalue()
        assert not wanted, f"the block should raise {wanted}"

    def _shell(self, block: Block) -> None:
        expected = int(block.note.removeprefix("exit")) if block.note.startswith("exit") else 0
        program = f"{shlex.quote(sys.executable)} -m smw "
        self.printed = ""
        env = dict(os.environ)
        for line in block.text.replace("\\\n", " ").splitlines():
            command = line.strip().removeprefix("$ ").partition("  #")[0].strip()
            if command.startswith("export "):
                env |= dict(word.split("=", 1) for word in shlex.split(command)[1:])
            elif found := re.match(r"(?P<set>(?:[A-Z0-9_]+=\S+ )*)smw (?P<words>.+)", command):
                self.counts["shell"] += 1
                whole = found["set"] + program + found["words"]
                done = subprocess.run(whole, shell=True, env=env, capture_output=True, text=True, check=False)
                self.printed += done.stdout + done.stderr
                assert done.returncode == expected, f"{command}: exit {done.returncode}, not {expected}"
            elif command and not command.startswith("#"):
                self.counts["shown"] += 1
                _exists(command)


def _exists(command: str) -> None:
    """Check that a session or an extra that a page names exists."""
    if session := re.search(r"noxfile\.py ((?:[a-z_]+ ?)+)", command):
        known = re.findall(r"@nox\.session.*\n +def (\w+)", (ROOT / "noxfile.py").read_text(encoding="utf-8"))
        assert set(session[1].split()) <= set(known), f"no such session: {session[1]}"
    if extras := re.search(r"smw\[([\w,]+)\]", command):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert set(extras[1].split(",")) <= set(project["optional-dependencies"]), f"no such extra: {extras[1]}"


if __name__ == "__main__":
    page = Page(Path(sys.argv[1]))
    page.run()
    print(" ".join(f"{name}={count}" for name, count in page.counts.items()))
