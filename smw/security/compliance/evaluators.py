"""The rules behind the controls: each looks at one case and says what is missing; none knows framework or clause."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from smw.security.compliance.model import ALLOW, Verdict, allow, deny, unresolved
from smw.security.folding import fold

if TYPE_CHECKING:
    from collections.abc import Callable

    from smw.security.compliance.model import Case
    from smw.security.context import Principal

__all__ = [
    "authenticated_by_several_factors",
    "card_secrets_stay_out",
    "condition_for_special_data",
    "consent_given",
    "duties_separated",
    "idle_within",
    "idle_within_limit",
    "named_user_with_role",
    "period_open",
    "purpose_registered",
    "record_kept",
    "retained_for",
    "role_permits",
    "transfer_allowed",
    "unique_user",
]

NOBODY = "a principal: run the call inside security.acting(principal, ...)"
# Members of the European Union, and Iceland, Liechtenstein and Norway.
EEA = frozenset({
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IS", "IT", "LI", "LT",
    "LU", "LV", "MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK",
})  # fmt: skip


def purpose_registered(case: Case) -> Verdict:
    """Require a purpose of the register that covers the function's data and names its legal basis."""
    if case.purpose is None:
        return deny("a purpose: require_compliance(..., purpose=...) or acting(..., purpose=...)")
    entry = case.catalogue.purposes.get(case.purpose)
    if entry is None:
        return deny(f"purpose {case.purpose!r} in the catalogue's purposes")
    if not case.classes <= entry.classes | {"public"}:
        extra = ", ".join(sorted(case.classes - entry.classes - {"public"}))
        return deny(f"data class {extra} among the classes of purpose {case.purpose!r}")
    return allow(purpose=case.purpose, basis=entry.basis)


def consent_given(case: Case) -> Verdict:
    """Require a consent receipt where the purpose rests on consent."""
    entry = case.catalogue.purposes.get(case.purpose or "")
    if entry is None:
        return unresolved("a registered purpose, to know whether consent is needed")
    if entry.basis != "consent":
        return ALLOW
    receipt = (case.acting.consents or {}).get(case.purpose or "") if case.acting else None
    if not receipt:
        return deny(f"a consent receipt: acting(..., consents={{{case.purpose!r}: receipt}})")
    return allow(consent=receipt)


def condition_for_special_data(case: Case) -> Verdict:
    """Require that the purpose names the condition under which special categories may be processed."""
    entry = case.catalogue.purposes.get(case.purpose or "")
    if entry is None:
        return unresolved("a registered purpose that names the condition for special categories")
    if entry.condition is None:
        return deny(f"the condition for special categories: purposes.{case.purpose}.condition")
    return allow(condition=entry.condition)


def transfer_allowed(case: Case) -> Verdict:
    """Require an instrument for each country outside the EEA that the purpose hands data to."""
    entry = case.catalogue.purposes.get(case.purpose or "")
    if entry is None:
        return unresolved("a registered purpose that names its recipients")
    for country, instrument in entry.recipients.items():
        if country not in EEA and instrument in {"", "eea"}:
            return deny(f"an instrument (adequacy, scc, bcr) for recipients in {country}")
    return allow(recipients=",".join(sorted(entry.recipients))) if entry.recipients else ALLOW


def _principal(case: Case) -> Principal | Verdict:
    return case.acting.principal if case.acting is not None else unresolved(NOBODY)


def unique_user(case: Case) -> Verdict:
    """Require a principal whose id belongs to one user or service alone."""
    who = _principal(case)
    if isinstance(who, Verdict):
        return who
    if fold(who.id) in case.catalogue.folded_shared_ids:
        return deny("an id of one's own: shared ids are nobody")
    return allow(kind=who.kind)


def named_user_with_role(case: Case) -> Verdict:
    """Require a named person with a role that the catalogue knows."""
    unique = unique_user(case)
    if unique.result != "allow" or case.acting is None:
        return unique
    who = case.acting.principal
    if who.kind != "user":
        return deny("a named user: a service cannot answer for a posting")
    known = who.roles & case.catalogue.roles.keys()
    if not known:
        return deny("a role of the catalogue: acting(Principal(id=..., roles=...))")
    return allow(role=min(known), authentication=who.authentication)


def role_permits(case: Case) -> Verdict:
    """Require a unique principal whose roles together may see all the function's data."""
    unique = unique_user(case)
    if unique.result != "allow" or case.acting is None:
        return unique
    roles = case.catalogue.roles
    granted = {"public"}.union(*(roles.get(role, ()) for role in case.acting.principal.roles))
    if not case.classes <= granted:
        extra = ", ".join(sorted(case.classes - granted))
        return deny(f"a role that permits data class {extra}")
    return allow(roles=",".join(sorted(case.acting.principal.roles & roles.keys())))


def authenticated_by_several_factors(case: Case) -> Verdict:
    """Require that the principal proved itself by more than one factor."""
    who = _principal(case)
    if isinstance(who, Verdict):
        return who
    if who.authentication != "mfa":
        return deny("authentication by several factors: Principal(authentication='mfa')")
    return allow(authentication="mfa")


def _idle(case: Case, limit_s: float) -> Verdict:
    who = _principal(case)
    if isinstance(who, Verdict):
        return who
    if who.idle_s is None:
        return unresolved("the time since the last activity: Principal(idle_s=...)")
    idle_s: object = who.idle_s
    if not isinstance(idle_s, int | float) or not 0 <= idle_s < math.inf:  # no comparison with NaN is true
        return unresolved("a time since the last activity of 0 s or more: Principal(idle_s=...)")
    if idle_s > limit_s:
        return deny(f"activity within the last {limit_s:g} s")
    return allow(idle_s=f"{idle_s:.0f}")


def idle_within(limit_s: float) -> Callable[[Case], Verdict]:
    """Return the rule that a session was used within `limit_s`, or within the catalogue's limit where that is less."""

    def evaluate(case: Case) -> Verdict:
        return _idle(case, min(limit_s, case.catalogue.idle_limit_s))

    return evaluate


def idle_within_limit(case: Case) -> Verdict:
    """Require that the session was used within the catalogue's limit."""
    return _idle(case, case.catalogue.idle_limit_s)


def duties_separated(case: Case) -> Verdict:
    """Require that nobody holds incompatible roles, or acts on an object that they acted on before."""
    who = _principal(case)
    if isinstance(who, Verdict):
        return who
    if not case.catalogue.incompatible:
        return unresolved("the pairs of roles that nobody may hold both: the catalogue's incompatible")
    for one, other in case.catalogue.incompatible:
        if one in who.roles and other in who.roles:
            return deny(f"another principal: roles {one} and {other} are incompatible")
    earlier = case.acting.earlier if case.acting else None
    if earlier is None:
        return unresolved("who acted on the object before: acting(..., earlier=...)")
    if fold(who.id) in map(fold, earlier):
        return deny("another principal than those who acted on the object before")
    return allow(matrix=case.catalogue.digest)


def period_open(case: Case) -> Verdict:
    """Require a ticket and an accounting period that is still open."""
    if case.acting is None:
        return unresolved(NOBODY)
    if not case.acting.ticket or not fold(case.acting.ticket):
        return deny("a ticket: acting(..., ticket=...)")
    if case.acting.period is None:
        return unresolved("the accounting period: acting(..., period=...)")
    if case.acting.period not in case.catalogue.open_periods:
        return deny(f"period {case.acting.period!r} among the catalogue's open_periods")
    return allow(period=case.acting.period, ticket=case.acting.ticket)


def record_kept(case: Case) -> Verdict:
    """Require an audit log that survives the process."""
    if not case.durable:
        return deny("an audit log on disk: set security.trail_dir")
    return allow(log="durable")


def retained_for(years: int) -> Callable[[Case], Verdict]:
    """Return the rule that the audit log is on disk and is kept for `years`."""

    def evaluate(case: Case) -> Verdict:
        kept = record_kept(case)
        if kept.result != "allow":
            return kept
        if case.catalogue.retention_years < years:
            return deny(f"retention of the audit log for {years} years: the catalogue's retention_years")
        return allow(retention_years=str(case.catalogue.retention_years))

    return evaluate


def card_secrets_stay_out(case: Case) -> Verdict:
    """Refuse to keep sensitive authentication data in a record, and to return it."""
    if "card_secret" in case.kept:
        return deny("sensitive authentication data out of audit_log(keep=...)")
    if case.returned is None:
        return ALLOW
    if "card_secret" in case.returned:
        return deny("sensitive authentication data out of the result")
    if not case.searched:
        return unresolved("a result that can be looked through: mappings, sequences, dataclasses or models")
    return ALLOW
