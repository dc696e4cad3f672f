"""Templates over a function's arguments, as decorators take them: which names they hold, and whether they fit."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

from smw.errors import DecorationError, nearest

if TYPE_CHECKING:
    from smw._kernel.call import Target

__all__ = ["check_names", "fields_of"]


def fields_of(text: str) -> tuple[str, ...]:
    """Return the names of arguments in a template; a text without braces is one name.

    Raises:
        ValueError: The template is malformed, or holds more than bare names.
    """
    if "{" not in text and "}" not in text:
        return (text,)
    names = []
    for _, name, form, conversion in string.Formatter().parse(text):
        if name is None:
            continue
        if not name.isidentifier() or form or conversion:
            msg = f"{{{name}}} is not the bare name of an argument"
            raise ValueError(msg)
        names.append(name)
    return tuple(names)


def check_names(target: Target, *, resource: str | None, subject: str | None, keep: tuple[str, ...]) -> None:
    """Refuse names in the options of `audit_log` that are none of the function's arguments.

    Raises:
        DecorationError: Names the option and the nearest argument.
    """
    for option, texts in (("resource", (resource,)), ("subject", (subject,)), ("keep", keep)):
        for text in texts:
            if text is not None:
                _check(target, option, text)


def _check(target: Target, option: str, text: str) -> None:
    try:
        names = (text,) if option == "keep" else fields_of(text)
    except ValueError as error:
        fix = "write {argument} with bare names only"
        raise DecorationError("SMW-A132", f"@audit_log: {option} is no template: {error}", seen=text, fix=fix) from None
    for name in names:
        if name not in target.parameters:
            known = ", ".join(target.parameters) or "none"
            what = f"@audit_log: {option} names {name!r}, which is no argument of {target.qualname}."
            raise DecorationError("SMW-A133", what + nearest(name, target.parameters), fix=f"arguments: {known}")
