"""The data catalogue: what data a name stands for, for what it may be used, who may see it; it judges nothing."""

from __future__ import annotations

import tomllib
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from smw.errors import ConfigError, nearest
from smw.security.folding import fold

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["CLASSES", "Catalogue", "Purpose", "load"]

_READABLE = "SECURITY_CATALOGUE, or catalogue: the path of a TOML file, or a mapping"

CLASSES: Mapping[str, str] = {
    "public": "nobody is harmed by it",
    "personal": "about an identifiable person",
    "special": "special category: origin, opinion, belief, union, genetics, biometrics, sex life",
    "health": "about somebody's health; protected health information",
    "financial": "enters the books",
    "card": "cardholder data: card number, name, expiry",
    "card_secret": "sensitive authentication data: track, verification code, PIN",
}


def _known(name: str) -> str:
    if name not in CLASSES:
        msg = f"unknown data class {name!r}; known: {', '.join(CLASSES)}.{nearest(name, CLASSES)}"
        raise ValueError(msg)
    return name


DataClass = Annotated[str, AfterValidator(_known)]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Purpose(_Frozen):
    """One purpose of processing.

    Attributes:
        basis: Legal basis.
        classes: Data classes that it needs.
        condition: For special categories, which condition lifts the ban: its letter in Article 9(2).
        recipients: Country (two letters) → the instrument that allows data to go there; inside the EEA any text.
    """

    basis: Literal["consent", "contract", "legal_obligation", "vital_interests", "public_task", "legitimate_interests"]
    classes: frozenset[DataClass] = frozenset()
    condition: Literal["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] | None = None
    recipients: dict[str, Literal["adequacy", "scc", "bcr", "eea", ""]] = Field(default_factory=dict)


class Catalogue(_Frozen):
    """What the controls are judged from.

    Attributes:
        fields: Name of an argument, or of a field inside arguments and results → its data class; case does not count.
        purposes: The register of processing purposes.
        roles: Role → data classes that it may see.
        shared_ids: Names that several people use; they are nobody.
        incompatible: Pairs of roles that nobody may hold both.
        open_periods: Accounting periods that may still be posted to.
        retention_years: How long the audit log is kept.
        idle_limit_s: Seconds after which an idle session no longer counts.
    """

    fields: dict[str, DataClass] = Field(default_factory=dict)
    purposes: dict[str, Purpose] = Field(default_factory=dict)
    roles: dict[str, frozenset[DataClass]] = Field(default_factory=dict)
    shared_ids: frozenset[str] = frozenset({"admin", "administrator", "guest", "root", "shared", "system", "test"})
    incompatible: tuple[tuple[str, str], ...] = ()
    open_periods: frozenset[str] = frozenset()
    retention_years: int = Field(default=0, ge=0)
    idle_limit_s: int = Field(default=900, ge=1)

    @field_validator("fields")
    @classmethod
    def _one_class_for_each_name(cls, fields: dict[str, str]) -> dict[str, str]:
        folded: dict[str, str] = {}
        for name, data_class in fields.items():
            if folded.setdefault(fold(name), data_class) != data_class:
                msg = f"{name!r} stands there twice, in different spelling and with different classes"
                raise ValueError(msg)
        return fields

    @cached_property
    def _folded_fields(self) -> dict[str, str]:
        return {fold(name): data_class for name, data_class in self.fields.items()}

    @cached_property
    def folded_shared_ids(self) -> frozenset[str]:
        """The names that several people use, as `fold` spells them."""
        return frozenset(map(fold, self.shared_ids))

    def classes_of(self, names: Iterable[str]) -> frozenset[str]:
        """Return the data classes of those names that have one, however they are spelled."""
        known = self._folded_fields
        found = (self.fields.get(name) or known.get(fold(name)) for name in names)
        return frozenset(name for name in found if name is not None)

    @cached_property
    def digest(self) -> str:
        """Identify this content in records, so that it is known by which rules a call was judged."""
        return sha256(repr(_ordered(self.model_dump())).encode()).hexdigest()[:16]


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((key, _ordered(item)) for key, item in value.items())
    return sorted(value) if isinstance(value, frozenset) else value


def load(source: Mapping[str, Any] | Path | None) -> Catalogue | None:
    """Read a catalogue from a mapping or a TOML file; None stays None.

    Raises:
        ConfigError: The file cannot be read, or an entry is wrong; names each.
    """
    if source is None:
        return None
    content: Mapping[str, Any]
    if isinstance(source, Path):
        try:
            content = tomllib.loads(source.read_text("utf-8"))
        except OSError as error:
            what = f"security.catalogue cannot be read: {error.strerror}"
            raise ConfigError("SMW-A113", what, seen=source, fix=_READABLE) from None
        except ValueError as error:
            what = f"security.catalogue is no TOML: {error}"
            raise ConfigError("SMW-A113", what, seen=source, fix=_READABLE) from None
    else:
        content = source
    try:
        return Catalogue.model_validate(content)
    except ValidationError as error:
        problems = []
        for item in error.errors(include_input=False, include_url=False):
            where = ".".join(str(step) for step in item["loc"])
            if item["type"] == "extra_forbidden":
                model = Catalogue if len(item["loc"]) == 1 else Purpose
                problems.append(f"unknown entry {where!r}.{nearest(str(item['loc'][-1]), model.model_fields)}")
            else:
                problems.append(f"{where}: {item['msg'].removeprefix('Value error, ')}")
        fix = f"entries: {', '.join(Catalogue.model_fields)}"
        raise ConfigError("SMW-A114", "security.catalogue: " + "; ".join(problems), fix=fix) from None
