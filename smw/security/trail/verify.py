"""Says whether an audit log is as it was written, from its files alone; it never opens a log for writing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from smw.errors import ConfigError
from smw.security.trail import note
from smw.security.trail.layout import CHECKPOINT, LOG_NAME, TEMPORARY, segment_name, segments
from smw.security.trail.merkle import Tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["LogVerdict", "Status", "Verification", "is_signed", "verify"]

Status = Literal["ok", "tampered", "incomplete"]
_EXIT_CODES: Mapping[str, int] = {"ok": 0, "tampered": 1, "incomplete": 2}


@dataclass(slots=True)
class LogVerdict:
    """What was found in one log.

    Attributes:
        log: Name of its folder.
        records: Lines that are there.
        covered: Lines that its checkpoint covers.
        root: Root hash of the covered lines in hexadecimal; "" where the checkpoint is unreadable.
        signed: The checkpoint carries a signature that was checked.
        tampered: What no crash explains.
        incomplete: What a crash or a log still being written explains.
        remarks: What an auditor wants to know besides.
    """

    log: str
    records: int = 0
    covered: int = 0
    root: str = ""
    signed: bool = False
    tampered: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Verification:
    """The verdict on a folder of logs.

    Args:
        path: What was verified.
        logs: The verdict on each log.
        tampered: What is wrong with the folder as a whole.
        incomplete: What is missing from it.
    """

    path: Path
    logs: tuple[LogVerdict, ...]
    tampered: tuple[str, ...] = ()
    incomplete: tuple[str, ...] = ()

    @property
    def status(self) -> Status:
        """`tampered` wins over `incomplete`, and only an untouched, wholly covered log is `ok`."""
        if self.tampered or any(log.tampered for log in self.logs):
            return "tampered"
        if self.incomplete or any(log.incomplete for log in self.logs):
            return "incomplete"
        return "ok"

    @property
    def exit_code(self) -> int:
        """0 ok, 1 tampered, 2 incomplete."""
        return _EXIT_CODES[self.status]

    @property
    def records(self) -> int:
        """Records in all logs."""
        return sum(log.records for log in self.logs)

    def __bool__(self) -> bool:
        """Tell whether the logs are untouched."""
        return self.status == "ok"

    def __str__(self) -> str:
        """Say it in one paragraph."""
        many = "log" if len(self.logs) == 1 else "logs"
        lines = [f"{self.path}: {self.status}; {self.records} records in {len(self.logs)} {many}."]
        lines += [f"Tampered: {text}." for text in self.tampered]
        lines += [f"Incomplete: {text}." for text in self.incomplete]
        for log in self.logs:
            lines += [f"Tampered: {log.log}: {text}." for text in log.tampered]
            lines += [f"Incomplete: {log.log}: {text}." for text in log.incomplete]
            lines += [f"Note: {log.log}: {text}." for text in log.remarks]
        return " ".join(lines)


def verify(path: str | Path, *, key: str | Path | bytes | None = None, since: str | Path | None = None) -> Verification:
    """Check every byte of a folder of audit logs, or of one log.

    A rollback of log *and* checkpoint together leaves nothing to see in the folder itself: it is found only
    against a checkpoint that was kept elsewhere, `since`.

    Args:
        path: The trail folder, or the folder of one log.
        key: Public key that must have signed the checkpoints: a PEM file or text, or a verifier key.
        since: One or more earlier checkpoints, as text or as a file; each must be a prefix of its log.

    Raises:
        ConfigError: `key` or `since` cannot be read.
        MissingExtra: A checkpoint is signed and the package that checks signatures is not installed.
    """
    folder = Path(path)
    public = None
    if key is not None:
        from smw.security.trail.cryptography import load_public

        public = load_public(key)
    kept = {} if since is None else _kept(since)
    tampered: list[str] = []
    incomplete: list[str] = []
    logs = [_verify_log(log, public, kept.pop(log.name, ())) for log in _logs(folder, tampered)]
    if not logs:
        incomplete.append("there is no audit log here")
    tampered += [f"log {name} of the kept checkpoint is gone" for name in kept]
    return Verification(folder, tuple(logs), tuple(tampered), tuple(incomplete))


def _kept(since: str | Path) -> dict[str, list[note.Checkpoint]]:
    text = str(since)
    try:
        if isinstance(since, Path) or "\n" not in since:
            text = Path(since).read_bytes().decode()
        checkpoints = note.parse_all(text)
    except (OSError, ValueError) as error:
        raise ConfigError("SMW-A112", f"since is no checkpoint: {error}", fix="give the file that was kept") from None
    kept: dict[str, list[note.Checkpoint]] = {}
    for checkpoint in checkpoints:
        kept.setdefault(checkpoint.origin.rpartition("/")[2], []).append(checkpoint)
    return kept


def _logs(folder: Path, tampered: list[str]) -> Iterator[Path]:
    if not folder.is_dir():
        return
    if LOG_NAME.fullmatch(folder.name):
        yield folder
        return
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and LOG_NAME.fullmatch(entry.name):
            yield entry
        else:
            tampered.append(f"{entry.name} is no part of an audit log")


def _verify_log(directory: Path, public: bytes | None, kept: Sequence[note.Checkpoint]) -> LogVerdict:
    verdict = LogVerdict(directory.name)
    try:
        _judge(directory, public, kept, verdict)
    except OSError as error:
        verdict.incomplete.append(f"it cannot be read ({error.strerror})")
    return verdict


def _judge(directory: Path, public: bytes | None, kept: Sequence[note.Checkpoint], verdict: LogVerdict) -> None:
    files = segments(directory)
    strangers = {entry.name for entry in directory.iterdir()} - {file.name for file in files} - {CHECKPOINT}
    if TEMPORARY in strangers:
        strangers.remove(TEMPORARY)
        verdict.incomplete.append("a crash left an unfinished checkpoint; opening the log clears it away")
    verdict.tampered += [f"{name} is no part of the log" for name in sorted(strangers)]
    exists = bool(files) or (directory / CHECKPOINT).exists()
    checkpoint = _checkpoint(directory, verdict) if exists else None
    reading = _Reading(verdict, checkpoint, kept)
    for file in files:
        reading.read(file)
    reading.finish()
    if not verdict.records and not verdict.tampered:
        verdict.incomplete.append("nothing was written yet")
    if checkpoint is not None and checkpoint.size:
        if checkpoint.origin != reading.origin:
            verdict.tampered.append("its checkpoint has another origin than its records")
        _check_signature(checkpoint, public, reading.key, verdict)


def _checkpoint(directory: Path, verdict: LogVerdict) -> note.Checkpoint | None:
    try:
        checkpoint = note.parse((directory / CHECKPOINT).read_bytes().decode())
        checkpoint.tree()
    except FileNotFoundError:
        verdict.tampered.append("its checkpoint is gone")
        return None
    except ValueError as error:
        verdict.tampered.append(f"its checkpoint was changed ({error})")
        return None
    verdict.covered, verdict.root = checkpoint.size, checkpoint.root.hex()
    return checkpoint


class _Reading:
    """Goes once through the lines of a log and compares the tree with every checkpoint on the way."""

    def __init__(
        self, verdict: LogVerdict, checkpoint: note.Checkpoint | None, kept: Sequence[note.Checkpoint]
    ) -> None:
        self.key = self.origin = ""
        self._verdict = verdict
        self._tree = Tree()
        self._covered = checkpoint.size if checkpoint else 0
        self._closed = checkpoint is not None and checkpoint.closed
        self._wall_us = 0
        self._stranger = False
        self._open: set[int] = set()
        self._expected: dict[int, list[tuple[bytes, str]]] = {}
        for old in kept:
            text = f"it is no continuation of the kept checkpoint at record {old.size}: it was rolled back or rewritten"
            self._expected.setdefault(old.size, []).append((old.root, text))
        if checkpoint is not None:
            text = f"the first {checkpoint.size} records are not those that its checkpoint covers"
            self._expected.setdefault(checkpoint.size, []).append((checkpoint.root, text))
        self._compare()

    def read(self, file: Path) -> None:
        """Add the lines of one segment."""
        if file.name != segment_name(self._tree.size):
            self._verdict.tampered.append(f"{file.name} does not begin where the segment before it ends")
        with file.open("rb") as lines:
            for raw in lines:
                if not raw.endswith(b"\n"):
                    found = self._verdict.tampered if self._closed else self._verdict.incomplete
                    found.append(f"{file.name} ends in a torn line")
                    return
                line = raw[:-1]
                if not self._look(line) and not self._stranger:
                    self._stranger = True  # the first one tells; behind an added line none is in its place
                    self._verdict.tampered.append(f"line {self._tree.size} is not that record of this log")
                self._tree.append(line)
                if self._expected:
                    self._compare()

    def finish(self) -> None:
        """Judge what is missing at the end."""
        verdict = self._verdict
        verdict.records = size = self._tree.size
        if size < self._covered:
            verdict.tampered.append(f"{self._covered - size} records at its end are gone")
            self._expected.pop(self._covered, None)
        elif size > self._covered and self._closed:
            verdict.tampered.append(f"{size - self._covered} records were added behind its end, after it was closed")
        elif size > self._covered:
            verdict.incomplete.append(f"{size - self._covered} records at its end are not covered by its checkpoint")
        verdict.tampered += [text for expected in self._expected.values() for _, text in expected]
        if self._open:
            verdict.remarks.append(f"{len(self._open)} calls began and have no outcome")

    def _compare(self) -> None:
        expected = self._expected.pop(self._tree.size, None)
        if expected:
            root = self._tree.root()
            self._verdict.tampered += [text for wanted, text in expected if wanted != root]

    def _look(self, line: bytes) -> bool:
        try:
            record: Any = json.loads(line)
        except (ValueError, RecursionError):
            return False
        if not isinstance(record, dict) or record.get("seq") != self._tree.size:
            return False
        match record:
            case {"kind": "log", "adopted": int(adopted)}:
                first, last = self._tree.size - adopted, self._tree.size - 1
                text = f"records {first} to {last} ({adopted}) lay behind the checkpoint after a crash and were adopted"
                self._verdict.remarks.append(f"{text}: nothing vouches that the writer wrote them")
            case {"kind": "intent"}:
                self._open.add(self._tree.size)
            case {"kind": "outcome", "intent_seq": int(intent)}:
                self._open.discard(intent)
        match record:
            case {"kind": "log", "key": str(key), "origin": str(origin)} if self._tree.size < self._covered:
                self.key, self.origin = key, origin
        wall_us = record.get("ts_us")
        if isinstance(wall_us, int):
            if wall_us < self._wall_us:
                self._verdict.remarks.append(f"the clock stepped back before record {self._tree.size}")
            self._wall_us = wall_us
        return record.get("log") == self._verdict.log


def _check_signature(checkpoint: note.Checkpoint, public: bytes | None, recorded: str, verdict: LogVerdict) -> None:
    """Check who signed: the given key, else the one that the log itself names in its first records."""
    if public is None and checkpoint.signature is None:
        if recorded:
            verdict.tampered.append("its checkpoint lost its signature")
        return
    if public is None:
        verdict.remarks.append("the signature was checked against the key that the log names; pass the key to be sure")
    wanted = public if public is not None else _unhex(recorded)
    if not is_signed(checkpoint, wanted):
        verdict.tampered.append("its checkpoint is not signed by this key")
    else:
        verdict.signed = True


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def is_signed(checkpoint: note.Checkpoint, public: bytes) -> bool:
    """Tell whether the private half of this Ed25519 key signed a checkpoint under the log's own name."""
    from smw.security.trail.cryptography import verify_signature

    signature = checkpoint.signature
    if signature is None or signature.name != checkpoint.origin:
        return False
    if signature.key_id != note.key_id(signature.name, public):
        return False
    return verify_signature(public, signature.signature, checkpoint.body.encode())
