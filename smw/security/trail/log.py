"""The audit log as the parts see it: numbers records, hands them to the writer, waits where asked; knows no control."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import weakref
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, Any

from smw._kernel.ending import at_exit
from smw._kernel.process import ForkLock, after_fork
from smw._kernel.standing import Standing
from smw.errors import AuditUnavailable
from smw.security.trail import note
from smw.security.trail.canonical import encode
from smw.security.trail.writer import Batch, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from smw._kernel.call import Mode
    from smw._kernel.host import Host
    from smw.security.ports import AuditStore

__all__ = ["Trail"]

VERSION = 1
_living: weakref.WeakSet[Trail] = weakref.WeakSet()


class Trail:
    """An append-only log of what happened, one per process.

    It opens on first use. A forked child leaves the parent's log alone and opens its own.

    Args:
        opener: Opens the store; called once a process.
        host: Clock, bus and service name.
        signer: Loads what signs checkpoints; None leaves them unsigned.
        about: Facts for the first record of the log.
        timeout_s: How long a record may take to become durable.
        spool: Records that may wait while the store fails.
    """

    def __init__(
        self,
        opener: Callable[[], AuditStore],
        *,
        host: Host,
        signer: Callable[[], note.Signer | None] = lambda: None,
        about: Mapping[str, str] | None = None,
        timeout_s: float = 5.0,
        spool: int = 10_000,
    ) -> None:
        self._opener = opener
        self._host = host
        self._load_signer = signer
        self._signer: note.Signer | None = None
        self._about = dict(about or {})
        self._timeout_s = timeout_s
        self._spool = spool
        self.added = 0
        self._closed = False
        self._writer: Writer | None = None
        self._opening = ForkLock()
        after_fork(self._forget)
        _living.add(self)

    def _forget(self) -> None:
        """Leave the parent's log to the parent: this process's copies of its files are closed, never written."""
        if self._writer is not None:
            self._writer.store.close()
        self._writer = None

    @property
    def log_id(self) -> str:
        """Name of this process's log; opens it."""
        return self._opened().store.log_id

    @property
    def durable(self) -> bool:
        """Whether records survive the process; opens the log."""
        return self._opened().store.durable

    def standing(self) -> Iterator[Standing]:
        """Yield how it stands, if it is open."""
        writer = self._writer
        if writer is not None:
            failure = writer.failure
            yield Standing("audit", failure is None, failure or f"records: {self.added}")

    def ensure(self) -> None:
        """Return when the log can take a record that must not be lost.

        Raises:
            AuditUnavailable: It cannot be opened, or its store fails, hangs or lags.
        """
        writer = self._writer or self._opened()
        if writer.failure is not None:
            raise AuditUnavailable("SMW-A122", "the audit log cannot be written", seen=writer.failure)
        if writer.busy_s() > self._timeout_s:
            raise AuditUnavailable("SMW-A124", f"the audit log has not answered for {writer.busy_s():.0f} s")
        refusal = writer.refusal()  # without the lock: what may be taken is asked again when it is added
        if refusal is not None:
            raise refusal

    def put(self, record: dict[str, Any]) -> int:
        """Add a record without waiting for it; returns its number.

        Raises:
            AuditUnavailable: The log takes no more.
        """
        return self._add(record, urgent=False)[0]

    async def commit(self, record: dict[str, Any], mode: Mode) -> int:
        """Add a record and return its number once it is durable.

        Args:
            record: What happened; it gets its number, log and times here.
            mode: `sync` blocks the calling thread, `async` suspends the task.

        Raises:
            AuditUnavailable: It did not become durable.
        """
        self.ensure()
        seq, batch = self._add(record, urgent=True)
        if mode == "sync":
            self._wait(batch)
        else:
            try:
                await asyncio.wait_for(asyncio.wrap_future(batch.done), self._timeout_s)
            except TimeoutError:
                raise self._late() from None
        return seq

    def checkpoint(self) -> str:
        """Make everything recorded so far durable, seal it, and return the checkpoint to keep elsewhere.

        Raises:
            AuditUnavailable: The log could not be written.
        """
        writer = self._opened()
        self._wait(writer.seal())
        return writer.sealed

    def seal_if_open(self) -> None:
        """Make everything durable and say that the log ends, where it is open; the writer reported a failure."""
        if self._writer is not None and not self._closed:
            with contextlib.suppress(AuditUnavailable):
                self._wait(self._writer.seal(last=True))

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the records of this process's log that are written; one in memory keeps only the last ones."""
        for line in self._opened().store.lines():
            yield json.loads(line)

    def close(self) -> None:
        """Write what waits, seal it and close the log; idempotent."""
        with self._opening:
            self._closed = True
            writer = self._writer
        if writer is not None:
            self._note("closed")
            writer.close(self._timeout_s)

    def _opened(self) -> Writer:
        writer = self._writer
        if writer is not None:
            return writer
        with self._opening:
            if self._writer is None:
                opened = self._open()
                between = self._begun()
                if between is not None:  # a signal's handler came in between and has opened another
                    opened.close(self._timeout_s)
                    return between
                self._writer = opened
            return self._writer

    def _begun(self) -> Writer | None:
        return self._writer

    def _open(self) -> Writer:
        if self._closed:
            raise AuditUnavailable("SMW-A120", "the audit log is closed")
        try:
            self._signer = self._load_signer()
            store = self._opener()
        except OSError as error:
            raise AuditUnavailable("SMW-A125", "the audit log cannot be opened", seen=error) from error
        writer = Writer(
            store,
            lambda last: self._seal(writer, closed=last),
            host=self._host,
            spool=self._spool,
            recovered=lambda tries: self._note("recovered", tries=tries),
        )
        key = self._signer.public.hex() if self._signer else ""
        facts = {**self._about, "key": key, "origin": self._origin(store), "pid": os.getpid()}
        try:
            # A checkpoint that says the log is closed must go before the first line behind it comes. One over lines
            # that a crash left must wait for the record that they were adopted.
            if "adopted" not in store.found:
                store.checkpoint(self._seal(writer, closed=False))
            self._append(writer, {"kind": "log", "event": "opened", **facts, **store.found}, urgent=False)
        except OSError as error:
            store.close()
            raise AuditUnavailable("SMW-A125", "the audit log cannot be begun", seen=error) from error
        return writer

    def _note(self, event: str, **facts: int) -> None:
        with contextlib.suppress(AuditUnavailable):  # the log says so by what is missing behind its checkpoint
            self.put({"kind": "log", "event": event, **facts})

    def _add(self, record: dict[str, Any], *, urgent: bool) -> tuple[int, Batch]:
        return self._append(self._opened(), record, urgent=urgent)

    def _append(self, writer: Writer, record: dict[str, Any], *, urgent: bool) -> tuple[int, Batch]:
        clock = self._host.clock
        record["v"] = VERSION
        record["log"] = writer.store.log_id
        with writer.lock:
            refusal = writer.refusal()
            if refusal is not None:
                raise refusal
            seq = record["seq"] = writer.next_seq
            self.added += 1
            record["ts_us"] = int(clock.wall() * 1e6)
            record["mono_us"] = int(clock.now() * 1e6)
            line = encode(record)
            return seq, writer.add(line, urgent=urgent)

    def _seal(self, writer: Writer, *, closed: bool) -> str:
        return note.render(self._origin(writer.store), writer.store.tree, self._signer, closed=closed)

    def _origin(self, store: AuditStore) -> str:
        service = re.sub(r"[^\w.-]+", "-", self._host.service) or "smw"
        return f"{service}/{store.log_id}"

    def _wait(self, batch: Batch) -> None:
        try:
            batch.done.result(self._timeout_s)
        except FutureTimeout:
            raise self._late() from None

    def _late(self) -> AuditUnavailable:
        return AuditUnavailable("SMW-A124", f"the audit log did not take a record within {self._timeout_s:g} s")


def _seal_all() -> None:
    """At the end of the interpreter write and seal what an unclosed log still holds."""
    for trail in tuple(_living):
        trail.seal_if_open()


at_exit(_seal_all)
