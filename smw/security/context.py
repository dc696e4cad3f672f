"""Who acts, for whom and why, as a context that the code below can see; it judges nothing."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from smw.errors import ConfigError
from smw.security.folding import fold

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Acting", "Authentication", "Principal", "acting", "current_acting"]

Authentication = Literal["none", "password", "mfa"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Somebody or something that acts.

    Args:
        id: Unique name of the user or service.
        kind: `user` for a named person, `service` for a program.
        roles: Roles granted to it.
        authentication: How it proved who it is; `mfa` is more than one factor.
        idle_s: Seconds since its last activity; None where nobody knows.

    Raises:
        ConfigError: The id is blank or no text, or the roles are one text.
    """

    id: str
    kind: Literal["user", "service"] = "user"
    roles: frozenset[str] = frozenset()
    authentication: Authentication = "none"
    idle_s: float | None = None

    def __post_init__(self) -> None:
        """Refuse a nameless principal, and copy the roles: who takes one from the caller's set takes it from there."""
        name: object = self.id
        roles: object = self.roles
        if not isinstance(name, str) or not fold(name):
            fix = 'security.acting("ada", ...), or security.Principal(id="ada", roles=...)'
            raise ConfigError("SMW-A118", "a principal needs an id, a text that is not blank", seen=self.id, fix=fix)
        if isinstance(roles, str):
            fix = f'roles=frozenset({{"{roles}"}})'
            raise ConfigError("SMW-A119", "roles takes several names, not one text", seen=self.roles, fix=fix)
        object.__setattr__(self, "roles", frozenset(self.roles))


@dataclass(frozen=True, slots=True, kw_only=True)
class Acting:
    """What is known about the acting party while a block runs.

    Args:
        principal: Who acts.
        purpose: For what; a purpose of the data catalogue.
        subjects: Whose data is touched.
        consents: Purpose → receipt of the consent that covers it.
        ticket: Number of the change or posting request.
        period: Accounting period that is posted to.
        earlier: Who else acted on the same object before; None where nobody knows.
        source: Address the request came from.
    """

    principal: Principal
    purpose: str | None = None
    subjects: tuple[str, ...] = ()
    consents: Mapping[str, str] | None = None
    ticket: str | None = None
    period: str | None = None
    earlier: frozenset[str] | None = None
    source: str | None = None


_current: ContextVar[Acting | None] = ContextVar("smw_acting", default=None)


def current_acting() -> Acting | None:
    """Return who acts here, or None when nobody said."""
    return _current.get()


@contextmanager
def acting(
    principal: str | Principal,
    *,
    purpose: str | None = None,
    subjects: str | Iterable[str] = (),
    consents: Mapping[str, str] | None = None,
    ticket: str | None = None,
    period: str | None = None,
    earlier: Iterable[str] | None = None,
    source: str | None = None,
) -> Iterator[Acting]:
    """Say who acts while a block runs; decorated functions called in it are judged and recorded by that.

    A block inside another one replaces it, except for `source`, which belongs to the request and is inherited.

    A block in the body of a generator reaches further than it looks: Python runs a generator in the context of whoever
    reads it, so between two steps the reader acts as the block says, until the generator goes on. Open the block
    around the loop that reads it.

    Args:
        principal: Who acts; a text stands for a named user without roles.
        purpose: For what; a purpose of the data catalogue.
        subjects: Whose data is touched; recorded as pseudonyms.
        consents: Purpose → receipt of the consent that covers it.
        ticket: Number of the change or posting request.
        period: Accounting period that is posted to.
        earlier: Who else acted on the same object before; an empty tuple says nobody did.
        source: Address the request came from.

    Raises:
        ConfigError: The principal is neither a name nor a `Principal`.
    """
    outer = _current.get()
    context = Acting(
        principal=principal if isinstance(principal, Principal) else Principal(id=principal),
        purpose=purpose,
        subjects=(subjects,) if isinstance(subjects, str) else tuple(subjects),
        consents=None if consents is None else MappingProxyType(dict(consents)),
        ticket=ticket,
        period=period,
        earlier=None if earlier is None else frozenset(earlier),
        source=source if source is not None or outer is None else outer.source,
    )
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)
