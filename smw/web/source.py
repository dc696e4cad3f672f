"""What one middleware was told, before it meets a runtime: profile and overrides of one policy; knows no protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from smw.errors import ConfigError, nearest
from smw.web.protocol import framework_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smw.configuration import Settings
    from smw.runtime import Runtime
    from smw.settings import PartSettings
    from smw.web.exchange import Policy

__all__ = ["PolicySource"]

P = TypeVar("P", bound="PartSettings")


class PolicySource(ABC):
    """Makes one policy out of a runtime.

    A profile given here replaces the runtime's profile for this policy alone. What was set by argument or by
    environment stays, and what neither profile nor overrides say comes from the runtime.

    Args:
        profile: ``development``, ``testing``, ``production``, or None for the runtime's.
        overrides: Settings for this policy alone, by name.

    Raises:
        ConfigError: The profile, a name or a value is wrong; names the nearest valid one.
    """

    name: ClassVar[str]
    rank: ClassVar[int]
    """Position in the canonical order; the lowest is outermost."""
    once: ClassVar[bool] = False
    """Whether an exchange that an outer adapter has handled already passes this policy by."""
    takes: ClassVar[Mapping[str, str]]
    """Name of each override → part of the settings that it belongs to, "" for an option of the policy itself."""

    def __init__(self, profile: str | None = None, overrides: Mapping[str, Any] | None = None) -> None:
        from smw import settings

        self.profile = profile
        self.overrides: dict[str, dict[str, Any]] = {}
        middleware = f"the {self.name} middleware"
        if profile is not None and not isinstance(profile, str):
            raise self._no_profile(profile)
        if profile is not None and profile not in settings.PROFILES:
            known = ", ".join(settings.PROFILES)
            hint = nearest(profile, settings.PROFILES)
            raise ConfigError("SMW-W101", f"{middleware} has no profile of that name.{hint}", seen=profile, fix=known)
        for name, value in (overrides or {}).items():
            if name not in self.takes:
                what = f"{middleware} takes no setting {name!r}.{nearest(name, self.takes)}"
                raise ConfigError("SMW-W102", what, fix=f"it takes: {', '.join(self.takes) or 'none'}")
            self.overrides.setdefault(self.takes[name], {})[name] = value
        for part, given in self.overrides.items():
            if part:
                settings.build(settings.PARTS[part], given)

    def _no_profile(self, given: object) -> ConfigError:
        """Return the error of a profile that is none, most likely the application: show where that belongs."""
        make = f'create_{self.name}_middleware("production")'
        fix = {
            "fastapi": f"app.add_middleware({make})",
            "flask": f"app.wsgi_app = {make}(app.wsgi_app)",
        }.get(framework_of(given) or "", f"app = {make}(app)" if callable(given) else make)
        kind = given if isinstance(given, type) else type(given)
        what = f"the {self.name} middleware takes the name of a profile"
        return ConfigError("SMW-W101", what, seen=f"{kind.__module__}.{kind.__qualname__}", fix=fix)

    @abstractmethod
    def bind(self, runtime: Runtime) -> Policy | None:
        """Return the policy under `runtime`; None when it has nothing to do for an exchange."""

    @property
    def lives(self) -> bool:
        """Whether `opened` has anything to start."""
        return False

    async def opened(self, runtime: Runtime) -> None:  # noqa: B027 - most policies have nothing to start
        """Start what lives as long as the application does."""

    async def closing(self, runtime: Runtime) -> None:  # noqa: B027 - most policies have nothing to stop
        """Stop what `opened` started; the runtime is still open."""

    def effective(self, settings: Settings, part: type[P]) -> P:
        """Return the settings of `part` as they hold for this policy."""
        from smw.settings import PARTS, PROFILES, build

        name = next(name for name, model in PARTS.items() if model is part)
        runtime: P = getattr(settings, name)
        overrides = self.overrides.get(name, {})
        if self.profile is None or self.profile == settings.profile:
            return build(part, runtime, overrides)
        said = {
            field: getattr(runtime, field)
            for field in runtime.model_fields_set
            if not settings.sources.get(f"{name}.{field}", "").startswith("profile ")
        }
        return build(part, PROFILES[self.profile].get(name, {}) | said | overrides)
