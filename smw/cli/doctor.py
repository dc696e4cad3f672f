"""``smw doctor``: whether what is configured can work here, with the cause and the setting that holds it."""

from __future__ import annotations

from typing import Annotated

import typer

from smw.cli.output import as_json, as_table

__all__ = ["doctor_command"]


def doctor_command(
    profile: Annotated[str | None, typer.Option("--profile", help="Profile instead of SMW_PROFILE.")] = None,
    app: Annotated[
        str | None, typer.Option("--app", help="Module of the application: takes its settings, checks its stacks.")
    ] = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check settings, servers, ports, disk, limits and versions; changes nothing, and ends within five seconds.

    Exits 0 when all is well (warnings allowed), 1 with a problem, 3 when no problem was found but not everything could
    be checked.
    """
    from smw.doctor import Report, examine, examine_environment
    from smw.doctor.application import brought

    found, settings = brought(app, profile)
    report = examine_environment(profile) if settings is None else examine(settings)
    report = Report(report.profile, (*found, *report.findings))
    if json:
        as_json(report.as_dict())
    else:
        rows = [(finding.name, finding.verdict, finding.seen, finding.fix) for finding in report.findings]
        as_table("", ("check", "verdict", "seen", "fix"), rows, marks=1)
        typer.echo(", ".join(f"{count} {verdict}" for verdict, count in report.counts().items() if count))
    raise typer.Exit(report.exit_code)
