"""The fault table: how its scenarios become figures, and what its worker counts."""

from __future__ import annotations

import time

import pytest

from benchmarks import cache_faults
from benchmarks._fault_worker import PAD, Watch

CALM = dict.fromkeys(cache_faults.COLUMNS, 0)


def test_sums_and_worst_leave_out_what_the_machine_adds(monkeypatch):
    """Errors add up over the scenarios, late calls are those of the worst one, and `none` is in neither."""
    monkeypatch.setattr(cache_faults, "SYSTEMS", {"redis-py": "redis", "smw, sync": "smw"})
    sick = {"redis-py": CALM | {"errors": 3, "over 100 ms": 90}, "smw, sync": CALM | {"over 100 ms": 4}}
    sicker = {"redis-py": CALM | {"errors": 2, "over 100 ms": 10}, "smw, sync": CALM | {"over 100 ms": 11}}
    told = {"none": {name: CALM | {"over 100 ms": 99} for name in sick}, "sigstop": sick, "reset": sicker}
    rows = {(row.task.partition(", ")[2], row.system): row for row in cache_faults._rows(told)}
    assert rows["errors in all", "redis-py"].value == 5
    assert rows["errors in all", "smw, sync"].value == 0
    assert rows["over 100 ms in the worst of them", "redis-py"].value == 90
    assert rows["over 100 ms in the worst of them", "smw, sync"].value == 11
    assert rows["over 100 ms in the worst of them", "smw, sync"].target == "<= 10 calls"
    assert rows["over 100 ms in the worst of them", "redis-py"].target is None


@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        ({"k": 1, "v": 1, "pad": PAD}, {}),
        ({"k": 1, "v": 0, "pad": PAD}, {"stale": 1}),
        ({"k": 2, "v": 1, "pad": PAD}, {"wrong": 1}),
        (b"garbage", {"wrong": 1}),
        (ConnectionError(), {"errors": 1}),
    ],
)
def test_an_answer_is_right_stale_wrong_or_an_error(answer, counted):
    """What a caller got is judged by the version whose invalidation had returned before it called."""
    watch = Watch()
    watch.held[1] = 1
    watch.end(1, watch.begin(), time.monotonic(), answer)
    told = watch.told()
    assert {name: told[name] for name in ("errors", "stale", "wrong") if told[name]} == counted
    assert told["hung"] == 0


def test_a_call_that_does_not_end_hangs():
    """Calls that began and did not end are hung, and in flight."""
    watch = Watch()
    watch.begin()
    watch.begin()
    assert (watch.told()["hung"], watch.told()["in flight"]) == (2, 2)
