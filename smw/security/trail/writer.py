"""The one thread that makes a log's lines durable, in groups; it knows neither what they say nor who waits for them."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from smw._kernel.signals import TrailFailed
from smw.errors import AuditUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from smw._kernel.host import Host
    from smw.security.ports import AuditStore

__all__ = ["Batch", "Writer"]

_log = logging.getLogger("smw.security")
_GROUP = 1024
_LINGER_S = 0.02
_CHECKPOINT_LINES = 256
_CHECKPOINT_S = 1.0
_RETRY_S = (0.1, 5.0)


class Batch:
    """Lines that become durable together.

    Attributes:
        lines: The lines so far.
        done: Resolves when they are durable; fails with `AuditUnavailable`.
        urgent: Somebody waits.
        seal: A checkpoint over them is wanted before `done`.
        last: As far as anybody knows nothing follows, and the checkpoint says so.
    """

    __slots__ = ("done", "last", "lines", "seal", "urgent")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.done: Future[None] = Future()
        self.done.set_running_or_notify_cancel()  # one waiter that gives up must not cancel the others
        self.urgent = False
        self.seal = False
        self.last = False


class Writer:
    """Writes batches to one store until it is closed.

    Lines of a batch that could not be written are kept and tried again with the next ones, so numbers have no
    gaps; who waited for them was told that they were not durable.

    Args:
        store: The log's store; from now on the writer's alone.
        seal: Makes the text of a checkpoint of the store; told whether the log ends with it.
        host: Clock and bus.
        spool: Lines that may wait while the store fails.
        recovered: Called with the number of failed tries once the store takes lines again.
    """

    def __init__(
        self,
        store: AuditStore,
        seal: Callable[[bool], str],
        *,
        host: Host,
        spool: int,
        recovered: Callable[[int], None],
    ) -> None:
        self.store = store
        self.failure: str | None = None
        self.sealed = ""
        self.lock = threading.Lock()  # entered by itself: a signal may interrupt the condition's own enter and exit
        self._changed = threading.Condition(self.lock)
        self._seal_text = seal
        self._host = host
        self._spool = spool
        self._on_recovery = recovered
        self._open = Batch()
        self._before_open = store.tree.size
        self._unsaved: list[bytes] = []
        self._uncovered = 0
        self._ended = False
        self._sealed_at = host.clock.now()
        self._busy_since: float | None = None
        self._tries = 0
        self._retry_s = _RETRY_S[0]
        self._closing = False
        self._thread: threading.Thread | None = None

    def add(self, line: bytes, *, urgent: bool) -> Batch:
        """Put a line into the open batch; the caller holds `lock`, so that numbers and order agree.

        An exception may come between any two steps (a signal): appending the line is the last of them, and numbers
        follow from the lines alone.
        """
        batch = self._open
        if urgent:
            batch.urgent = True
            self._wake()
        elif len(batch.lines) in {0, _GROUP - 1}:
            self._wake()
        batch.lines.append(line)
        return batch

    @property
    def next_seq(self) -> int:
        """The number of the next line; the caller holds `lock`."""
        return self._before_open + len(self._open.lines)

    def refusal(self) -> AuditUnavailable | None:
        """Return why no further line can be taken, if so."""
        if self._closing:
            return AuditUnavailable("SMW-A120", "the audit log is closed")
        if len(self._open.lines) + len(self._unsaved) >= self._spool:
            return AuditUnavailable("SMW-A121", "the audit log does not keep up", seen=self.failure)
        return None

    def seal(self, *, last: bool = False) -> Batch:
        """Ask for a checkpoint over everything added so far; the batch resolves once it is written.

        Args:
            last: The checkpoint says that nothing follows; a line that does has it replaced first. Where the last one
                says so already there is nothing to write, and a store that is closed by then is not asked.

        Raises:
            AuditUnavailable: The log is closed.
        """
        with self.lock:
            if self._closing:
                raise AuditUnavailable("SMW-A120", "the audit log is closed")
            batch = self._open
            if last and self._ended and not batch.lines and self._before_open == self.store.tree.size:
                done = Batch()
                done.done.set_result(None)
                return done
            batch.urgent = batch.seal = True
            batch.last = last
            self._wake()
            return batch

    def busy_s(self) -> float:
        """Return for how long the store has not answered the write that is under way."""
        since = self._busy_since
        return 0.0 if since is None else self._host.clock.now() - since

    def close(self, timeout_s: float) -> None:
        """Write what waits, seal it, end the thread and close the store; idempotent.

        Args:
            timeout_s: How long a store that does not answer may hold this up.
        """
        with self.lock:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
            if thread.is_alive():
                self._report("the store did not answer while closing")
                return
        self._open.seal = self._open.last = True
        self._commit(self._open)
        if self._unsaved:
            _log.error("audit log %s: %d records are lost", self.store.log_id, len(self._unsaved))
        self.store.close()

    def _wake(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="smw-audit-log", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise AuditUnavailable("SMW-A123", "no thread can write the audit log", seen=error) from None
            self._thread = thread
        self._changed.notify()

    def _run(self) -> None:
        while (batch := self._take()) is not None:
            self._commit(batch)

    def _take(self) -> Batch | None:
        """Wait until lines are urgent, many or old enough, or a checkpoint or another try is due; None when closing."""
        with self.lock:
            while not self._is_pressing() and self._changed.wait(self._patience_s()):
                pass
            if self._closing:
                return None
            batch, self._open = self._open, Batch()
            self._before_open += len(batch.lines)
            return batch

    def _is_pressing(self) -> bool:
        batch = self._open
        return self._closing or batch.urgent or (self.failure is None and len(batch.lines) >= _GROUP)

    def _patience_s(self) -> float | None:
        if self.failure is not None:
            return self._retry_s
        return _LINGER_S if self._open.lines or self._uncovered else None

    def _commit(self, batch: Batch) -> None:
        error = self._attempt(lambda: self._save(batch.lines))
        if error is None and not batch.seal:
            batch.done.set_result(None)  # who waits for its lines does not wait for the checkpoint
        if error is None and (batch.seal or self._is_checkpoint_due(batch)):
            error = self._attempt(lambda: self._checkpoint(last=batch.last))
        if error is None:
            self._succeed()
        if batch.done.done():
            return
        if error is None:
            batch.done.set_result(None)
        else:
            batch.done.set_exception(AuditUnavailable("SMW-A122", "the audit log cannot be written", seen=error))

    def _attempt(self, step: Callable[[], None]) -> Exception | None:
        self._busy_since = self._host.clock.now()
        try:
            step()
        except Exception as error:  # noqa: BLE001 - whatever a store raises, nothing of it became durable
            self._fail(error)
            return error
        finally:
            self._busy_since = None
        return None

    def _save(self, lines: list[bytes]) -> None:
        self._unsaved += lines
        if self.failure is not None:
            self.store.recover()
        if self._unsaved:
            if self._ended:  # or a crash behind these lines would look like lines that somebody else added
                self._checkpoint(last=False)
            self.store.append(self._unsaved)
            self._uncovered += len(self._unsaved)
            self._unsaved = []

    def _is_checkpoint_due(self, batch: Batch) -> bool:
        idle = not batch.lines
        return idle or self._uncovered >= _CHECKPOINT_LINES or self._host.clock.now() - self._sealed_at >= _CHECKPOINT_S

    def _checkpoint(self, *, last: bool) -> None:
        text = self._seal_text(last)
        self.store.checkpoint(text)
        self.sealed = text
        self._ended = last
        self._uncovered = 0
        self._sealed_at = self._host.clock.now()

    def _fail(self, error: Exception) -> None:
        self._retry_s = min(self._retry_s * 2, _RETRY_S[1]) if self._tries else _RETRY_S[0]
        self._tries += 1
        self.failure = str(error) or type(error).__name__
        if self._tries == 1:
            self._report(self.failure)

    def _succeed(self) -> None:
        if self.failure is None:
            return
        tries, self._tries, self.failure = self._tries, 0, None
        _log.warning("audit log %s is written again after %d failed tries", self.store.log_id, tries)
        self._on_recovery(tries)

    def _report(self, reason: str) -> None:
        _log.error("audit log %s cannot be written: %s", self.store.log_id, reason)
        self._host.bus.send(TrailFailed(reason))
