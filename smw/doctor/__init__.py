"""Looks at what a configuration needs to work; names each cause together with the setting that holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smw.doctor.examination import examine, examine_environment
    from smw.doctor.report import Finding, Report
else:
    _NAMES = {
        "Finding": "smw.doctor.report",
        "Report": "smw.doctor.report",
        "examine": "smw.doctor.examination",
        "examine_environment": "smw.doctor.examination",
    }

    def __getattr__(name: str) -> Any:
        import importlib

        if name in _NAMES:
            return getattr(importlib.import_module(_NAMES[name]), name)
        raise AttributeError(f"module 'smw.doctor' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = ["Finding", "Report", "examine", "examine_environment"]
