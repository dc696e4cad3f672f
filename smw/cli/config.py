"""``smw config``: what is set, from where, and whether it is right."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from smw.cli.output import as_json, as_table

__all__ = ["app"]

app = typer.Typer(help="Effective settings with their source, secrets masked.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ProfileOption = Annotated[str | None, typer.Option("--profile", help="Profile instead of SMW_PROFILE.")]


@app.command()
def show(profile: ProfileOption = None, *, json: Json = False) -> None:
    """Show every setting, its value, where the value came from, and the variable that sets it."""
    from smw.configuration import resolve

    settings = resolve(profile)
    rows = settings.rows()
    if json:
        as_json({"settings": [asdict(row) for row in rows], "suspicious": dict(settings.suspicious)})
        return
    table = [
        (row.name, row.value, row.source, row.variable, row.about if row.used else f"(not yet used) {row.about}")
        for row in rows
    ]
    as_table(f"smw settings, profile {settings.profile}", ("setting", "value", "from", "variable", "about"), table)
    for name, near in settings.suspicious.items():
        typer.echo(f"{name} is not known to smw; did you mean {near}?")


@app.command()
def check(profile: ProfileOption = None) -> None:
    """Exit 1 when a setting is wrong or an environment variable looks misspelled, 0 otherwise."""
    from smw.configuration import resolve
    from smw.errors import ConfigError

    try:
        settings = resolve(profile)
    except ConfigError as error:
        typer.echo(str(error))
        raise typer.Exit(1) from None
    for name, near in settings.suspicious.items():
        typer.echo(f"{name} is not known to smw; did you mean {near}?")
    if settings.suspicious:
        raise typer.Exit(1)
    typer.echo(f"settings are valid (profile {settings.profile})")
