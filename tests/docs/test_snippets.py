"""README and documentation do what they show: every snippet runs, page by page, in a fresh interpreter."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.docs.snippets import ADDRESSES, ROOT, Page, blocks, missing_for, servers_of
from tests.services.locate import in_ci

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "_build" not in page.parts]
SETTINGS = re.compile(r"SMW_|CACHE_|MONITOR_|SECURITY_|PIPELINE_|WEB_|OTEL_|PROMETHEUS_|JAEGER_|KAFKA_|COMPLIANCE_")


def clean_environment():
    """Return the environment without anything that smw would read as a setting, and with this checkout's smw."""
    kept = {name: value for name, value in os.environ.items() if not SETTINGS.match(name)}
    return kept | {"PYTHONPATH": str(ROOT)}


def run_page(page, folder, *places, **more):
    """Run the snippets of a page in an interpreter of their own, warnings being errors."""
    script = ROOT / "tests" / "docs" / "snippets.py"
    patience = {"CACHE_BUDGET_MS": "5000"} if places else {}  # a busy machine is not what a page is about
    return subprocess.run(
        [sys.executable, "-W", "error", str(script), str(page), *places],
        cwd=folder,
        env=clean_environment() | patience | more,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def programs_of(servers):
    """Return the environment in which the programs of these servers, and those beside them, are found by name."""
    found = [server.found for server in servers.values() if server.found.program is not None]
    path = os.pathsep.join([*(str(each.program.parent) for each in found), os.environ.get("PATH", "")])
    return {name: value for each in found for name, value in each.env.items()} | {"PATH": path}


def name_of(page):
    """Return the path of a page from the root of the checkout."""
    return page.relative_to(ROOT).as_posix()


def page_with(folder, text):
    """Write a page for a test of the runner itself."""
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


def with_servers(page):
    """Return the page as a parameter, marked with the servers that it wants."""
    return pytest.param(page, id=name_of(page), marks=[pytest.mark.service(name) for name in servers_of(page)])


@pytest.fixture(scope="module")
def begun(request, tmp_path_factory):
    """Pages that want no server, two at a time: page → future. They are asked for one after the other."""
    items = [item for item in request.session.items if item.originalname == "test_every_snippet_runs"]
    pages = [item.callspec.params["page"] for item in items]
    pages = [page for page in pages if not servers_of(page) and not missing_for(page)]
    pool = ThreadPoolExecutor(2)
    yield {page: pool.submit(run_page, page, tmp_path_factory.mktemp("page")) for page in pages}
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("page", [with_servers(page) for page in PAGES if blocks(page)])
def test_every_snippet_runs(page, begun, tmp_path, request):
    """The snippets of the page run in order and print what the page says they print."""
    if missing := missing_for(page):
        (pytest.fail if in_ci() else pytest.skip)(f"NOT RUN: not installed: {', '.join(missing)}")
    servers = {kind: request.getfixturevalue(f"{kind}_server") for kind in servers_of(page)}
    places = [f"{ADDRESSES[kind]}={server.address}" for kind, server in servers.items()]
    done = begun[page].result() if page in begun else run_page(page, tmp_path, *places, **programs_of(servers))
    assert done.returncode == 0, done.stderr[-6000:]


def test_skipped_snippets_are_few_and_say_why(capsys):
    """A snippet is left out only with a reason, and the number is shown: at most one in ten."""
    found = [(page, block) for page in PAGES for block in blocks(page)]
    skipped = [(page, block) for page, block in found if block.skipped is not None]
    pythons = sum(block.language == "python" for _, block in found)
    with capsys.disabled():
        print(f"\nsnippets   {pythons} in Python, {len(found) - pythons} others, {len(skipped)} skipped")
        for page, block in skipped:
            print(f"           {name_of(page)}:{block.line} skipped: {block.skipped}")
    assert all(block.skipped for _, block in skipped)
    assert len(skipped) * 10 <= len(found)


def test_the_packages_that_a_page_needs_are_looked_for(tmp_path):
    """A page says which packages and programs it wants; those that are installed are not missing."""
    assert missing_for(page_with(tmp_path, "<!-- needs: pytest no-such-package -->\n")) == ["no-such-package"]
    assert missing_for(page_with(tmp_path, "<!-- programs: sh no-such-program -->\n")) == ["no-such-program"]


@pytest.mark.parametrize(
    ("in_continuous_integration", "end"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)]
)
def test_a_page_without_its_packages_is_told(in_continuous_integration, end, tmp_path, monkeypatch):
    """A page that cannot run for want of a package is a visible skip, and a failure in CI."""
    monkeypatch.setenv("CI", in_continuous_integration)
    page = page_with(tmp_path, "<!-- needs: no-such-package -->\n")
    with pytest.raises(end, match="NOT RUN: not installed: no-such-package"):
        test_every_snippet_runs(page, {}, tmp_path, None)


def test_the_runner_sees_a_snippet_that_fails(tmp_path):
    """A page whose snippet raises is a failing page, and the failure names file and line."""
    done = run_page(page_with(tmp_path, "text\n\n```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n"), tmp_path)
    assert done.returncode == 1
    assert re.search(r'page\.md", line 8', done.stderr)


def test_the_runner_starts_servers_and_swaps_their_addresses(tmp_path, monkeypatch):
    """What a page serves is asked at the address it shows, prints that address, and is gone when the page ends."""
    monkeypatch.chdir(tmp_path)
    serve = "python -c 'import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=int(\"127.0.0.1:8765\"[10:]))'"
    text = (
        "<!-- snippet: file: a.txt -->\n```text\nhello 127.0.0.1:8765\n```\n"
        f"<!-- snippet: serves 127.0.0.1:8765 -->\n```sh\n{serve}\n```\n"
        "```sh\ncurl -i -H 'x: y' http://127.0.0.1:8765/a.txt\n```\n"
        "<!-- snippet: prints -->\n```text\nHTTP/1.1 200 OK\n...\nhello 127.0.0.1:8765\n```\n"
    )
    page = Page(page_with(tmp_path, text))
    page.run()
    assert page.counts == {"python": 0, "shell": 2, "shown": 0, "compared": 1, "skipped": 0}
    host, _, port = page.places["127.0.0.1:8765"].rpartition(":")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((host, int(port)), 1)


@pytest.mark.parametrize(
    "text",
    [
        "<!-- snippet: serves 127.0.0.1:8765 -->\n```sh\nsmw nonsense\n```\n",
        "```python\nprint(1)\n```\n<!-- snippet: prints -->\n```text\n2\n```\n",
        "<!-- snippet: raises ValueError -->\n```python\nint('1')\n```\n",
        "<!-- snippet: raises ValueError -->\n```python\n1 / 0\n```\n",
        "<!-- snippet: skip: -->\n```python\n1\n```\n",
        "```sh\nsmw nonsense\n```\n",
        "```sh\npython3 noxfile.py nonsense\n```\n",
        '```sh\npip install "smw[nonsense]"\n```\n',
    ],
)
def test_the_runner_sees_a_page_that_lies(text, tmp_path, monkeypatch):
    """Output, exceptions, exit codes, sessions and extras that are not as the page says fail it."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises((AssertionError, ZeroDivisionError)):
        Page(page_with(tmp_path, text)).run()


def test_the_runner_shares_names_files_and_output(tmp_path, monkeypatch):
    """Blocks of a page share one namespace, may await, read the page's files, and compare what was printed."""
    text = (
        "<!-- snippet: file: a.txt -->\n```text\nhello\n```\n"
        "```python\nimport asyncio, pathlib\nawait asyncio.sleep(0)\nx = pathlib.Path('a.txt').read_text()\n```\n"
        "```python\nprint(x, 12)\n```\n<!-- snippet: prints -->\n```text\nhello\n ...\n```\n"
        "<!-- snippet: raises ZeroDivisionError -->\n```python\n1 / 0\n```\n"
    )
    monkeypatch.chdir(tmp_path)
    page = Page(page_with(tmp_path, text))
    page.run()
    assert page.counts == {"python": 3, "shell": 0, "shown": 0, "compared": 1, "skipped": 0}
