"""Every error smw raises on purpose: what happened, what was seen, how to fix it; knows no part that raises."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "AuditUnavailable",
    "BackpressureError",
    "ConfigError",
    "DecorationError",
    "Denied",
    "LoadTimeout",
    "MissingExtra",
    "RecordError",
    "SmwError",
    "StackingError",
    "Unavailable",
    "nearest",
]

_SEEN_MAX = 80


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the closest valid name, or "" when none is close.

    Args:
        name: What was given.
        valid: The names that would have been accepted.
    """
    by_folded = {candidate.casefold(): candidate for candidate in valid}
    folded = str(name).casefold()  # whatever stands where a name should
    close = [candidate for candidate in by_folded if len(folded) > 1 and candidate.startswith(folded)]
    close = close or difflib.get_close_matches(folded, list(by_folded), n=1, cutoff=0.6)
    return f" Did you mean {by_folded[close[0]]!r}?" if close else ""


class SmwError(Exception):
    """Root of everything smw raises.

    Args:
        code: Stable identifier such as ``SMW-C102``; it never changes meaning.
        what: What happened, in one sentence.
        seen: The offending value, already free of secrets; cut at 80 characters.
        fix: The line or command that mends it.
    """

    def __init__(self, code: str, what: str, *, seen: object = None, fix: str | None = None) -> None:
        self.code = code
        self.what = what
        self.seen = None if seen is None else _shorten(str(seen))
        self.fix = fix
        super().__init__(code, what)

    def __str__(self) -> str:
        """Render the error as up to four lines: what, seen, fix, and where to read more."""
        lines = [f"[{self.code}] {self.what}"]
        if self.seen is not None:
            lines.append(f"  seen:  {self.seen}")
        if self.fix is not None:
            lines.append(f"  fix:   {self.fix}")
        lines.append(f"  docs:  smw explain {self.code}")
        return "\n".join(lines)


class ConfigError(SmwError, ValueError):
    """A setting, argument or environment variable is wrong; names it and the nearest valid one."""


class MissingExtra(SmwError, ImportError):
    """A feature needs a package that is not installed.

    Args:
        feature: What was asked for.
        package: The package that is missing.
        extra: The extra of smw that installs it.
    """

    def __init__(self, feature: str, *, package: str, extra: str) -> None:
        super().__init__(
            "SMW-S102",
            f'{feature} needs the package "{package}", which is not installed',
            fix=f'pip install "smw[{extra}]"',
        )


class DecorationError(SmwError, TypeError):
    """A decorator was put on something that it cannot serve; raised when decorating, never later."""


class StackingError(SmwError, TypeError):
    """Decorators are stacked in an order that would be unsafe; raised when decorating."""


class Denied(SmwError, PermissionError):
    """A compliance control refused the call.

    Args:
        control: Identifier of the control, such as ``gdpr.purpose``.
        clause: The clause that it implements.
        missing: What evidence was missing.
    """

    def __init__(self, *, control: str, clause: str, missing: str) -> None:
        super().__init__("SMW-A101", f"denied by {control} ({clause}): {missing}")
        self.control = control
        self.clause = clause
        self.missing = missing


class AuditUnavailable(SmwError, RuntimeError):
    """The audit log could not record a call that must not run unrecorded."""


class LoadTimeout(SmwError, TimeoutError):
    """A caller of a cached function has waited for as long as it was told to; the function goes on."""


class BackpressureError(SmwError, RuntimeError):
    """A bounded buffer stayed full, or its store did not acknowledge in time; it may have the record all the same."""


class Unavailable(SmwError, ConnectionError):
    """A backend did not answer in time, refused, or answered garbage."""


class RecordError(SmwError, ValueError):
    """A stream or batch record cannot be decoded or is refused; the record itself is kept."""


def _shorten(text: str) -> str:
    return text if len(text) <= _SEEN_MAX else text[: _SEEN_MAX - 1] + "…"
