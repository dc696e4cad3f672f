"""``smw explain``: an error by its code, or the effective stack of one decorated function."""

from __future__ import annotations

import importlib
import re
import sys
from typing import Annotated

import typer

from smw.cli.output import as_json

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


def _explain_function(function: str, *, json: bool) -> None:
    from dataclasses import asdict

    from smw import explain
    from smw.errors import ConfigError

    module, _, qualname = function.partition(":")
    if not qualname:
        fix = "smw explain SMW-C101, or smw explain app.users:get_user"
        raise ConfigError("SMW-K122", "smw explain takes an error's code or module:function", seen=function, fix=fix)
    sys.path.insert(0, "")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        fix = "run it in the folder that has the module"
        raise ConfigError("SMW-K122", f"there is no module {error.name}", seen=function, fix=fix) from None
    for name in qualname.split("."):
        if not hasattr(found, name):
            from smw.errors import nearest

            what = f"{module} has no {qualname}.{nearest(name, dir(found))}"
            raise ConfigError("SMW-K122", what, seen=function, fix="name a function of that module")
        found = getattr(found, name)
    explanation = explain(found)
    if json:
        as_json(asdict(explanation))
    else:
        typer.echo(repr(explanation))
