"""Names of pytest's inside that suites written before pytest 9 still use; loaded with smw and without."""

from __future__ import annotations

from _pytest import monkeypatch

if not hasattr(monkeypatch, "notset"):
    monkeypatch.notset = monkeypatch.NOTSET  # type: ignore[attr-defined]
