"""Judges the calls of one function by the controls of its frameworks; it neither records nor refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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
        classes: Data classes of the function; empty when nothing says what data it handles.
        purpose: Purpose fixed by the decorator; None takes the one of the acting party.
        kept: Data classes of the arguments that the record keeps readable.
        catalogue: The data catalogue; None when there is none.
        durable: Tells whether the audit log survives the process.
    """

    def __init__(
        self,
        frameworks: Iterable[str],
        *,
        classes: frozenset[str],
        purpose: str | None,
        kept: frozenset[str],
        catalogue: Catalogue | None,
        durable: Callable[[], bool],
    ) -> None:
        controls = [control for framework in frameworks for control in CONTROLS[framework]]
        self.controls = tuple(c for c in controls if not c.applies or c.applies & classes or not classes)
        self._before = tuple(c for c in self.controls if c.phase != "after")
        self._after = tuple(c for c in self.controls if c.phase != "before")
        self._classes = classes
        self._purpose = purpose
        self._kept = kept
        self._catalogue = catalogue or _EMPTY
        self.policy = self._catalogue.digest
        self._durable = durable
        # A judgement depends on nothing but the acting party, which never changes once it is made.
        self._latest: tuple[Acting | None, Judgement | None] = (None, None)
        self._unknown = self._what_is_unknown(catalogue, classes)

    @staticmethod
    def _what_is_unknown(catalogue: Catalogue | None, classes: frozenset[str]) -> str:
        if catalogue is None:
            return _NO_CATALOGUE
        if not classes:
            return "the data classes: list an argument in the catalogue's fields, or give require_compliance(data=...)"
        return ""

    @property
    def looks_at_results(self) -> bool:
        """Whether a control is judged on what the function returns."""
        return bool(self._after)

    def purpose_of(self, acting: Acting | None) -> str | None:
        """Return the purpose that a call has."""
        return self._purpose or (acting.purpose if acting is not None else None)

    def before(self, acting: Acting | None) -> Judgement:
        """Judge a call that is about to run; calls under the same acting party get the same judgement."""
        known, judgement = self._latest
        if judgement is None or known is not acting:
            judgement = self._judge_before(acting)
            self._latest = acting, judgement
        return judgement

    def _judge_before(self, acting: Acting | None) -> Judgement:
        if self._unknown:
            failures = tuple(Failure(c.id, c.clause, self._unknown) for c in self._before)
            return Judgement(failures, tuple(f"{c.id}:unresolved" for c in self._before), {})
        case = Case(
            classes=self._classes,
            acting=acting,
            purpose=self.purpose_of(acting),
            catalogue=self._catalogue,
            kept=self._kept,
            durable=self._durable(),
        )
        return self._judge(self._before, case)

    def after(self, acting: Acting | None, result: object) -> Judgement:
        """Judge what a call returned."""
        names, searched = field_names(result)
        fields = self._catalogue.fields
        case = Case(
            classes=self._classes,
            acting=acting,
            purpose=self.purpose_of(acting),
            catalogue=self._catalogue,
            kept=self._kept,
            returned=frozenset(fields[name] for name in names if name in fields),
            searched=searched,
        )
        return self._judge(self._after, case)

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
