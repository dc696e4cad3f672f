"""The decorators that users import: what they accept; what they do is the security part's, found at first call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from smw._kernel import current
from smw._kernel.call import Kind
from smw._kernel.chain import Advice, Bound, advise
from smw._kernel.told import plainly
from smw.errors import DecorationError
from smw.security.compliance.names import frameworks_of
from smw.security.templates import check_names

if TYPE_CHECKING:
    from smw._kernel.call import Target
    from smw.security.part import Security

__all__ = ["AuditLog", "RequireCompliance", "audit_log", "require_compliance"]

F = TypeVar("F", bound=Callable[..., Any])
Mode = Literal["enforce", "shadow"]
_MODES = ("enforce", "shadow")
_JUDGED = "smw_judged"
_KEPT = "smw_kept"


def _names(option: str, names: Iterable[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        fix = f'{option}=("{names}",)'
        raise DecorationError("SMW-A134", f"{option} takes several names, not one text", seen=names, fix=fix)
    return tuple(names)


class AuditLog(Advice):
    """Records each call: an intent before it, an outcome after it.

    Args:
        action: What the call does, in the words of the service.
        resource: Argument name or template of what is acted on.
        subject: Argument name or template of whose data it is.
        keep: Arguments that stay readable in the record.
        owner: The security part; None takes the current runtime's.

    Raises:
        DecorationError: An option is of the wrong type.
    """

    name = "audit_log"

    def __init__(
        self, action: Any, resource: str | None, subject: str | None, keep: Iterable[str], owner: Security | None
    ) -> None:
        if not isinstance(action, str) or not action:
            fix = '@security.audit_log("user_data_access")'
            raise DecorationError("SMW-A135", "@audit_log needs the name of an action", seen=action, fix=fix)
        self.action: str = action
        self.resource = resource
        self.subject = subject
        self.keep = _names("keep", keep)
        self.owner = owner

    def check(self, target: Target) -> None:
        """Refuse names that are none of the function's arguments.

        Raises:
            DecorationError: Names the option and the nearest argument.
        """
        check_names(target, resource=self.resource, subject=self.subject, keep=self.keep)
        vars(target).setdefault(_KEPT, set()).update(self.keep)

    def bind(self, target: Target) -> Bound | None:
        """Find the security part and let it record."""
        part: Security = self.owner or current.part("security")
        # A control further down judges first and then has the intent written, so that a denial is one record.
        begin = not vars(target).get(_JUDGED, False)
        return Bound(part.recording(target, self, begin=begin))

    def describe(self) -> str:
        """Return the decorator as written."""
        return f"@audit_log({self.action!r})"


class RequireCompliance(Advice):
    """Runs a call only when the controls of some frameworks are satisfied.

    Args:
        frameworks: Their names.
        purpose: Purpose of the data catalogue; None takes the acting party's.
        data: Data classes that the function handles besides those of its arguments.
        mode: `enforce` or `shadow`; None takes the security part's.
        owner: The security part; None takes the current runtime's.

    Raises:
        DecorationError: A framework or mode is unknown.
    """

    name = "require_compliance"

    def __init__(
        self,
        frameworks: Iterable[str],
        purpose: str | None,
        data: Iterable[str],
        mode: Mode | None,
        owner: Security | None,
    ) -> None:
        self.frameworks = frameworks_of(frameworks)
        self.purpose = purpose
        self.data = _names("data", data)
        if mode is not None and mode not in _MODES:
            raise DecorationError("SMW-A136", "@require_compliance: unknown mode", seen=mode, fix="enforce or shadow")
        self.mode = mode
        self.owner = owner

    def check(self, target: Target) -> None:
        """Refuse generators where a control looks at results: what they yield is gone before it can be judged.

        Raises:
            DecorationError: PCI is asked for on a generator.
        """
        if "PCI" in self.frameworks and target.kind in {Kind.GEN, Kind.ASYNC_GEN}:
            what = f"PCI controls look at results, and {target.qualname} is a generator"
            raise DecorationError("SMW-A137", what, fix="return a list, or decorate what consumes the generator")
        vars(target)[_JUDGED] = True

    def bind(self, target: Target) -> Bound | None:
        """Find the security part and let it judge."""
        part: Security = self.owner or current.part("security")
        return Bound(part.judging(target, self, kept=frozenset(vars(target).get(_KEPT, ()))))

    def describe(self) -> str:
        """Return the decorator as written."""
        return f"@require_compliance([{', '.join(self.frameworks)}])"


@plainly("@audit_log", '@audit_log("user_data_access")')
def audit_log(
    action: str, *, resource: str | None = None, subject: str | None = None, keep: Iterable[str] = ()
) -> Callable[[F], F]:
    """Record each call in the audit log: who did what, to what, with which outcome.

    Args:
        action: What the call does, in the words of the service.
        resource: Argument name or template (`"playlist:{playlist_id}"`) of what is acted on; readable in the log.
        subject: Argument name or template of whose data it is; recorded as a pseudonym.
        keep: Arguments that stay readable; all others are recorded as one keyed digest.

    Raises:
        DecorationError: A name is none of the function's arguments.
    """
    return advise(AuditLog(action, resource, subject, keep, None))


@plainly("@require_compliance", '@require_compliance(["GDPR"])')
def require_compliance(
    frameworks: Iterable[str], *, purpose: str | None = None, data: Iterable[str] = (), mode: Mode | None = None
) -> Callable[[F], F]:
    """Run each call only when the controls of the frameworks are satisfied.

    Production enforces: missing evidence denies, and `Denied` names control, clause and what is missing. Elsewhere
    the call runs, and log, signal and report say what would have been denied.

    Args:
        frameworks: `GDPR`, `SOX`, `HIPAA`, `PCI-DSS`.
        purpose: Purpose of the data catalogue; None takes that of `security.acting`.
        data: Data classes that the function handles, besides those that the catalogue gives its arguments.
        mode: `enforce` or `shadow` for this function alone.

    Raises:
        DecorationError: The list is empty, or a framework or mode is unknown.
    """
    return advise(RequireCompliance(frameworks, purpose, data, mode, None))
