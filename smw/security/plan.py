"""What is recorded about calls of one function: names, templates, allow-list; it records nothing itself."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from smw.security.templates import fields_of
from smw.security.trail.canonical import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from smw._kernel.call import Target

    Arguments = Mapping[str, object]

__all__ = ["Plan"]


class Plan:
    """How calls of one function are recorded.

    Args:
        target: The function; the names in the options were checked against it.
        action: What the call does, in the words of the service.
        resource: Argument name or template of what is acted on.
        subject: Argument name or template of whose data it is.
        keep: Arguments that stay readable in the record.
    """

    __slots__ = ("_resource", "_rest", "_subject", "action", "fn", "keep")

    def __init__(
        self,
        target: Target,
        action: str,
        *,
        resource: str | None = None,
        subject: str | None = None,
        keep: tuple[str, ...] = (),
    ) -> None:
        self.action = action
        self.fn = target.name
        self.keep = keep
        own = target.parameters[:1] if target.is_method else ()
        self._rest = tuple(name for name in target.parameters if name not in keep and name not in own)
        self._resource = None if resource is None else _getter(resource)
        self._subject = None if subject is None else _getter(subject)

    def resource_of(self, arguments: Arguments) -> str | None:
        """Return what a call acts on."""
        return None if self._resource is None else str(plain(self._resource(arguments)))

    def subjects_of(self, arguments: Arguments) -> list[str]:
        """Return whose data a call touches; a list of ids is taken apart."""
        value = None if self._subject is None else self._subject(arguments)
        if isinstance(value, list | tuple | set | frozenset):
            return [str(plain(item)) for item in value]
        return [] if value is None else [str(plain(value))]

    def kept_of(self, arguments: Arguments) -> dict[str, object]:
        """Return the arguments of the allow-list in the form that a record takes."""
        return {name: plain(arguments[name]) for name in self.keep}

    def rest_of(self, arguments: Arguments) -> dict[str, object]:
        """Return the arguments that only their digest stands for."""
        return {name: arguments[name] for name in self._rest}


def _getter(text: str) -> Callable[[Arguments], object]:
    names = fields_of(text)
    if "{" not in text:
        return operator.itemgetter(text)
    return lambda arguments: text.format_map({name: plain(arguments[name]) for name in names})
