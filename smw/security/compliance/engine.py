"""Judges the calls of one function by the controls of its frameworks; it neither records nor refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from smw.security.compliance.arguments import Handled
from smw.security.compliance.catalogue import Catalogue
from smw.security.compliance.gdpr import CONTROLS as GDPR
from smw.security.compliance.hipaa import CONTROLS as HIPAA
from smw.security.compliance.model import Case, Control
from smw.security.compliance.pci import CONTROLS as PCI
from smw.security.compliance.results import field_names
from smw.security.compliance.sox import CONTROLS as SOX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from smw.security.context import Acting

__all__ = ["CONTROLS", "Failure", "Judge", "Judgement"]

CONTROLS: dict[str, tuple[Control, ...]] = {"GDPR": GDPR, "SOX": SOX, "HIPAA": HIPAA, "PCI": PCI}
_NO_CATALOGUE = "a data catalogue: set security.catalogue to a mapping or a TOML file"
_EMPTY = Catalogue()


class Failure(NamedTuple):
    """One control that a call does not pass.

    Args:
        control: Its id.
        clause: The clause that it implements.
        missing: What would have to be there.
    """

    control: str
    clause: str
    missing: str


class Judgement(NamedTuple):
    """What all controls say about one call.

    Args:
        failures: Controls that refuse it; empty when it passes.
        results: `control:result` of every control that was judged.
        evidence: What the controls found.
    """

    failures: tuple[Failure, ...]
    results: tuple[str, ...]
    evidence: dict[str, str]


class Judge:
    """The controls that apply to one function, chosen once.

    Args:
        frameworks: Frameworks in force.
        classes: Data classes of the function, where a call has no others; empty when nothing says what it handles.
        purpose: Purpose fixed by the decorator; None takes the one of the acting party.
        kept: Data classes of the arguments that the record keeps readable.
        catalogue: The data catalogue; None when there is none.
        durable: Tells whether the audit log survives the process.
    """

    def __init__(
        self,
        frameworks: Iterable[str],
        *,
        classes: frozenset[str] = frozenset(),
        purpose: str | None,
        kept: frozenset[str] = frozenset(),
        catalogue: Catalogue | None,
        durable: Callable[[], bool],
    ) -> None:
        self._all = tuple(control for framework in frameworks for control in CONTROLS[framework])
        self._applying: dict[frozenset[str], tuple[Control, ...]] = {}
        self._usual = Handled(classes, kept)
        self._purpose = purpose
        self._has_catalogue = catalogue is not None
        self._catalogue = catalogue or _EMPTY
        self.policy = self._catalogue.digest
        self._durable = durable
        # A judgement depends on nothing but the acting party and what is handled, which never change once made.
        self._latest: tuple[Acting | None, Handled, Judgement | None] = (None, self._usual, None)

    def controls_for(self, classes: frozenset[str]) -> tuple[Control, ...]:
        """Return the controls that have something to judge where these data classes are handled."""
        found = self._applying.get(classes)
        if found is None:
            found = tuple(c for c in self._all if not c.applies or c.applies & classes or not classes)
            self._applying[classes] = found  # there are no more sets than seven classes give
        return found

    def _what_is_unknown(self, handled: Handled) -> str:
        if not self._has_catalogue:
            return _NO_CATALOGUE
        if handled.unclassified:
            names = ", ".join(handled.unclassified)
            return f"the data class of {names}, or of each name inside: the catalogue's fields, as public if harmless"
        if not handled.classes:
            return "the data classes: list an argument in the catalogue's fields, or give require_compliance(data=...)"
        return ""

    @property
    def looks_at_results(self) -> bool:
        """Whether a control is judged on what the function returns."""
        return any(control.phase != "before" for control in self._all)

    def purpose_of(self, acting: Acting | None) -> str | None:
        """Return the purpose that a call has."""
        return self._purpose or (acting.purpose if acting is not None else None)

    def before(self, acting: Acting | None, handled: Handled | None = None) -> Judgement:
        """Judge a call that is about to run; calls under the same acting party with the same data are judged alike.

        Args:
            acting: Who acts; None when nobody said.
            handled: What data the call handles; None: what its function usually does.
        """
        handled = handled or self._usual
        known, seen, judgement = self._latest
        if judgement is None or known is not acting or seen != handled:
            judgement = self._judge_before(acting, handled)
            self._latest = acting, handled, judgement
        return judgement

    def _judge_before(self, acting: Acting | None, handled: Handled) -> Judgement:
        controls = tuple(c for c in self.controls_for(handled.classes) if c.phase != "after")
        unknown = self._what_is_unknown(handled)
        if unknown:
            failures = tuple(Failure(c.id, c.clause, unknown) for c in controls)
            return Judgement(failures, tuple(f"{c.id}:unresolved" for c in controls), {})
        case = Case(
            classes=handled.classes,
            acting=acting,
            purpose=self.purpose_of(acting),
            catalogue=self._catalogue,
            kept=handled.kept,
            durable=self._durable(),
        )
        return self._judge(controls, case)

    def after(self, acting: Acting | None, result: object, handled: Handled | None = None) -> Judgement:
        """Judge what a call returned."""
        handled = handled or self._usual
        names, searched = field_names(result)
        case = Case(
            classes=handled.classes,
            acting=acting,
            purpose=self.purpose_of(acting),
            catalogue=self._catalogue,
            kept=handled.kept,
            returned=self._catalogue.classes_of(names),
            searched=searched,
        )
        return self._judge(tuple(c for c in self.controls_for(handled.classes) if c.phase != "before"), case)

    def _judge(self, controls: tuple[Control, ...], case: Case) -> Judgement:
        failures: list[Failure] = []
        results: list[str] = []
        evidence: dict[str, str] = {}
        for control in controls:
            result, missing, found = control.evaluate(case)
            results.append(f"{control.id}:{result}")
            if result != "allow":
                failures.append(Failure(control.id, control.clause, missing))
            elif found:
                evidence.update(found)
        return Judgement(tuple(failures), tuple(results), evidence)
