"""Controls of the Sarbanes-Oxley Act, as data: clause, rule, evidence, one call that passes and one that does not."""

from __future__ import annotations

from smw.security.compliance import evaluators as rule
from smw.security.compliance.model import Control, Vector
from smw.security.context import Principal

__all__ = ["CONTROLS"]

_CATALOGUE = {
    "roles": {"maker": ["financial"], "checker": ["financial"]},
    "incompatible": [["maker", "checker"]],
    "open_periods": ["2026-07"],
    "retention_years": 7,
}
_MAKER = Principal(id="ada", roles=frozenset({"maker"}))
_BOTH = Principal(id="bob", roles=frozenset({"maker", "checker"}))
_FINANCIAL = ("financial",)

CONTROLS = (
    Control(
        id="sox.identity",
        clause="SOX §404, AS 2201",
        title="A named user with a role acts; shared ids and services do not",
        phase="before",
        evaluate=rule.named_user_with_role,
        evidence=("role", "authentication"),
        passing=Vector(catalogue=_CATALOGUE, acting={"principal": _MAKER}),
        failing=Vector(catalogue=_CATALOGUE, acting={"principal": "root"}, missing="shared ids"),
    ),
    Control(
        id="sox.duties",
        clause="COSO P10",
        title="No incompatible roles in one hand, and nobody approves their own work",
        phase="before",
        evaluate=rule.duties_separated,
        evidence=("matrix",),
        applies=frozenset(_FINANCIAL),
        passing=Vector(catalogue=_CATALOGUE, classes=_FINANCIAL, acting={"principal": _MAKER, "earlier": ("eve",)}),
        failing=Vector(
            catalogue=_CATALOGUE,
            classes=_FINANCIAL,
            acting={"principal": _BOTH, "earlier": ()},
            missing="incompatible",
        ),
    ),
    Control(
        id="sox.period",
        clause="SOX §404 ITGC",
        title="A posting has a ticket and goes to an open period",
        phase="before",
        evaluate=rule.period_open,
        evidence=("period", "ticket"),
        applies=frozenset(_FINANCIAL),
        passing=Vector(
            catalogue=_CATALOGUE,
            classes=_FINANCIAL,
            acting={"principal": _MAKER, "ticket": "C-7", "period": "2026-07"},
        ),
        failing=Vector(
            catalogue=_CATALOGUE,
            classes=_FINANCIAL,
            acting={"principal": _MAKER, "ticket": "C-7", "period": "2026-06"},
            missing="open_periods",
        ),
    ),
    Control(
        id="sox.retain",
        clause="SOX §802, Reg S-X 2-06",
        title="The audit log is on disk and kept for seven years",
        phase="before",
        evaluate=rule.retained_for(7),
        evidence=("retention_years",),
        passing=Vector(catalogue=_CATALOGUE),
        failing=Vector(catalogue=_CATALOGUE, more={"durable": False}, missing="trail_dir"),
    ),
)
