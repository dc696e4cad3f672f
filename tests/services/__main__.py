"""Fetches the real servers that are not there yet: `python -m tests.services`, standard library only."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tests.services.locate import Found, allowed_missing, in_ci, locate, option
from tests.services.specs import SPECS


def main() -> int:
    """Say for each server where it comes from; in CI a missing one fails."""
    missing = []
    for spec in SPECS.values():
        started = time.monotonic()
        found = locate(spec, fetch=True)
        took_s = time.monotonic() - started
        if isinstance(found, Found):
            print(f"service    {spec.name:<10} real ({found.how}) {found.program or 'compose.yaml'}  {took_s:.1f} s")
            continue
        print(f"service    {spec.name:<10} NOT RUN     {found.reason}")
        if spec.name not in allowed_missing():
            missing.append(spec.name)
    failed = bool(missing) and in_ci()
    if path := option("SMW_RESULT"):
        Path(path).write_text(json.dumps({"exit": int(failed), "missing": missing}), encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
