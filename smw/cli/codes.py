"""What each error code means, read from the data beside this module; knows nothing of who raises it."""

from __future__ import annotations

import textwrap
import tomllib
from dataclasses import asdict, dataclass
from importlib import resources

from smw.errors import ConfigError

__all__ = ["Code", "codes", "explained"]

_WIDTH = 78


@dataclass(frozen=True, slots=True)
class Code:
    """The explanation of one code.

    Args:
        code: Such as ``SMW-C101``.
        title: What happened, without a full stop.
        when: When it is raised, and why.
        fix: What to do.
        example: Lines that are right, "" where none helps.
    """

    code: str
    title: str
    when: str
    fix: str
    example: str = ""

    def __str__(self) -> str:
        """Render it for people."""
        lines = [f"{self.code}  {self.title}", "", *textwrap.wrap(self.when, _WIDTH), "", f"fix:  {self.fix}"]
        if self.example:
            lines += ["", *(f"    {line}" for line in self.example.strip().splitlines())]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, str]:
        """Return it as plain values, for JSON."""
        return asdict(self)


def codes() -> dict[str, Code]:
    """Return every code with its explanation, in order."""
    text = (resources.files("smw.cli") / "codes.toml").read_text("utf-8")
    return {f"SMW-{name}": Code(f"SMW-{name}", **entry) for name, entry in sorted(tomllib.loads(text).items())}


def explained(code: str) -> Code:
    """Return the explanation of a code.

    Raises:
        ConfigError: No error has that code.
    """
    known = codes()
    if code not in known:
        fix = "copy the code from the message, such as SMW-C101"
        raise ConfigError("SMW-K123", f"no error of this version has the code {code}", fix=fix)
    return known[code]
