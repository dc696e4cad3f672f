"""What the environment says about settings: which variables exist, what they hold, which look like typing errors."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices, Field, create_model
from pydantic_settings import BaseSettings, SettingsConfigDict

from smw.settings import PARTS

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Environment", "Variable", "read", "unknown", "variables"]

PREFIX = "SMW_"
_NEAR_MISS = 0.85  # of a name that may be another program's
_NEAR = 0.7
_MEANT = {"CACHE_L2_HOST": "CACHE_L2_URL", "CACHE_L3_HOST": "CACHE_L3_SERVERS", "CACHE_L3_URL": "CACHE_L3_SERVERS"}
_OURS = ("CACHE_L1_", "CACHE_L2_", "CACHE_L3_", "CACHE_ENCRYPTION")
"""What names begin with that no other program uses."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable that smw understands.

    Args:
        name: Its plain name; the same with prefix ``SMW_`` wins.
        part: ``cache``, ``monitor``, ``security``, ``pipeline``, ``web``, or "" for the runtime itself.
        field: The setting it sets.
        about: One line.
        used: Whether anything acts on it yet.
        secret: Whether its value must never be shown.
    """

    name: str
    part: str
    field: str
    about: str
    used: bool = True
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Environment:
    """What was found.

    Args:
        values: part → setting → text; part "" holds ``profile`` and ``service``.
        names: part → setting → the variable that gave it, as the user spelled it.
        suspicious: Variables that smw does not know but that look meant for it → the nearest known one, "" where none
            is near.
    """

    values: dict[str, dict[str, str]]
    names: dict[str, dict[str, str]]
    suspicious: dict[str, str]


def variables() -> tuple[Variable, ...]:
    """Return every variable that smw understands."""
    found = [
        Variable("SMW_PROFILE", "", "profile", "development, testing or production"),
        Variable("SMW_SERVICE", "", "service", "name of this service in keys, metrics and spans"),
    ]
    for part, model in PARTS.items():
        for field, info in model.model_fields.items():
            extra: Any = info.json_schema_extra
            about = info.description or ""
            found.append(Variable(extra["env"], part, field, about, used=extra["used"], secret=extra["secret"]))
    return tuple(found)


def _slot(variable: Variable) -> str:
    return f"{variable.part or 'runtime'}__{variable.field}"


def _spellings(variable: Variable) -> tuple[str, ...]:
    plain = variable.name
    if plain == "SMW_SERVICE":
        return (plain, "OTEL_SERVICE_NAME")
    return (plain,) if plain.startswith(PREFIX) else (PREFIX + plain, plain)


def read(environ: Mapping[str, str]) -> Environment:
    """Read the variables that smw understands; an empty value counts as unset.

    Args:
        environ: Usually ``os.environ``; used to name the spelling that was found and to look for near misses.
    """
    known = variables()
    fields: dict[str, Any] = {
        _slot(variable): (
            str | None,
            Field(default=None, validation_alias=AliasChoices(*_spellings(variable))),
        )
        for variable in known
    }
    config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", case_sensitive=True)
    source: Any = create_model("Variables", __base__=_base(config, environ), **fields)
    found = source()
    values: dict[str, dict[str, str]] = {}
    names: dict[str, dict[str, str]] = {}
    for variable in known:
        value = getattr(found, _slot(variable))
        if value is not None:
            spelled = next(name for name in _spellings(variable) if environ.get(name))
            values.setdefault(variable.part, {})[variable.field] = value
            names.setdefault(variable.part, {})[variable.field] = spelled
    return Environment(values, names, _suspicious(environ, known))


def _base(config: SettingsConfigDict, environ: Mapping[str, str]) -> type[BaseSettings]:
    from pydantic_settings import EnvSettingsSource

    class _FromMapping(EnvSettingsSource):
        def _load_env_vars(self) -> Mapping[str, str | None]:
            return {name: value for name, value in environ.items() if value}

    class Variables(BaseSettings):
        model_config = config

        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *_args: Any, **_sources: Any
        ) -> tuple[Any, ...]:
            return (_FromMapping(settings_cls),)

    return Variables


def _suspicious(environ: Mapping[str, str], known: tuple[Variable, ...]) -> dict[str, str]:
    valid = {name for variable in known for name in _spellings(variable)}
    plain = {variable.name for variable in known}
    found: dict[str, str] = {}
    for name in environ:
        if name in valid or name.startswith("OTEL_"):  # OpenTelemetry has many more that its SDK reads itself
            continue
        if name.startswith(PREFIX):  # which all have in common, so that it says nothing
            bare = name.removeprefix(PREFIX)
            close = difflib.get_close_matches(bare, {known.removeprefix(PREFIX) for known in plain}, n=1, cutoff=_NEAR)
            found[name] = PREFIX + close[0] if close else ""
            continue
        is_ours = name.startswith(_OURS)
        close = difflib.get_close_matches(name, plain, n=1, cutoff=_NEAR if is_ours else _NEAR_MISS)
        if close or is_ours:
            found[name] = _MEANT.get(name) or (close[0] if close else "")
    return found


def unknown(name: str, near: str) -> str:
    """Return what is said of a suspicious variable."""
    return f"environment variable {name} is not known to smw" + (f"; did you mean {near}?" if near else "")
