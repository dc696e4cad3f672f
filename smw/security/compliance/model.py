"""What a control is made of, what it is judged from and what comes out; it holds no control and no rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from smw.security.compliance.catalogue import Catalogue
    from smw.security.context import Acting

__all__ = ["Case", "Control", "Evaluator", "Result", "Vector", "Verdict", "allow", "deny", "unresolved"]

Result = Literal["allow", "deny", "unresolved"]
Phase = Literal["before", "after", "both"]


class Verdict(NamedTuple):
    """What one control says about one call.

    Args:
        result: `unresolved` is missing knowledge, not missing permission; it denies as well.
        missing: What would have to be there, in words for the developer; nothing personal.
        evidence: What was found; goes into the record.
    """

    result: Result
    missing: str = ""
    evidence: Mapping[str, str] = {}


ALLOW = Verdict("allow")


def allow(**evidence: str) -> Verdict:
    """Return a verdict that lets the call pass, with what was found."""
    return Verdict("allow", evidence=evidence)


def deny(missing: str) -> Verdict:
    """Return a verdict that refuses the call."""
    return Verdict("deny", missing)


def unresolved(missing: str) -> Verdict:
    """Return a verdict that refuses the call because it cannot be judged."""
    return Verdict("unresolved", missing)


@dataclass(slots=True, kw_only=True)  # not frozen: one is made for each call, and that would take four times as long
class Case:
    """One call as the evaluators see it; nobody changes it.

    Args:
        classes: Data classes that the function handles.
        acting: Who acts; None when nobody said.
        purpose: For what.
        catalogue: The data catalogue.
        kept: Data classes of the arguments that the audit log keeps readable.
        durable: The audit log survives the process.
        returned: Data classes among the fields of the result; None before the call.
        searched: The whole result could be looked through.
    """

    classes: frozenset[str]
    acting: Acting | None
    purpose: str | None
    catalogue: Catalogue
    kept: frozenset[str] = frozenset()
    durable: bool = True
    returned: frozenset[str] | None = None
    searched: bool = True


Evaluator = Callable[[Case], Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """A call that a control must judge in a certain way; tests are made from it.

    Args:
        catalogue: The data catalogue.
        acting: Arguments of `acting`; None: nobody acts.
        classes: Data classes of the function.
        purpose: The purpose in force.
        more: Further fields of the case.
        missing: For a failing vector: words that the verdict must contain.
    """

    catalogue: Mapping[str, Any] = field(default_factory=dict)
    acting: Mapping[str, Any] | None = None
    classes: tuple[str, ...] = ("personal",)
    purpose: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One control of one framework.

    Args:
        id: Stable name, `framework.word`.
        clause: The clause that it implements.
        title: What it asks for, in one line.
        phase: Judged before the call, after it on the result, or both.
        evaluate: The rule.
        evidence: Names of what it writes into the record.
        applies: Data classes without which it has nothing to judge; empty: it always applies.
        passing: A call that passes.
        failing: A call that does not.
    """

    id: str
    clause: str
    title: str
    phase: Phase
    evaluate: Evaluator
    evidence: tuple[str, ...]
    applies: frozenset[str] = frozenset()
    passing: Vector
    failing: Vector
