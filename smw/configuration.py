"""Which value each setting has and where it came from: argument, then environment, then profile, then default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic import ValidationError

from smw.environment import Environment, Variable, read, variables
from smw.errors import ConfigError, nearest
from smw.settings import (
    PARTS,
    PROFILES,
    CacheSettings,
    MonitorSettings,
    PartSettings,
    PipelineSettings,
    Profile,
    SecuritySettings,
    WebSettings,
    explain_invalid,
    masked,
)

__all__ = ["Setting", "Settings", "resolve"]

Given = Mapping[str, Any] | PartSettings | None


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of ``smw config show``.

    Args:
        name: ``part.setting``.
        value: The value in force as text; secrets masked.
        source: ``argument``, ``environment NAME``, ``profile NAME`` or ``default``.
        variable: The environment variable that sets it.
        used: Whether anything acts on it yet.
        about: One line.
    """

    name: str
    value: str
    source: str
    variable: str
    used: bool
    about: str


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a runtime was told, resolved.

    Args:
        profile: ``development``, ``testing`` or ``production``.
        service: Name of the service, "" if unknown.
        sources: ``part.setting`` → where its value came from; defaults are not listed.
        suspicious: Environment variables that look misspelled → the nearest known one, "" where none is near.
    """

    profile: str
    service: str
    cache: CacheSettings
    monitor: MonitorSettings
    security: SecuritySettings
    pipeline: PipelineSettings
    web: WebSettings
    sources: Mapping[str, str] = field(default_factory=dict)
    suspicious: Mapping[str, str] = field(default_factory=dict)

    def rows(self) -> list[Setting]:
        """Return one row per setting, for people."""
        rows = []
        for variable in variables():
            name = f"{variable.part}.{variable.field}" if variable.part else variable.field
            value = getattr(getattr(self, variable.part) if variable.part else self, variable.field)
            shown = "***" if variable.secret and value else _text(value)
            source = self.sources.get(name, "default")
            rows.append(Setting(_named(variable), shown, source, variable.name, variable.used, variable.about))
        return rows


def _named(variable: Variable) -> str:
    """Return a setting's name as it is given in code."""
    if not variable.part:
        return variable.field
    return f"{variable.part}.{PARTS[variable.part].model_fields[variable.field].alias or variable.field}"


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(masked, value)) or "-"
    return "-" if value is None or value in ("", {}) else masked(value)


def _profile(profile: str | None, found: Environment) -> tuple[str, str]:
    given = profile or found.values.get("", {}).get("profile") or "development"
    valid = get_args(Profile)
    if given not in valid:
        message = f"unknown profile {given!r}.{nearest(given, valid)}"
        raise ConfigError("SMW-S103", message, fix=f"one of {', '.join(valid)}")
    if profile:
        return given, "argument"
    return given, "environment SMW_PROFILE" if "profile" in found.values.get("", {}) else "default"


def _arguments(part: str, given: Given) -> dict[str, Any]:
    model = PARTS[part]
    if given is None:
        return {}
    if isinstance(given, model):
        return {name: getattr(given, name) for name in given.model_fields_set}
    if isinstance(given, Mapping):
        by_alias = {info.alias: name for name, info in model.model_fields.items() if info.alias}
        return {by_alias.get(name, name): value for name, value in given.items()}
    message = f"{part}= takes a mapping or {model.__name__}"
    raise ConfigError("SMW-S104", message, seen=type(given).__name__)


def resolve(
    profile: str | None,
    *,
    service: str | None = None,
    parts: Mapping[str, Given] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Work out every setting.

    Args:
        profile: Name of a profile; None takes ``SMW_PROFILE``, else ``development``.
        service: Name of the service; None takes ``SMW_SERVICE``, then ``OTEL_SERVICE_NAME``.
        parts: part → what was given in code.
        environ: Environment to read; None is the process's own.

    Raises:
        ConfigError: A profile, name or value is wrong; names the argument or variable.
    """
    found = read(os.environ if environ is None else environ)
    chosen, profile_source = _profile(profile, found)
    sources = {"profile": profile_source} if profile_source != "default" else {}
    models: dict[str, Any] = {}
    for part, model in PARTS.items():
        arguments = _arguments(part, (parts or {}).get(part))
        from_environment = found.values.get(part, {})
        spelled = found.names.get(part, {})
        by_profile = PROFILES[chosen].get(part, {})
        sources |= {f"{part}.{name}": f"profile {chosen}" for name in by_profile}
        sources |= {f"{part}.{name}": f"environment {spelled[name]}" for name in from_environment}
        sources |= {f"{part}.{name}": "argument" for name in arguments}
        try:
            models[part] = model.model_validate(by_profile | from_environment | arguments)
        except ValidationError as error:
            names = {name: variable for name, variable in spelled.items() if name not in arguments}
            raise explain_invalid(model, error, names) from None
    named = service or found.values.get("", {}).get("service") or ""
    if named:
        sources["service"] = "argument" if service else f"environment {found.names['']['service']}"
    return Settings(chosen, named, sources=sources, suspicious=found.suspicious, **models)
