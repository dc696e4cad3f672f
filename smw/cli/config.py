"""``smw config``: what is set, from where, and whether it is right."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from smw.cli.output import as_json, as_table

if TYPE_CHECKING:
    from smw.configuration import Settings

__all__ = ["app"]

app = typer.Typer(help="Effective settings with their source, secrets masked.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ProfileOption = Annotated[str | None, typer.Option("--profile", help="Profile instead of SMW_PROFILE.")]


@app.command()
def show(
    profile: ProfileOption = None,
    app: Annotated[
        str | None, typer.Option("--app", help="Module of the application: shows the settings that it configures.")
    ] = None,
    *,
    changed: Annotated[bool, typer.Option("--changed", help="Only what is no default.")] = False,
    json: Json = False,
) -> None:
    """Show every setting, its value, where the value came from, and the variable that sets it."""
    from smw.configuration import resolve
    from smw.environment import unknown

    settings = resolve(profile) if app is None else _configured(app, profile)
    rows = [row for row in settings.rows() if not changed or row.source != "default"]
    if json:
        shown = [asdict(row) for row in rows]
        as_json({"schema": 1, "profile": settings.profile, "settings": shown, "suspicious": dict(settings.suspicious)})
        return
    table = [
        (row.name, row.value, row.source, row.variable, row.about if row.used else f"(not yet used) {row.about}")
        for row in rows
    ]
    as_table(f"smw settings, profile {settings.profile}", ("setting", "value", "from", "variable", "about"), table)
    for name, near in settings.suspicious.items():
        typer.echo(unknown(name, near), err=True)


def _configured(app: str, profile: str | None) -> Settings:
    from smw.cli.target import module
    from smw.configuration import resolve
    from smw.runtime import Runtime, shutdown

    module(app.partition(":")[0])
    from smw._kernel import current

    runtime = current.get()
    if not (isinstance(runtime, Runtime) and runtime.is_open):
        return resolve(profile)  # it configures nothing when it is imported
    settings = runtime.settings
    shutdown()
    return settings


@app.command()
def check(
    profile: ProfileOption = None,
    app: Annotated[
        str | None, typer.Option("--app", help="Module of the application: takes its settings, looks at its functions.")
    ] = None,
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Let a warning exit 1 too.")] = False,
    json: Json = False,
) -> None:
    """Exit 1 when a setting is wrong or an environment variable looks misspelled, 0 otherwise; asks no server.

    With --app also when a function of the application would be refused under these settings.
    """
    import os

    from smw.configuration import resolve
    from smw.doctor.application import brought
    from smw.doctor.declared import declared, parts
    from smw.doctor.report import Finding, Report
    from smw.errors import ConfigError

    found, settings = brought(app, profile)
    try:
        settings = settings or resolve(profile)
    except ConfigError as error:
        refused = Finding("settings.values", "fail", error.what, error.fix or f"smw explain {error.code}")
        report = Report(profile or "", (*found, refused))
    else:
        report = Report(settings.profile, (*found, *declared(settings, os.environ), *parts(settings)))
    code = 1 if strict and report.counts()["warn"] else report.exit_code
    if json:
        as_json(report.as_dict() | {"exit": code})
        raise typer.Exit(code)
    for finding in report.findings:
        if finding.verdict != "ok":
            typer.echo(f"{finding.verdict}: {finding.seen}" + (f"\n  fix:   {finding.fix}" if finding.fix else ""))
    if code == 0:
        typer.echo(f"settings are valid (profile {report.profile})")
    raise typer.Exit(code)
