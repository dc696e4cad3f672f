"""Controls of PCI DSS, as data: requirement, rule, evidence, one call that passes and one that does not."""

from __future__ import annotations

from smw.security.compliance import evaluators as rule
from smw.security.compliance.model import Control, Vector
from smw.security.context import Principal

__all__ = ["CONTROLS"]

_CATALOGUE = {"roles": {"cashier": ["card"]}, "retention_years": 1, "idle_limit_s": 3600}
_CASHIER = Principal(id="ada", roles=frozenset({"cashier"}), authentication="mfa", idle_s=899.0)
_VISITOR = Principal(id="bob", authentication="password", idle_s=901.0)
_CARD = ("card",)

CONTROLS = (
    Control(
        id="pci.sad",
        clause="PCI DSS 3.3.1.1-3.3.1.3",
        title="Track data, verification code and PIN are in no kept argument and no result",
        phase="both",
        evaluate=rule.card_secrets_stay_out,
        evidence=(),
        passing=Vector(classes=("card_secret",), more={"kept": frozenset({"card"}), "returned": frozenset({"card"})}),
        failing=Vector(classes=_CARD, more={"returned": frozenset({"card_secret"})}, missing="out of the result"),
    ),
    Control(
        id="pci.role",
        clause="PCI DSS 7.2",
        title="A role grants the data",
        phase="before",
        evaluate=rule.role_permits,
        evidence=("roles",),
        passing=Vector(catalogue=_CATALOGUE, classes=_CARD, acting={"principal": _CASHIER}),
        failing=Vector(catalogue=_CATALOGUE, classes=_CARD, acting={"principal": _VISITOR}, missing="data class card"),
    ),
    Control(
        id="pci.unique",
        clause="PCI DSS 8.2.1, 8.2.2",
        title="The id belongs to one user alone",
        phase="before",
        evaluate=rule.unique_user,
        evidence=("kind",),
        passing=Vector(catalogue=_CATALOGUE, classes=_CARD, acting={"principal": _CASHIER}),
        failing=Vector(catalogue=_CATALOGUE, classes=_CARD, acting={"principal": "Admin"}, missing="shared ids"),
    ),
    Control(
        id="pci.idle",
        clause="PCI DSS 8.2.8",
        title="The session was used within the last 15 minutes",
        phase="before",
        evaluate=rule.idle_within(900),
        evidence=("idle_s",),
        passing=Vector(catalogue=_CATALOGUE, classes=_CARD, acting={"principal": _CASHIER}),
        failing=Vector(catalogue=_CATALOGUE, classes=_CARD, acting={"principal": _VISITOR}, missing="900 s"),
    ),
    Control(
        id="pci.mfa",
        clause="PCI DSS 8.4.2",
        title="The principal proved itself by several factors",
        phase="before",
        evaluate=rule.authenticated_by_several_factors,
        evidence=("authentication",),
        passing=Vector(catalogue=_CATALOGUE, classes=_CARD, acting={"principal": _CASHIER}),
        failing=Vector(catalogue=_CATALOGUE, classes=_CARD, acting={"principal": _VISITOR}, missing="several factors"),
    ),
    Control(
        id="pci.retain",
        clause="PCI DSS 10.5.1",
        title="The audit log is on disk and kept for twelve months",
        phase="before",
        evaluate=rule.retained_for(1),
        evidence=("retention_years",),
        passing=Vector(catalogue=_CATALOGUE, classes=_CARD),
        failing=Vector(catalogue={}, classes=_CARD, missing="retention_years"),
    ),
)
