"""What `require_compliance` does around a call: judge, refuse or watch, have the intent written; it knows no rule."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from smw._kernel.signals import AccessDenied, AccessShadowed
from smw.errors import Denied
from smw.security.context import current_acting
from smw.security.recorder import Entry

if TYPE_CHECKING:
    from smw._kernel.call import Call
    from smw._kernel.chain import Proceed
    from smw._kernel.host import Host
    from smw.security.compliance.arguments import Arguments
    from smw.security.compliance.engine import Failure, Judge
    from smw.security.plan import Plan
    from smw.security.recorder import Recorder
    from smw.security.report import Tally

__all__ = ["ENTRIES", "Gate"]

ENTRIES = "security.entries"
_log = logging.getLogger("smw.security")


class Gate:
    """The controls of one function.

    Args:
        judge: Judges its calls.
        arguments: Tells what data a call handles.
        plan: What is recorded where no `audit_log` above has begun a record.
        recorder: Where that goes.
        enforce: Refuse what does not pass; otherwise it runs and is told.
        host: Bus for signals.
        tally: Counts for the report.
    """

    def __init__(
        self,
        judge: Judge,
        arguments: Arguments,
        plan: Plan,
        recorder: Recorder,
        *,
        enforce: bool,
        host: Host,
        tally: Tally,
    ) -> None:
        self._judge = judge
        self._arguments = arguments
        self._plan = plan
        self._recorder = recorder
        self._enforce = enforce
        self._rules = ("enforce" if enforce else "shadow", judge.policy)
        self._host = host
        self._tally = tally

    async def around(self, call: Call, proceed: Proceed) -> Any:
        """Judge a call and run it if it may; shares the records that an `audit_log` above has begun."""
        entries: list[Entry] | None = call.notes.get(ENTRIES)
        if entries:
            return await self._judged(call, proceed, entries)
        entry = Entry(self._recorder, self._plan, call)
        entries = call.notes[ENTRIES] = [entry]
        return await self._recorder.run(entry, lambda: self._judged(call, proceed, entries), begin=False)

    async def _judged(self, call: Call, proceed: Proceed, entries: list[Entry]) -> Any:
        acting = current_acting()
        handled = self._arguments.of(call.arguments)
        judgement = self._judge.before(acting, handled)
        purpose = self._judge.purpose_of(acting)
        self._tally.judged(self._plan.fn)
        for entry in entries:
            entry.judgement = judgement
            entry.purpose = purpose
            entry.rules = self._rules
        self._answer(judgement.failures, entries)
        for entry in entries:
            await entry.begin()
        result = await proceed()
        if self._judge.looks_at_results:
            self._answer(self._judge.after(acting, result, handled).failures, entries)
        return result

    def _answer(self, failures: tuple[Failure, ...], entries: list[Entry]) -> None:
        for failure in failures:
            first = self._tally.failed(self._plan.fn, failure, "denied" if self._enforce else "shadowed")
            if self._enforce:
                self._refuse(failure, entries)
            self._host.bus.send(AccessShadowed(self._plan.fn, failure.control, failure.clause))
            if first:
                text = "%s would have been denied by %s (%s): %s"
                _log.warning(text, self._plan.fn, failure.control, failure.clause, failure.missing)

    def _refuse(self, failure: Failure, entries: list[Entry]) -> None:
        for entry in entries:
            entry.failure = failure
        self._host.bus.send(AccessDenied(self._plan.fn, failure.control, failure.clause))
        raise Denied(control=failure.control, clause=failure.clause, missing=failure.missing)
