"""Tags and their templates: checked against a function's parameters when decorating, filled from its arguments."""

from __future__ import annotations

import string
from functools import lru_cache, reduce
from typing import TYPE_CHECKING, Any

from smw._kernel.told import plainly
from smw.cache.naming.arguments import UnkeyableError, tag_text
from smw.errors import ConfigError, DecorationError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Template", "tag", "templates"]

_FORM = 'tags=["user", "user:{user_id}"]'
_FILLED = 'cache.tag("user:{user_id}", user_id=7)'


class Template:
    """One tag, fixed or with fields such as ``user:{user_id}`` or ``user:{order.user_id}``.

    Args:
        text: The template.

    Raises:
        DecorationError: It is no template of plain fields.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            parsed = list(string.Formatter().parse(text))
        except ValueError as error:
            raise DecorationError("SMW-C107", f"the tag {text!r} is malformed: {error}", fix=_FORM) from None
        self._parts: list[tuple[str, tuple[str, ...]]] = []
        for literal, field, spec, conversion in parsed:
            path = tuple((field or "").split("."))
            plain = field is None or all(name.isidentifier() for name in path)
            if spec or conversion or not plain:
                what = f"the tag {text!r} may hold only names of parameters and their attributes"
                raise DecorationError("SMW-C107", what, fix=_FORM)
            self._parts.append((literal, path if field is not None else ()))
        self.fields = tuple(path for _, path in self._parts if path)

    def check(self, parameters: Sequence[str], function: str) -> None:
        """Refuse a field that is no parameter of the function.

        Raises:
            DecorationError: Names the nearest parameter.
        """
        for path in self.fields:
            if path[0] not in parameters:
                what = f"the tag {self.text!r} of {function} names {path[0]!r}, which is no parameter of it."
                fix = f"one of: {', '.join(parameters) or 'none, it has no parameters'}"
                raise DecorationError("SMW-C107", what + nearest(path[0], parameters), fix=fix)

    def render(self, arguments: Mapping[str, object]) -> str:
        """Return the tag for these arguments.

        Raises:
            UnkeyableError: A field has no text.
        """
        return "".join(literal + (_value(path, arguments) if path else "") for literal, path in self._parts)


def _value(path: tuple[str, ...], arguments: Mapping[str, object]) -> str:
    try:
        return tag_text(reduce(getattr, path[1:], arguments[path[0]]))
    except UnkeyableError:
        raise
    except Exception as error:
        # A foreign property failed, which must not fail the call.
        raise UnkeyableError("failing-tag", f"{'.'.join(path)}: {type(error).__name__}") from error


@plainly("tag()", _FILLED)
def tag(template: str, /, **fields: object) -> str:
    """Return the tag that `cached` and `invalidate` make of the same template and values, whatever the values hold.

    For `drop` by hand, and for functions that tell tags of a result: within a tag, a value with ``:`` or ``%`` in it,
    None, an enum or a time reads otherwise than within an f-string.

    Args:
        template: Text with fields: ``"user:{user_id}"``.
        fields: Their values, by name.

    Raises:
        DecorationError: The template is malformed.
        ConfigError: It is no text, or a field has no value, one that has no text, or is none of the template's.
    """
    given: Any = template
    if not isinstance(given, str) or not given:
        what = "tag() takes a template, which is a text that is not empty"
        raise ConfigError("SMW-C111", what, seen=type(template).__name__, fix=_FILLED)
    made = _template(template)
    named = {path[0] for path in made.fields}
    for name in sorted(named ^ fields.keys()):
        lacks, known = ("is given no value for", fields) if name in named else ("has no field", named)
        raise ConfigError("SMW-C111", f"the tag {template!r} {lacks} {name!r}.{nearest(name, known)}", fix=_FILLED)
    try:
        return made.render(fields)
    except UnkeyableError as error:
        what = f"tag() cannot fill {template!r}: {error.reason} ({error.what})"
        raise ConfigError("SMW-C111", what, fix="use fields whose values are plain, such as identifiers") from None


_template = lru_cache(maxsize=256)(Template)


def templates(tags: object) -> tuple[Template, ...]:
    """Return the templates of a decorator's ``tags=``.

    Raises:
        DecorationError: It is no sequence of texts.
    """
    if isinstance(tags, str) or not isinstance(tags, list | tuple | set | frozenset):
        raise DecorationError("SMW-C106", "tags= takes a sequence of texts", seen=repr(tags), fix=_FORM)
    for tag in tags:
        if not isinstance(tag, str) or not tag:
            raise DecorationError("SMW-C106", "a tag is a text that is not empty", seen=repr(tag), fix=_FORM)
    return tuple(Template(tag) for tag in tags)
