"""What README and documentation name exists: files, settings, variables; the first screen stays a first screen."""

from __future__ import annotations

import re
import tomllib

import pytest

from smw.environment import variables
from smw.settings import PARTS
from tests.docs.snippets import ROOT, blocks
from tests.docs.test_snippets import PAGES, SETTINGS, name_of

OF_THE_CHECKS = {"SMW_SERVICES", "SMW_PORTS", "SMW_ALLOW_MISSING", "SMW_UPDATE_SNAPSHOTS", "SMW_RESULT"}
MOVING_PORTS = set(re.findall(r"SMW_[A-Z]+_PORT", (ROOT / "compose.yaml").read_text(encoding="utf-8")))
NOT_OURS = {"WEB_CONCURRENCY", "CACHE_L2_ULR"}  # the workers of gunicorn and uvicorn; the typo that the pages show
README = ROOT / "README.md"


def test_links_of_the_readme_lead_somewhere():
    """Every relative link of the README is a file of the checkout, or a heading of the page."""
    text = README.read_text(encoding="utf-8")
    lines = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    headings = {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in lines}
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert targets
    assert [t for t in targets if t.startswith("#") and t[1:] not in headings] == []
    files = [t.partition("#")[0] for t in targets if not t.startswith(("#", "http"))]
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_variables_that_the_pages_name_exist():
    """A variable in a page is one that smw reads, in one of its two spellings."""
    plain = {variable.name for variable in variables()}
    known = plain | {f"SMW_{name}" for name in plain} | {"OTEL_SERVICE_NAME"} | OF_THE_CHECKS | MOVING_PORTS
    named = [
        (name_of(page), name)
        for page in PAGES
        for name in re.findall(r"`([A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+)`", page.read_text(encoding="utf-8"))
        if SETTINGS.match(name)
    ]
    assert [(page, name) for page, name in named if name not in known] == []


def test_variables_of_the_blocks_exist():
    """What a page exports, or gives to a container, is a variable that smw reads."""
    plain = {variable.name for variable in variables()}
    known = plain | {f"SMW_{name}" for name in plain} | MOVING_PORTS | NOT_OURS
    set_here = re.compile(r"(?:^|\s)([A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+)(?:=|: )")
    named = [
        (name_of(page), name)
        for page in PAGES
        for block in blocks(page)
        if block.language in ("sh", "bash", "yaml", "dockerfile")
        for name in set_here.findall(block.text)
        if SETTINGS.match(name)
    ]
    assert len(named) > 10
    assert [(page, name) for page, name in named if name not in known] == []


def test_the_settings_page_has_every_part():
    """The reference is generated from the models, part by part, and leaves none out."""
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert re.findall(r"^```\{smw-settings\} (\w+)$", text, re.MULTILINE) == ["runtime", *PARTS]


def test_the_first_screen_is_one_screen():
    """The README opens with five bullets, one example of at most 12 lines, and the two commands."""
    text = README.read_text(encoding="utf-8")
    screen = text.partition("\n## ")[0]
    assert len(re.findall(r"^- \*\*", screen, re.MULTILINE)) == 5
    example, commands = blocks(README)[:2]
    assert len(example.text.splitlines()) <= 12
    assert re.findall(r"^python3 noxfile\.py (\w+)", commands.text, re.MULTILINE) == ["demo", "tests"]


def test_the_version_matrix_is_that_of_the_project():
    """The oldest versions are those of pyproject.toml, the tested ones those of constraints.txt and the matrix."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    oldest = dict(line.partition(",")[0].split(">=") for line in wanted if ">=" in line)
    tested = dict(
        re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    )
    matrix = README.read_text(encoding="utf-8").partition("\n## Versions\n")[2].partition("\n## ")[0]
    rows = {cells[0]: cells[1:] for cells in re.findall(r"^\| (\S.*?) \| (.+?) \| (.+?) \|$", matrix, re.MULTILINE)}
    packages = {
        "FastAPI": ["fastapi"],
        "redis-py": ["redis"],
        "aiomcache, pymemcache": ["aiomcache", "pymemcache"],
        "cryptography": ["cryptography"],
        "OpenTelemetry API and SDK": ["opentelemetry-sdk"],
        "pydantic": ["pydantic"],
    }
    for title, names in packages.items():
        assert rows[title] == (", ".join(oldest[n] for n in names), ", ".join(tested[n] for n in names)), title
    minors = re.findall(r'"(3\.\d+)"', re.search(r"^MATRIX = .*$", (ROOT / "noxfile.py").read_text(), re.MULTILINE)[0])
    assert rows["Python"] == (project["requires-python"].removeprefix(">="), ", ".join(minors))


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("KAFKA_BROKERS", "no Kafka stream"),
        ("METRICS_PUSH_GATEWAY", "Pushgateway"),
        ("THREAT_DETECTION_ENABLED", "threat detectors"),
    ],
)
def test_the_readme_says_what_is_not_there_yet(variable, words):
    """What a setting waits for is named as missing, and no longer once something acts on it."""
    missing = README.read_text(encoding="utf-8").partition("\n## What smw does not do yet\n")[2]
    used = next(known.used for known in variables() if known.name == variable)
    assert (words in missing) is not used
