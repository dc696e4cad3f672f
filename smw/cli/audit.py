"""``smw audit``: whether an audit log is untouched."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(help="The tamper-evident audit log.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `verify` a subcommand."""


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(help="Folder of the audit log.")],
    key: Annotated[Path | None, typer.Option("--key", help="Public key that signed the checkpoints.")] = None,
    since: Annotated[Path | None, typer.Option("--since", help="A checkpoint kept elsewhere.")] = None,
) -> None:
    """Exit 0 only for an untouched log, 1 when it was tampered with, 2 when it cannot be judged in full."""
    from smw import security

    verification = security.verify(path, key=key, since=since)
    typer.echo(str(verification))
    raise typer.Exit(verification.exit_code)
