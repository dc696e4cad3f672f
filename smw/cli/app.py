"""Which commands exist and how an expected error leaves; holds no logic of any part."""

from __future__ import annotations

import sys

import typer

from smw.cli import audit, cache, config
from smw.cli.doctor import doctor_command
from smw.cli.explain import explain_command
from smw.errors import SmwError

__all__ = ["app", "run"]

app = typer.Typer(
    name="smw",
    help="Production middleware for any function or web app: look at settings, servers, stacks and the audit log.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
app.add_typer(config.app, name="config")
app.add_typer(audit.app, name="audit")
app.add_typer(cache.app, name="cache")
app.command("doctor")(doctor_command)
app.command("explain")(explain_command)


def run() -> int:
    """Run the command line; an expected error prints without a traceback and exits 2."""
    try:
        app()
    except SmwError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0
