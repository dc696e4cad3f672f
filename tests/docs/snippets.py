"""Runs what a page shows, in order and in one namespace: ``python snippets.py PAGE`` in an empty folder.

An HTML comment in front of a fenced block says what is special about it:

- ``<!-- snippet: skip: REASON -->``    shown, not run
- ``<!-- snippet: raises NAME -->``     must end with that exception
- ``<!-- snippet: prints -->``          what the block before printed; ``...`` stands for anything
- ``<!-- snippet: file: NAME -->``      a file that later blocks read
- ``<!-- snippet: exit N -->``          every command of the block exits with N
- ``<!-- snippet: serves ADDRESS... -->``  starts a server a line, which end with the page; their addresses are swapped
  for free ones, in shell blocks and files also where host and port, or the port alone, stand as words of their own

Python blocks may ``await`` at top level. In shell blocks ``smw``, ``pytest``, ``python``, ``curl``, ``openssl`` and
``redis-cli`` run,
``python3 noxfile.py SESSION`` and ``pip install "smw[EXTRA]"`` must name what exists, ``export`` holds for the rest of
the block, and other lines are only counted.

A page with ``<!-- servers: redis memcached -->`` is run beside real ones. It names them by the addresses that everybody
knows (`ADDRESSES`); those are swapped for the real ones before a block runs, and back in what it printed. A page with
``<!-- needs: cashews -->`` wants that package, which smw itself does not, and one with
``<!-- programs: openssl -->`` that program.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import importlib.metadata
import inspect
import io
import re
import shlex
import shutil
import sys
import types
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path

from tests.docs import commands
from tests.docs.commands import ROOT

__all__ = ["ADDRESSES", "ROOT", "Block", "Page", "blocks", "missing_for", "servers_of"]

ADDRESSES = {"redis": "127.0.0.1:6379", "memcached": "127.0.0.1:11211", "kafka": "127.0.0.1:9092"}
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


def servers_of(page: Path) -> list[str]:
    """Return the kinds of servers that a page wants beside it."""
    return _asked(page, "servers")


def missing_for(page: Path) -> list[str]:
    """Return the packages and programs that a page wants and that are not installed."""
    packages = [name for name in _asked(page, "needs") if not _is_installed(name)]
    return packages + [name for name in _asked(page, "programs") if shutil.which(name) is None]


def _asked(page: Path, what: str) -> list[str]:
    found = re.search(rf"^<!-- {what}: (.+?) -->$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1].split() if found else []


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


class Page:
    """The state that the blocks of one page share.

    Args:
        page: The file.
        places: Address on the page → address that stands for it.
    """

    def __init__(self, page: Path, places: dict[str, str] | None = None) -> None:
        self.path = page
        self.module = types.ModuleType("snippets_of_" + re.sub(r"\W", "_", page.stem))
        sys.modules[self.module.__name__] = self.module
        self.printed = ""
        self.places = dict(places or {})
        self.background = commands.Background(Path("servers.log").resolve())
        self.counts = {"python": 0, "shell": 0, "shown": 0, "compared": 0, "skipped": 0}

    def run(self) -> None:
        """Run every block; raises at the first that does not do what the page says."""
        found = blocks(self.path)
        served = [block.note.split()[1:] for block in found if block.note.startswith("serves")]
        self.places |= {address: commands.free_address() for each in served for address in each}
        try:
            with asyncio.Runner() as self.runner:
                for block in found:
                    self._tried(block)
            self.background.stop()
        finally:
            self.background.kill()

    def _tried(self, block: Block) -> None:
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
            path.write_text(self._with_ports(block.text), encoding="utf-8")
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

    def _real(self, text: str) -> str:
        for shown, real in self.places.items():
            text = text.replace(shown, real)
        return text

    def _with_ports(self, text: str) -> str:
        text = self._real(text)
        for shown, real in self.places.items():
            host, _, port = shown.rpartition(":")
            text = re.sub(rf"((?:port|-p|{re.escape(host)}) ){port}\b", rf"\g<1>{real.rpartition(':')[2]}", text)
        return text

    def _shown(self, text: str) -> str:
        for shown, real in self.places.items():
            text = text.replace(real, shown)
        return text

    def _python(self, block: Block) -> None:
        filename = str(self.path)
        text = "\n" * (block.line - 1) + self._real(block.text)
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
                self.printed = output.getvalue() or self.printed
                raise
            self.printed = self._shown(f"{output.getvalue()}{type(error).__name__}: {error}\n")
            return
        self.printed = self._shown(output.getvalue())
        assert not wanted, f"the block should raise {wanted}"

    def _shell(self, block: Block) -> None:
        expected = int(block.note.removeprefix("exit")) if block.note.startswith("exit") else 0
        serves = block.note.split()[1:] if block.note.startswith("serves") else []
        self.printed = ""
        env = commands.environment()
        for command in commands.lines_of(self._with_ports(block.text)):
            words, _ = commands.parted(command, env)
            if command.startswith("export "):
                env |= dict(word.split("=", 1) for word in shlex.split(command)[1:])
            elif serves:
                self.counts["shell"] += 1
                assert words[0] in commands.SERVE, f"{words[0]} cannot be started here"
                self.background.start(command, env, self.places[serves.pop(0)])
            elif words and words[0] in commands.RUN:
                self.counts["shell"] += 1
                code, printed = commands.run(command, env)
                self.printed += self._shown(printed)
                assert code == expected, f"{command}: exit {code}, not {expected}"
            else:
                self.counts["shown"] += 1
                commands.exists(command)


if __name__ == "__main__":
    page = Page(Path(sys.argv[1]), dict(word.split("=", 1) for word in sys.argv[2:]))
    page.run()
    print(" ".join(f"{name}={count}" for name, count in page.counts.items()))
