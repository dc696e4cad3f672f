"""``smw explain``: the effective stack of one decorated function."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated

import typer

__all__ = ["explain_command"]


def explain_command(
    function: Annotated[str, typer.Argument(help="module:function, such as app.users:get_user.")],
) -> None:
    """Show which decorators stand around a function, in order, and what each does under the current settings."""
    from smw import explain
    from smw.errors import ConfigError

    module, _, qualname = function.partition(":")
    if not qualname:
        raise ConfigError("SMW-K122", "smw explain takes module:function", seen=function)
    sys.path.insert(0, "")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError("SMW-K122", f"there is no module {error.name}", seen=function) from None
    for name in qualname.split("."):
        if not hasattr(found, name):
            raise ConfigError("SMW-K122", f"{module} has no {qualname}", seen=function)
        found = getattr(found, name)
    typer.echo(repr(explain(found)))
