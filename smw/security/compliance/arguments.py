"""Which data classes the arguments of a call have, and which argument nobody classified; it judges nothing."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

from smw.security.compliance.shapes import NODES_MAX, NOTHING, PLAIN, data_inside, is_leaf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smw._kernel.call import Target
    from smw.security.compliance.catalogue import Catalogue

__all__ = ["Arguments", "Handled"]


class Handled(NamedTuple):
    """What data one call handles.

    Args:
        classes: Its data classes.
        kept: Those of the arguments that the record keeps readable.
        unclassified: Parameters for which, or for something inside which, the catalogue has no class.
    """

    classes: frozenset[str]
    kept: frozenset[str] = frozenset()
    unclassified: tuple[str, ...] = ()


class Arguments:
    """The parameters of one function, looked up once; what calls put inside them, at each call.

    Args:
        target: The function.
        catalogue: Gives classes to names; None knows none.
        data: Data classes that the function handles besides.
        kept: Parameters that the record keeps readable.
    """

    def __init__(
        self, target: Target, catalogue: Catalogue | None, *, data: frozenset[str], kept: frozenset[str]
    ) -> None:
        self._catalogue = catalogue
        self._kept = kept
        self._is_direct = target.is_direct
        self._owner = next((name for name in target.parameters[:1] if name in {"self", "cls"}), "")
        self._various = _various(target)
        known = {name: self._classes_of((name,)) for name in target.parameters}
        self._known = {name: classes for name, classes in known.items() if classes}
        classes = data.union(*self._known.values())
        kept_classes = frozenset[str]().union(*(self._known.get(name, ()) for name in kept))
        self._usual = Handled(classes, kept_classes, self._unclassified(target.parameters))

    def of(self, arguments: Mapping[str, object]) -> Handled:
        """Return what a call handles; the usual one, whose arguments are texts and numbers, is known beforehand."""
        deep = {
            name: value
            for name, value in arguments.items()
            # A plain value of `self` belongs to a function that is no method. Below a foreign decorator that takes
            # anything, the names may be others than the function's.
            if (type(value) not in PLAIN) is not (name == self._owner) or not self._is_direct
        }
        if not deep:
            return self._usual
        classes, kept = set(self._usual.classes), set(self._usual.kept)
        unclassified = [name for name in self._usual.unclassified if name not in deep]
        for name, value in deep.items():
            found = set(self._known.get(name) or self._classes_of((name,)))
            if not self._look(value, bool(found), found):
                unclassified.append(name)
            classes |= found
            if name in self._kept:
                kept |= found
        return Handled(frozenset(classes), frozenset(kept), tuple(unclassified))

    def _unclassified(self, parameters: tuple[str, ...]) -> tuple[str, ...]:
        skipped = {self._owner, *self._various}
        return tuple(name for name in parameters if name not in self._known and name not in skipped)

    def _classes_of(self, names: tuple[str, ...]) -> frozenset[str]:
        return frozenset() if self._catalogue is None else self._catalogue.classes_of(names)

    def _look(self, value: Any, covered: bool, found: set[str]) -> bool:  # noqa: FBT001 - as in the loop below
        """Collect the classes of all names inside; tells whether everything in there has a name with a class."""
        seen: dict[tuple[int, bool], object] = {}
        pending: list[tuple[Any, bool]] = [(value, covered)]
        while pending:
            value, covered = pending.pop()
            if value is NOTHING or (id(value), covered) in seen:
                continue
            parts = None if is_leaf(value) else _parts(value)
            if parts is None:
                if not covered:
                    return False
                continue
            if len(seen) >= NODES_MAX:
                return False
            seen[id(value), covered] = value
            for names, child in parts:
                classes = self._classes_of(names)
                found |= classes
                pending.append((child, covered or bool(classes)))
        return True


def _parts(value: Any) -> list[tuple[tuple[str, ...], Any]] | None:
    try:
        return data_inside(value)
    except Exception:  # noqa: BLE001 - its own code fails while it is looked at: it was not seen
        return None


def _various(target: Target) -> frozenset[str]:
    """Return the parameters that stand for any number of arguments; none of them is none."""
    if target.signature is None:
        return frozenset(target.parameters)
    kinds = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return frozenset(name for name, item in target.signature.parameters.items() if item.kind in kinds)
