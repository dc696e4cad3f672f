"""Users' type checkers see through every decorator: the decorated function has the type of the plain one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.typing_api.checkers import CHECKERS, Report, complaints

SAMPLES = Path(__file__).parent / "samples"
DECORATORS = {
    "cached": 'cache.cached(ttl=60, tags=["t"])',
    "invalidate": 'cache.invalidate(tags=["t"])',
    "writes": "cache.writes(cache.cached(ttl=60)(int))",
    "trace": 'monitor.trace("span")',
    "track_business_metric": 'monitor.track_business_metric("metric")',
    "require_compliance": 'security.require_compliance(["GDPR", "SOX"])',
    "audit_log": 'security.audit_log("access")',
    "stream_process": 'pipeline.stream_process("events")',
    "batch_transform": 'pipeline.batch_transform("rows")',
    "cached_of_object": "cache.Cache().cached(ttl=60)",
    "trace_of_object": 'monitor.Monitor().trace("span")',
    "audit_log_of_object": 'security.Security().audit_log("access")',
    "stream_process_of_object": 'pipeline.Pipeline().stream_process("events")',
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """One file per decorator, and the file of the public functions."""
    folder = tmp_path_factory.mktemp("typing")
    shapes = (SAMPLES / "shapes.py").read_text(encoding="utf-8")
    texts = {name: shapes.replace("DECORATOR", decorator) for name, decorator in DECORATORS.items()}
    texts["public"] = (SAMPLES / "public.py").read_text(encoding="utf-8")
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return folder, texts


@pytest.fixture(scope="module", params=CHECKERS)
def reports(request, sources):
    """What one checker says about all the files; each checker runs once."""
    folder, texts = sources
    return CHECKERS[request.param](folder, [folder / f"{name}.py" for name in texts])


@pytest.mark.parametrize("name", [*DECORATORS, "public"])
def test_types_are_kept(sources, reports, name):
    """Every shape keeps its type under the decorator, right calls pass, and wrong ones are refused."""
    source = sources[1][name]
    assert complaints(source, reports.get(f"{name}.py", Report())) == []


def test_the_harness_notices(sources):
    """A decorator that loses the type, and an error that is not reported, are both noticed."""
    source = "reveal_type(f)\nreveal_type(d(f))  # same\nf('x')  # error\n"
    lost = Report(revealed={1: "def (x: int) -> int", 2: "def (*Any, **Any) -> int"})
    assert len(complaints(source, lost)) == 2
    kept = Report(revealed={1: "def (x: int) -> int", 2: "def (x: int) -> int"}, errors={3: "wrong argument"})
    assert complaints(source, kept) == []
