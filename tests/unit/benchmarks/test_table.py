"""The table of the benchmarks: what meets a target, what is compared, and what was not measured."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import without
from benchmarks._chart import draw
from benchmarks._table import Row, absent, compared, in_turns, meets, render

OURS = Row("hit", "smw", 150.0, "ns", 0.38, "<= 0.5")


@pytest.mark.parametrize(
    ("target", "verdict"),
    [("<= 0.5", True), ("<= 0.3", False), (">= 0.3", True), ("<= 100 ns", False), ("<= 200 ns", True), (None, None)],
)
def test_a_target_without_a_unit_is_about_the_ratio(target, verdict):
    """`<= 0.5` limits the ratio to the peer, `<= 200 ns` the figure itself."""
    assert meets(Row("hit", "smw", 150.0, "ns", 0.38, target)) is verdict


@pytest.mark.parametrize("target", ["0.5", "< 0.5", "<= 5 ms"])
def test_a_target_that_cannot_be_judged_is_an_error(target):
    """One in another unit, or of another form, is never silently met."""
    with pytest.raises(ValueError, match="target"):
        meets(Row("hit", "smw", 150.0, "ns", 0.38, target))


def test_what_was_not_measured_is_listed_and_never_judged():
    """A peer that is missing has a line, says so, and neither meets nor misses anything."""
    row = absent("hit", "cachebox")
    assert meets(row) is None
    assert "not measured" in render([OURS, row]).splitlines()[-1]


def test_systems_are_compared_with_one_peer():
    """Every ratio is to that peer's figure; without it there are figures, no ratios, and no targets about them."""
    rows = compared("hit", {"peer": 4.0, "gone": None, "smw": 1.0}, "us", "peer", {"smw": "<= 0.5"})
    assert [(row.system, row.ratio) for row in rows] == [("peer", 1.0), ("gone", None), ("smw", 0.25)]
    assert meets(rows[2]) is True
    alone = compared("hit", {"peer": None, "smw": 1.0}, "us", "peer", {"smw": "<= 0.5"})[1]
    assert (alone.ratio, alone.target) == (None, None)


def test_rounds_go_over_the_systems_in_turn():
    """So that a busy moment hits them all; `min` picks the quietest round of each."""
    order = []
    figures = iter([5.0, 6.0, 1.0, 9.0])

    def system(name):
        def once():
            order.append(name)
            return next(figures)

        return once

    assert in_turns({"a": system("a"), "b": system("b")}, 2, min) == {"a": 1.0, "b": 6.0}
    assert order == ["a", "b", "a", "b"]


def test_there_is_no_chart_of_nobody_beside_us(tmp_path):
    """Our own figure alone is not drawn."""
    assert "nothing" in draw([OURS, absent("hit", "cachebox")], tmp_path / "chart.png")
    assert not (tmp_path / "chart.png").exists()


@pytest.mark.parametrize(
    ("name", "says"), [("smw._kernel.flight", "failed"), ("cachebox", "not measured"), (None, "not measured")]
)
def test_an_import_that_fails_within_smw_is_a_failure(name, says):
    """A peer or server that is not here leaves a gap; a module of ours that cannot be imported fails the run."""
    assert without(ImportError("cannot import it", name=name)).startswith(says)
