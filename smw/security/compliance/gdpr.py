"""Controls of the GDPR, as data: clause, rule, evidence, one call that passes and one that does not."""

from __future__ import annotations

from smw.security.compliance import evaluators as rule
from smw.security.compliance.model import Control, Vector

__all__ = ["CONTROLS"]

_PURPOSES = {
    "playlists": {"basis": "contract", "classes": ["personal"], "recipients": {"DE": "eea", "US": "scc"}},
    "tips": {"basis": "consent", "classes": ["personal"], "recipients": {"US": ""}},
    "care": {"basis": "contract", "classes": ["personal", "health"], "condition": "h"},
    "ads": {"basis": "legitimate_interests", "classes": ["personal", "health"]},
}
_CATALOGUE = {"purposes": _PURPOSES}

CONTROLS = (
    Control(
        id="gdpr.purpose",
        clause="GDPR Art. 5(1)(b), 6(1)",
        title="The purpose is registered, covers the data and has a legal basis",
        phase="before",
        evaluate=rule.purpose_registered,
        evidence=("purpose", "basis"),
        passing=Vector(catalogue=_CATALOGUE, purpose="playlists"),
        failing=Vector(catalogue=_CATALOGUE, purpose="playlists", classes=("health",), missing="data class health"),
    ),
    Control(
        id="gdpr.consent",
        clause="GDPR Art. 7(1), 7(3)",
        title="Where the basis is consent, a receipt for this purpose is at hand",
        phase="before",
        evaluate=rule.consent_given,
        evidence=("consent",),
        passing=Vector(catalogue=_CATALOGUE, purpose="tips", acting={"principal": "ada", "consents": {"tips": "r-17"}}),
        failing=Vector(
            catalogue=_CATALOGUE,
            purpose="tips",
            acting={"principal": "ada", "consents": {"playlists": "r-18"}},
            missing="a consent receipt",
        ),
    ),
    Control(
        id="gdpr.special",
        clause="GDPR Art. 9(2)",
        title="Special categories are processed under a named condition",
        phase="before",
        evaluate=rule.condition_for_special_data,
        evidence=("condition",),
        applies=frozenset({"special", "health"}),
        passing=Vector(catalogue=_CATALOGUE, purpose="care", classes=("health",)),
        failing=Vector(catalogue=_CATALOGUE, purpose="ads", classes=("health",), missing="purposes.ads.condition"),
    ),
    Control(
        id="gdpr.transfer",
        clause="GDPR Art. 44-46",
        title="Every recipient outside the EEA is covered by an instrument",
        phase="before",
        evaluate=rule.transfer_allowed,
        evidence=("recipients",),
        passing=Vector(catalogue=_CATALOGUE, purpose="playlists"),
        failing=Vector(catalogue=_CATALOGUE, purpose="tips", missing="recipients in US"),
    ),
)
