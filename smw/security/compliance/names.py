"""The names of the frameworks and how people spell them; it knows no control, so that decorating loads none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from smw.errors import DecorationError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FRAMEWORKS", "frameworks_of"]

FRAMEWORKS = ("GDPR", "SOX", "HIPAA", "PCI")
_SPELLED = {"PCIDSS": "PCI"}


def frameworks_of(names: Iterable[str]) -> tuple[str, ...]:
    """Return the frameworks meant by `names`, each once, in the order given; `PCI-DSS`, `pci_dss`, `PCI` are one.

    Raises:
        DecorationError: The list is empty, is a bare text, or holds an unknown name.
    """
    fix = f"a list of {', '.join(FRAMEWORKS)} (or PCI-DSS)"
    if isinstance(names, str) or callable(names):
        raise DecorationError("SMW-A130", "@require_compliance takes a list of frameworks", seen=names, fix=fix)
    found: dict[str, None] = {}
    for name in names:
        folded = re.sub(r"[-_ ]", "", str(name)).upper()
        folded = _SPELLED.get(folded, folded)
        if folded not in FRAMEWORKS:
            hint = nearest(folded, FRAMEWORKS)
            raise DecorationError("SMW-A131", f"unknown compliance framework {name!r}.{hint}", fix=fix)
        found[folded] = None
    if not found:
        raise DecorationError("SMW-A130", "@require_compliance was given no framework", fix=fix)
    return tuple(found)
