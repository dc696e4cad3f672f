"""Runs the suites with and without smw and tells what differs; exit code 1 where something does that should not."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.invisible.accepted import ACCEPTED
from tests.invisible.compare import Verdict, compare
from tests.invisible.running import BrokenRunError, Run, run
from tests.invisible.sdist import CannotFetchError, unpacked
from tests.invisible.suites import SUITES, Suite


def main(names: list[str]) -> int:
    """Run the suites named, all of them by default."""
    unknown = [name for name in names if name not in SUITES]
    if unknown:
        print(f"no suite {', '.join(unknown)}; known: {', '.join(SUITES)}", file=sys.stderr)
        return 2
    try:
        judged = {name: _judge(name, SUITES[name]) for name in names or SUITES}
    except (CannotFetchError, BrokenRunError) as error:
        print(f"cannot compare: {error}", file=sys.stderr)
        return 1
    return int(not all(judged.values()))


def _judge(name: str, suite: Suite) -> bool:
    """Run one suite in every way; tell whether smw was invisible in all of them."""
    source = unpacked(suite.project)
    print(f"suite      {source.name}", flush=True)
    without = _timed(suite, source, None)
    clean = True
    for way in suite.ways:
        with_smw = _timed(suite, source, way)
        verdict = compare(without.outcomes, with_smw.outcomes, ACCEPTED[name], way=way)
        _show(verdict, without, with_smw)
        faults = [f"nothing of kind {kind} passed through" for kind in suite.kinds if not with_smw.through.get(kind)]
        faults += with_smw.complaints
        for fault in faults:
            print(f"     FAULT   {fault}")
        clean = clean and verdict.is_clean and not faults
    return clean


def _timed(suite: Suite, source: Path, way: str | None) -> Run:
    started = time.monotonic()
    done = run(suite, source, way)
    print(f"{f'smw {way}' if way else 'without':<12} {done.counts}  {time.monotonic() - started:.1f} s", flush=True)
    if way:
        through = ", ".join(f"{count} {kind}" for kind, count in sorted(done.through.items()))
        print(f"{'':<12} smw in {done.tests} tests: {through}")
    return done


def _show(verdict: Verdict, without: Run, with_smw: Run) -> None:
    for found in verdict.differences:
        mark = "accepted" if found.accepted else "DIFFERS"
        print(f"{mark:>10}   {found.test}: {found.without or 'absent'} -> {found.with_smw or 'absent'}")
        if found.accepted:
            print(f"             {found.accepted.reason}")
        else:
            reason = with_smw.reasons.get(found.test) or without.reasons.get(found.test) or ""
            print("\n".join(f"    | {line}" for line in reason.splitlines()[-30:]))
    for row in verdict.stale:
        print(f"     STALE   {row.test}: no longer differs; take it out of tests/invisible/accepted.py")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
