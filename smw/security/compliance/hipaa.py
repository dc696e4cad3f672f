"""Controls of HIPAA's security rule, as data: clause, rule, evidence, one call that passes and one that does not."""

from __future__ import annotations

from smw.security.compliance import evaluators as rule
from smw.security.compliance.model import Control, Vector
from smw.security.context import Principal

__all__ = ["CONTROLS"]

_CATALOGUE = {"roles": {"clinician": ["personal", "health"], "clerk": ["personal"]}, "idle_limit_s": 600}
_CLINICIAN = Principal(id="ada", roles=frozenset({"clinician"}), authentication="mfa", idle_s=20.0)
_CLERK = Principal(id="bob", roles=frozenset({"clerk"}), authentication="password", idle_s=601.0)
_HEALTH = ("health",)

CONTROLS = (
    Control(
        id="hipaa.access",
        clause="45 CFR 164.312(a)(1), (a)(2)(i)",
        title="A unique user acts, and a role permits the data",
        phase="before",
        evaluate=rule.role_permits,
        evidence=("roles",),
        passing=Vector(catalogue=_CATALOGUE, classes=_HEALTH, acting={"principal": _CLINICIAN}),
        failing=Vector(
            catalogue=_CATALOGUE, classes=_HEALTH, acting={"principal": _CLERK}, missing="data class health"
        ),
    ),
    Control(
        id="hipaa.idle",
        clause="45 CFR 164.312(a)(2)(iii)",
        title="The session was used within the limit",
        phase="before",
        evaluate=rule.idle_within_limit,
        evidence=("idle_s",),
        passing=Vector(catalogue=_CATALOGUE, classes=_HEALTH, acting={"principal": _CLINICIAN}),
        failing=Vector(catalogue=_CATALOGUE, classes=_HEALTH, acting={"principal": _CLERK}, missing="600 s"),
    ),
    Control(
        id="hipaa.record",
        clause="45 CFR 164.312(b)",
        title="The call is recorded in a log that survives the process",
        phase="before",
        evaluate=rule.record_kept,
        evidence=("log",),
        passing=Vector(catalogue=_CATALOGUE, classes=_HEALTH),
        failing=Vector(catalogue=_CATALOGUE, classes=_HEALTH, more={"durable": False}, missing="trail_dir"),
    ),
    Control(
        id="hipaa.authn",
        clause="45 CFR 164.312(d)",
        title="The principal proved itself by several factors",
        phase="before",
        evaluate=rule.authenticated_by_several_factors,
        evidence=("authentication",),
        passing=Vector(catalogue=_CATALOGUE, classes=_HEALTH, acting={"principal": _CLINICIAN}),
        failing=Vector(catalogue=_CATALOGUE, classes=_HEALTH, acting={"principal": _CLERK}, missing="several factors"),
    ),
)
