"""What counts as a difference, and that reasons cannot outlive what they explain."""

from __future__ import annotations

from tests.invisible.accepted import ACCEPTED
from tests.invisible.compare import Accepted, compare
from tests.invisible.running import PLUGINS
from tests.invisible.suites import SUITES

ROW = Accepted("a.py::test_one", ("outside",), "because")


def test_same_outcomes_are_clean():
    """Failing without smw and with it is no difference."""
    ended = {"a.py::test_one": "passed", "a.py::test_two": "failed"}
    assert compare(ended, dict(ended), (), way="outside").is_clean


def test_every_other_end_is_a_difference():
    """Passing instead of failing, being skipped and not being there at all count as much as failing does."""
    without = {"a": "passed", "b": "failed", "c": "xfailed", "d": "passed"}
    with_smw = {"a": "skipped", "b": "passed", "c": "xfailed", "e": "passed"}
    verdict = compare(without, with_smw, (), way="outside")
    assert [(found.test, found.without, found.with_smw) for found in verdict.unexplained] == [
        ("a", "passed", "skipped"), ("b", "failed", "passed"), ("d", "passed", None), ("e", None, "passed"),
    ]  # fmt: skip
    assert not verdict.is_clean


def test_a_reason_covers_a_test_with_all_its_parameters():
    """One row speaks for a parametrised test, not for others whose name begins alike."""
    without = {"a.py::test_one[x]": "passed", "a.py::test_one_more": "passed"}
    verdict = compare(without, dict.fromkeys(without, "failed"), (ROW,), way="outside")
    assert [found.test for found in verdict.unexplained] == ["a.py::test_one_more"]


def test_a_reason_holds_for_its_ways_only():
    """What is accepted outside is not thereby accepted inside."""
    verdict = compare({"a.py::test_one": "passed"}, {"a.py::test_one": "failed"}, (ROW,), way="inside")
    assert len(verdict.unexplained) == 1
    assert verdict.stale == ()


def test_a_reason_that_explains_nothing_is_stale():
    """A row whose difference has gone has to go as well."""
    verdict = compare({"a.py::test_one": "passed"}, {"a.py::test_one": "passed"}, (ROW,), way="outside")
    assert verdict.stale == (ROW,)
    assert not verdict.is_clean


def test_every_suite_is_whole():
    """A suite has its plugins and a table of reasons, and no reason is for a way that is not run."""
    assert ACCEPTED.keys() == SUITES.keys()
    for name, suite in SUITES.items():
        assert all((PLUGINS / f"{module}.py").is_file() for module in (suite.plugin, *suite.needs))
        assert all(set(row.ways) <= set(suite.ways) for row in ACCEPTED[name])
