"""Which commands exist and how an expected error leaves; holds no logic of any part."""

from __future__ import annotations

import platform
import sys
from typing import Annotated

import typer

from smw import __version__
from smw.cli import audit, cache, config
from smw.cli.doctor import doctor_command
from smw.cli.explain import explain_command
from smw.cli.output import shown
from smw.errors import SmwError

__all__ = ["app", "run"]

app = typer.Typer(
    name="smw",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
app.add_typer(config.app, name="config")
app.add_typer(audit.app, name="audit")
app.add_typer(cache.app, name="cache")
app.command("doctor")(doctor_command)
app.command("explain")(explain_command)


def _version(*, asked: bool) -> None:
    if asked:
        typer.echo(f"smw {__version__}, Python {platform.python_version()}, {platform.platform()}")
        raise typer.Exit


@app.callback()
def main(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the versions of smw and Python.")
    ] = False,
) -> None:
    """Production middleware for any function or web app: look at settings, servers, stacks and the audit log."""


def run() -> int:
    """Run the command line; an expected error prints without a traceback and exits 2."""
    try:
        app()
    except SmwError as error:
        sys.stderr.write(f"{shown(str(error), lines=True)}\n")
        return 2
    return 0
