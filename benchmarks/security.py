"""What the audit log, the security decorators and the rate limiter cost; beside a hash chain, witness-log, limits."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._peers import optional
from benchmarks._table import Row, absent, compared, in_turns, nanoseconds
from smw._kernel.clock import SystemClock
from smw.security import Principal, Security, acting
from smw.security.limit import Limiter

if TYPE_CHECKING:
    from collections.abc import Callable

limits, strategies, storages = optional("limits"), optional("limits.strategies"), optional("limits.storage")
witness_log = optional("witness_log")

NAME = "security"
WITNESS = "witness-log (Rust)"
KEYS = [f"client-{n}" for n in range(1000)]
RECORD = {
    "kind": "outcome",
    "action": "user_data_access",
    "fn": "music_agent.users:load_profile",
    "actor": "ada",
    "actor_kind": "user",
    "purpose": "playlists",
    "resource": "playlist:17",
    "subjects": ["0123456789abcdef0123456789abcdef"],
    "args_digest": "0123456789abcdef0123456789abcdef",
    "result": "ok",
}
CATALOGUE = {
    "fields": {"user_id": "personal", "playlist_id": "public"},
    "purposes": {"playlists": {"basis": "contract", "classes": ["personal"]}},
    "roles": {"curator": ["personal"]},
    "retention_years": 7,
}
ADA = Principal(id="ada", roles=frozenset({"curator"}))


def _per_second(folder: Path, run: Callable[[Path], Callable[[int], None]], count: int) -> float:
    """Return the best of three rounds, each into a new place, the last sync included."""
    best = 0.0
    for number in range(3):
        place = folder / f"{run.__name__}-{number}"
        calls = run(place)
        started = time.perf_counter()
        calls(count)
        best = max(best, count / (time.perf_counter() - started))
    return best


def _smw_append(place: Path) -> Callable[[int], None]:
    trail = Security(trail_dir=place).trail
    trail._spool = 10**9  # noqa: SLF001 - the bound on waiting records is not what is measured
    trail.checkpoint()

    def calls(count: int) -> None:
        for _ in range(count):
            trail.put(dict(RECORD))
        trail.checkpoint()
        trail.close()

    return calls


def _chain_append(place: Path) -> Callable[[int], None]:
    def calls(count: int) -> None:
        before = ""
        with place.open("wb") as file:
            for seq in range(count):
                record = RECORD | {"log": "0001-0123456789ab", "seq": seq, "ts_us": time.time_ns() // 1000}
                line = json.dumps(record | {"before": before}, sort_keys=True, separators=(",", ":")).encode()
                before = hashlib.sha256(line).hexdigest()
                file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())

    return calls


def _witness_append(place: Path) -> Callable[[int], None]:
    log = witness_log.open(str(place))

    def calls(count: int) -> None:
        for seq in range(count):
            log.append_intent(witness_log.canonical_json(RECORD | {"seq": seq, "ts_us": time.time_ns() // 1000}))
        log.sync()
        log.close()

    return calls


def _appends(folder: Path, count: int) -> list[Row]:
    task = "append audit records, buffered, serialised and hashed"
    chain = _per_second(folder, _chain_append, count)
    rows = [Row(task, "JSON + SHA-256 chain, one fsync", chain, "/s")]
    if witness_log:
        theirs = _per_second(folder, _witness_append, count)
        rows.append(Row(task, WITNESS, theirs, "/s", theirs / chain))
    else:
        rows.append(absent(task, WITNESS))
    own = _per_second(folder, _smw_append, count)
    rows.append(Row(task, "smw trail, Merkle tree, group commit", own, "/s", own / chain, ">= 60000 /s"))
    return rows


def _durable(folder: Path, seconds: float) -> list[Row]:
    """Let forty threads wait for each of their records."""
    trail = Security(trail_dir=folder / "durable").trail
    waits: list[float] = []
    stop = threading.Event()

    def work() -> None:
        own: list[float] = []
        while not stop.is_set():
            started = time.perf_counter()
            try:
                trail.commit(dict(RECORD), "sync").send(None)
            except StopIteration:
                own.append(time.perf_counter() - started)
        waits.extend(own)

    threads = [threading.Thread(target=work) for _ in range(40)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    trail.close()
    waits.sort()
    task = "append durable records, 40 threads that each wait"
    return [
        Row(task, "smw trail, rate", len(waits) / seconds, "/s"),
        Row(task, "smw trail, p99 of the wait", waits[int(len(waits) * 0.99)] * 1e3, "ms"),
    ]


def _decorated(folder: Path, number: int, rounds: int) -> list[Row]:
    def load(user_id: int, playlist_id: int) -> int:
        return user_id + playlist_id

    def timed(fn: Callable[[int, int], int]) -> Callable[[], float]:
        def calls(count: int) -> None:
            for _ in range(count):
                fn(1, 2)

        return lambda: nanoseconds(calls, number=number, rounds=1) / 1e3

    part = Security(trail_dir=folder / "decorated", audit_level="LOW", mode="enforce", catalogue=CATALOGUE)
    part.trail._spool = 10**9  # noqa: SLF001 - the bound on waiting records is not what is measured
    options = {"subject": "user_id", "resource": "playlist:{playlist_id}", "keep": ("playlist_id",)}
    witness, ours = "witness-log @step, no controls", "smw audit_log + require_compliance"
    log = witness_log and witness_log.open(str(folder / "witness"))
    systems = {
        witness: log and timed(witness_log.step(log)(load)),
        "smw audit_log": timed(part.audit_log("read", **options)(load)),
        ours: timed(part.audit_log("read", **options)(part.require_compliance(["GDPR", "SOX"])(load))),
    }
    with acting(ADA, purpose="playlists"):
        taken = in_turns({name: once for name, once in systems.items() if once}, rounds, min)
    part.close()
    if log:
        log.close()
    figures = {name: taken.get(name) for name in systems}
    return compared("one decorated call, buffered", figures, "us", witness, {ours: "<= 20 us"})


def _limits(number: int, rounds: int) -> list[Row]:
    limiter = Limiter(SystemClock())

    def own(count: int) -> None:
        for n in range(count):
            limiter.hit(KEYS[n % 1000], "100000/minute")

    def theirs(kind: str) -> Callable[[int], None]:
        item, hit = limits.parse("100000/minute"), getattr(strategies, kind)(storages.MemoryStorage()).hit

        def calls(count: int) -> None:
            for n in range(count):
                hit(item, KEYS[n % 1000])

        return calls

    fixed = "limits, fixed window"
    systems = {
        fixed: limits and theirs("FixedWindowRateLimiter"),
        "limits, moving window": limits and theirs("MovingWindowRateLimiter"),
        "limits, sliding window": limits and theirs("SlidingWindowCounterRateLimiter"),
        "smw limiter (GCRA)": own,
    }
    taken = in_turns(
        {
            name: lambda calls=calls: nanoseconds(calls, number=number, rounds=1, clock=time.process_time_ns) / 1e3
            for name, calls in systems.items()
            if calls
        },
        rounds,
    )
    figures = {name: taken.get(name) for name in systems}
    return compared("rate limit, in memory, 1,000 keys", figures, "us", fixed, {"smw limiter (GCRA)": "<= 1 us"})


def run(quick: bool) -> list[Row]:  # noqa: FBT001 - the harness calls it so
    """Measure the security part; peers that are not installed are left out."""
    count, number, rounds = (2_000, 300, 3) if quick else (20_000, 1_000, 15)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [
            *_appends(folder, count),
            *_durable(folder, 0.2 if quick else 2.0),
            *_decorated(folder, number, rounds),
            *_limits(number * 5, rounds),
        ]
