"""The security part: settings, facts, closing, what importing costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from smw import errors, security
from smw._kernel.host import Host
from smw.security import Security
from smw.security.trail.verify import verify


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"audit_levl": "LOW"}, "Did you mean 'audit_level'"),
        ({"audit_level": "NONE"}, "audit_level"),
        ({"rate_limit": "many"}, "no rate"),
        ({"trusted_proxies": ["x"]}, "trusted_proxies"),
        ({"digest_key": "short"}, "digest_key"),
    ],
)
def test_wrong_settings_are_refused(options, hint):
    """A wrong setting is one error that names it, when the part is made."""
    with pytest.raises(errors.ConfigError, match=hint):
        Security(options)


def test_making_a_part_touches_no_disk(tmp_path):
    """The folder appears with the first record, not with the part."""
    part = Security(trail_dir=tmp_path / "trail")
    assert not (tmp_path / "trail").exists()
    part.audit_log("x")(lambda: 1)()
    assert (tmp_path / "trail").exists()
    part.close()


async def test_closing_is_idempotent_and_awaitable(tmp_path):
    """Closing twice, in either way, is fine; the log is sealed."""
    part = Security(trail_dir=tmp_path)
    part.audit_log("x")(lambda: 1)()
    await part.aclose()
    await part.aclose()
    part.close()
    assert verify(tmp_path).status == "ok"


def test_calls_after_closing(tmp_path):
    """After closing, enforced calls are refused and watched ones run."""
    strict = Security(trail_dir=tmp_path / "a", mode="enforce")
    watching = Security(trail_dir=tmp_path / "b", mode="shadow")
    calls = [part.audit_log("x")(lambda: 1) for part in (strict, watching)]
    strict.close()
    watching.close()
    with pytest.raises(errors.AuditUnavailable, match="closed"):
        calls[0]()
    assert calls[1]() == 1


def test_facts_count_without_names(tmp_path):
    """Figures for the monitor: failures by control, records, calls without a record; nothing personal in labels."""
    host = Host()
    part = Security(catalogue={"fields": {"user_id": "personal"}}, host=host, trail_dir=tmp_path)
    part.require_compliance(["GDPR"])(lambda user_id: 1)("ada")
    facts = {(fact.name, fact.labels): fact.value for fact in host.facts}
    assert facts["smw_compliance_failures_total", (("control", "gdpr.purpose"), ("outcome", "shadowed"))] == 1
    assert facts["smw_audit_records_total", ()] == 3
    assert facts["smw_audit_unrecorded_total", ()] == 0
    part.close()
    assert list(host.facts) == []


def test_catalogue_may_be_a_file(tmp_path):
    """A path of a TOML file is a catalogue too, also as text."""
    (tmp_path / "data.toml").write_text('[fields]\nuser_id = "personal"\n')
    part = Security(catalogue=str(tmp_path / "data.toml"))
    assert part.catalogue is not None
    assert part.catalogue.fields == {"user_id": "personal"}
    part.close()


def test_wrong_catalogue_is_an_error_at_the_first_call():
    """A catalogue that cannot be read refuses the call, under shadow too: it is a mistake in the settings."""
    part = Security(catalogue={"fields": {"user_id": "nonsense"}})
    with pytest.raises(errors.ConfigError, match="nonsense"):
        part.require_compliance(["GDPR"])(lambda user_id: 1)(1)
    part.close()


def test_public_names():
    """The names that users rely on exist, and a wrong one is an AttributeError."""
    assert set(security.__all__) >= {"Security", "acting", "audit_log", "require_compliance", "verify"}
    assert set(dir(security)) == set(security.__all__)
    with pytest.raises(AttributeError, match="nope"):
        _ = security.nope


IMPORTS = """
import sys
from smw import security
@security.audit_log("x", resource="p:{n}")
@security.require_compliance(["GDPR"])
def f(n): ...
print(*[m for m in sys.modules if m.partition(".")[0] in ("pydantic", "cryptography", "wrapt")
        or m in ("asyncio", "smw.security.trail.log", "smw.security.compliance.engine", "smw.settings")])
"""


def test_decorating_loads_nothing_heavy():
    """Importing and decorating load no settings, no controls, no log and none of their libraries."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


LEFT_OPEN = """
import sys
from smw.security import Security
part = Security(trail_dir=sys.argv[1], audit_level="LOW")
f = part.audit_log("x")(lambda: 1)
for _ in range(100):
    f()
"""


def test_a_part_that_nobody_closes_is_sealed_at_exit(tmp_path: Path):
    """At the end of the interpreter buffered records are written and sealed."""
    subprocess.run([sys.executable, "-W", "error", "-c", LEFT_OPEN, str(tmp_path)], check=True)
    found = verify(tmp_path)
    assert (found.status, found.records) == ("ok", 101), str(found)
