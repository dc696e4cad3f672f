"""The two records of a watched call, intent and outcome, and what follows when the log cannot take them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Literal

from smw._kernel.signals import TrailFailed
from smw.errors import AuditUnavailable
from smw.security.context import current_acting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from smw._kernel.call import Call
    from smw._kernel.host import Host
    from smw.security.compliance.engine import Failure, Judgement
    from smw.security.plan import Plan
    from smw.security.report import Tally
    from smw.security.trail.canonical import Digests
    from smw.security.trail.log import Trail

__all__ = ["Entry", "Level", "Recorder"]

Level = Literal["LOW", "MEDIUM", "HIGH"]
_log = logging.getLogger("smw.security")
_SUBJECTS_MAX = 20


class Recorder:
    """Writes the records of one security part.

    Args:
        trail: The audit log.
        digests: Stands for subjects and for arguments that are not kept.
        level: LOW records outcomes, buffered; MEDIUM also intents, and waits until the outcome is durable; HIGH
            waits for the intent before the call as well.
        deny: Refuse calls that cannot be recorded; otherwise they run, with a signal.
        host: Bus for the signal.
        tally: Counts calls that ran unrecorded.
    """

    def __init__(
        self,
        trail: Trail,
        digests: Digests,
        *,
        level: Level,
        deny: bool,
        host: Host,
        tally: Tally,
    ) -> None:
        self.trail = trail
        self.digests = digests
        self.level = level
        self.deny = deny
        self._host = host
        self._tally = tally
        self._told = False

    async def run(self, entry: Entry, body: Callable[[], Awaitable[Any]], *, begin: bool) -> Any:
        """Run the rest of a call between its two records.

        Args:
            entry: The pair of records.
            body: The rest of the call.
            begin: Write the intent first; otherwise whoever judges the call does so once it passed.

        Raises:
            AuditUnavailable: The call may not run, or its result may not be handed out, without its record.
        """
        try:
            if begin:
                await entry.begin()
            result = await body()
        except Exception as error:
            if entry.failure is not None:
                await entry.end("denied", raising=True)
            elif entry.refused:
                entry.end_now("refused", "the audit log failed")
            else:
                await entry.end("error", type(error).__name__, raising=True)
            raise
        except BaseException as error:
            entry.end_now("closed" if isinstance(error, GeneratorExit) else _name_of(error), type(error).__name__)
            raise
        await entry.end("ok")
        return result

    def failed(self, error: AuditUnavailable, *, ran: bool = True) -> None:
        """Tell that the log did not take a record, and where the call ran all the same, that it did.

        Args:
            error: What the log said.
            ran: False for a call that was refused for that.
        """
        self._host.bus.send(TrailFailed(error.what))
        if not ran:
            return
        self._tally.unrecorded()
        if not self._told:
            self._told = True
            _log.warning("calls run without audit records: %s", error.what)

    def worked(self) -> None:
        """Tell again the next time."""
        self._told = False


def _name_of(error: BaseException) -> str:
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "interrupted"


class Entry:
    """The two records of one call; a call denied before it ran has one.

    Attributes:
        purpose: The purpose it has, where a control knows it.
        judgement: What the controls said before it ran; None without controls.
        failure: The control that refused it.
        refused: It did not run because the audit log failed.
        rules: Mode and digest of the catalogue by which it was judged.

    Args:
        recorder: Where the records go.
        plan: What is recorded.
        call: The call.
    """

    __slots__ = (
        "_begun",
        "_call",
        "_intent",
        "_plan",
        "_recorder",
        "failure",
        "judgement",
        "purpose",
        "refused",
        "rules",
    )

    def __init__(self, recorder: Recorder, plan: Plan, call: Call) -> None:
        self._recorder = recorder
        self._plan = plan
        self._call = call
        self._begun: dict[str, Any] | None = None
        self._intent: dict[str, Any] | None = None
        self.purpose: str | None = None
        self.judgement: Judgement | None = None
        self.failure: Failure | None = None
        self.refused = False
        self.rules: tuple[str, str] = ("", "")

    async def begin(self) -> None:
        """Record the intent, as durably as the level asks for.

        Raises:
            AuditUnavailable: The call must not run.
            TypeError: The arguments do not fit the function.
        """
        recorder = self._recorder
        try:
            trail = recorder.trail
            self._begun = self._facts()  # now, for the call may change its arguments
            if recorder.level == "HIGH":
                self._intent = {"kind": "intent", **self._begun}
                await trail.commit(self._intent, self._call.mode)
                return
            if recorder.deny:
                trail.ensure()
            if recorder.level == "MEDIUM":
                self._intent = {"kind": "intent", **self._begun}
                trail.put(self._intent)
        except AuditUnavailable as error:
            if recorder.deny:
                self.refused = True
                raise
            recorder.failed(error)

    async def end(self, result: str, reason: str = "", *, raising: bool = False) -> None:
        """Record the outcome; waits for it to be durable above LOW.

        Args:
            result: `ok`, `error` or `denied`.
            reason: Type of the error.
            raising: An error is on its way to the caller, which must not be replaced by another.

        Raises:
            AuditUnavailable: Nothing of the call is durable, so its result must not be handed out.
        """
        recorder = self._recorder
        try:
            trail = recorder.trail
            record = self._outcome(result, reason)
            if recorder.level == "LOW":
                trail.put(record)
            else:
                await trail.commit(record, self._call.mode)
            recorder.worked()
        except AuditUnavailable as error:
            if recorder.deny and recorder.level == "MEDIUM" and not raising:
                raise
            recorder.failed(error)

    def end_now(self, result: str, reason: str) -> None:
        """Record the outcome without waiting: the call is being torn down."""
        try:
            self._recorder.trail.put(self._outcome(result, reason))
        except AuditUnavailable as error:
            self._recorder.failed(error, ran=not self.refused)

    def _outcome(self, result: str, reason: str) -> dict[str, Any]:
        intent = self._intent
        record: dict[str, Any]
        if intent is not None and "seq" in intent:
            record = {"kind": "outcome", "action": self._plan.action, "fn": self._plan.fn}
            record["intent_seq"], record["intent_log"] = intent["seq"], intent["log"]
        else:
            record = self._facts() if self._begun is None else self._begun
            record["kind"] = "denied" if result == "denied" else "outcome"
        record["result"] = result
        if reason:
            record["reason"] = reason
        if self.failure is not None:
            record["control"], record["clause"], record["missing"] = self.failure
        return record

    def _facts(self) -> dict[str, Any]:
        arguments = self._call.arguments
        try:
            return self._described(arguments)
        except Exception as error:  # an argument whose own code fails while it is looked at
            what = "the call cannot be described for the audit log"
            raise AuditUnavailable("SMW-A126", what, seen=type(error).__name__) from error

    def _described(self, arguments: Mapping[str, object]) -> dict[str, Any]:
        plan, acting = self._plan, current_acting()
        facts: dict[str, Any] = {"action": plan.action, "fn": plan.fn}
        subjects = plan.subjects_of(arguments)
        purpose = self.purpose
        if acting is not None:
            facts["actor"], facts["actor_kind"] = acting.principal.id, acting.principal.kind
            if acting.source is not None:
                facts["source"] = acting.source
            subjects += acting.subjects
            purpose = purpose or acting.purpose
        if purpose is not None:
            facts["purpose"] = purpose
        resource = plan.resource_of(arguments)
        if resource is not None:
            facts["resource"] = resource
        if len(subjects) > _SUBJECTS_MAX:
            facts["subjects_count"] = len(subjects)
            facts["subjects_digest"] = self._recorder.digests.of({"subjects": sorted(subjects)})
        elif subjects:
            facts["subjects"] = [self._recorder.digests.pseudonym(subject) for subject in subjects]
        if plan.keep:
            facts["args"] = plan.kept_of(arguments)
        rest = plan.rest_of(arguments)
        if rest:
            facts["args_digest"] = self._recorder.digests.of(rest)
        if self.judgement is not None:
            facts["controls"], facts["evidence"] = self.judgement.results, self.judgement.evidence
            facts["mode"], facts["policy"] = self.rules
        return facts
