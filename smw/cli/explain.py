"""``smw explain``: an error by its code, or the effective stack of one decorated function."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from smw.cli.output import as_json
from smw.cli.target import function

__all__ = ["explain_command"]

_CODE = re.compile(r"(?:smw-)?([a-z]\d{3})", re.IGNORECASE)


def explain_command(
    what: Annotated[str, typer.Argument(help="An error's code, such as SMW-C101, or module:function.")],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Explain an error, or show which decorators stand around a function, in order, and what each does."""
    code = _CODE.fullmatch(what)
    if code is not None:
        _explain_code(f"SMW-{code[1].upper()}", json=json)
    else:
        _explain_function(what, json=json)


def _explain_code(code: str, *, json: bool) -> None:
    from smw.cli.codes import explained

    found = explained(code)
    if json:
        as_json(found.as_dict())
    else:
        typer.echo(str(found))


def _explain_function(what: str, *, json: bool) -> None:
    from dataclasses import asdict

    from smw import explain
    from smw.errors import ConfigError

    if ":" not in what:
        fix = "smw explain SMW-C101, or smw explain app.users:get_user"
        raise ConfigError("SMW-K122", "smw explain takes an error's code or module:function", seen=what, fix=fix)
    found = function(what, code="SMW-K122")
    explanation = explain(found)
    if json:
        as_json(asdict(explanation))
    else:
        typer.echo(repr(explanation))
