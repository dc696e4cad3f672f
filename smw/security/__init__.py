"""Security: a tamper-evident audit log, compliance controls at the call, rate limits, the client behind proxies."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smw.security.context import Principal, acting
    from smw.security.decorators import audit_log, require_compliance
    from smw.security.part import Security
    from smw.security.report import Report
    from smw.security.trail.verify import Verification, verify

__all__ = [
    "Principal",
    "Report",
    "Security",
    "Verification",
    "acting",
    "audit_log",
    "require_compliance",
    "verify",
]

if not TYPE_CHECKING:
    _NAMES = {
        "Principal": "context",
        "Report": "report",
        "Security": "part",
        "Verification": "trail.verify",
        "acting": "context",
        "audit_log": "decorators",
        "require_compliance": "decorators",
        "verify": "trail.verify",
    }

    def __getattr__(name: str) -> Any:
        """Load a public name from its module on first use."""
        if name not in _NAMES:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
