"""Whether the service is alive, ready and well: runs checks within their deadlines; knows neither HTTP nor backends."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from typing import TYPE_CHECKING, Any, Literal

from smw._kernel.signals import BackendDown, BackendUp, CacheWarmed, CacheWarming
from smw.errors import ConfigError
from smw.monitor.masking import mask_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from smw._kernel.host import Host

__all__ = ["Health"]

Group = Literal["all", "live", "ready"]
_FRESH_S = 1.0
_GROUPS = ("all", "live", "ready")
_FROM_BEST = ("pass", "warn", "fail")


class _Check:
    """One probe, its last answer, and the probe in flight: a hung one is not started a second time."""

    __slots__ = ("at", "critical", "name", "output", "passed", "pending", "probe", "timeout_s")

    def __init__(self, name: str, probe: Callable[[], Any], *, critical: bool, timeout_s: float) -> None:
        self.name = name
        self.probe = probe
        self.critical = critical
        self.timeout_s = timeout_s
        self.at = -math.inf
        self.passed = False
        self.output = "not yet checked"
        self.pending: Callable[[], bool] = lambda: False

    def settle(self, answer: Any = None, error: BaseException | None = None, *, late: bool = False) -> None:
        """Keep what the probe said."""
        self.passed = not late and error is None and answer is not False
        if late:
            self.output = f"no answer within {self.timeout_s:g} s"
        elif error is not None:
            self.output = _describe(error)
        else:
            self.output = "" if self.passed else "answered False"

    async def run(self) -> None:
        """Probe once, or report the probe that still hangs."""
        if self.pending():
            self.settle(late=True)
            return
        answer = self._started()
        done, _ = await asyncio.wait({answer}, timeout=self.timeout_s)
        if not done:
            answer.cancel()
            self.settle(late=True)
        elif answer.cancelled():
            self.settle(error=asyncio.CancelledError())
        else:
            error = answer.exception()
            self.settle(error=error) if error is not None else self.settle(answer.result())

    def _started(self) -> asyncio.Future[Any]:
        """Start a coroutine probe on this loop, any other in a thread of its own."""
        loop = asyncio.get_running_loop()
        if inspect.iscoroutinefunction(self.probe) or inspect.iscoroutinefunction(type(self.probe).__call__):
            task: asyncio.Future[Any] = asyncio.ensure_future(self.probe())
            self.pending = lambda: not task.done() and not loop.is_closed()
            return task
        future: asyncio.Future[Any] = loop.create_future()
        thread = threading.Thread(target=self._in_thread, args=(loop, future), name="smw-check", daemon=True)
        self.pending = thread.is_alive
        thread.start()
        return future

    def _in_thread(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = self.probe()
            if inspect.isawaitable(result):
                result = asyncio.run(_awaited(result))
        except BaseException as caught:  # noqa: BLE001 - whatever a probe raises is its answer
            error = caught

        def answer() -> None:
            if not future.done():
                future.set_exception(error) if error is not None else future.set_result(result)

        try:
            loop.call_soon_threadsafe(answer)
        except RuntimeError:
            return  # the loop that asked is closed: nobody waits for the answer


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _describe(error: BaseException) -> str:
    try:
        return mask_text(f"{type(error).__name__}: {error}")[:200]
    except Exception:  # noqa: BLE001 - the error's own text may fail
        return type(error).__name__


class Health:
    """The checks of one monitor, what its backends have signalled, and how the open parts stand.

    Args:
        host: Carries the signals, what the parts tell, and the clock by which answers age.
    """

    def __init__(self, host: Host) -> None:
        self._clock = host.clock
        self._standings = host.standings
        self._checks: dict[str, _Check] = {}
        self._down: dict[str, str] = {}
        self._round: asyncio.Task[Any] | None = None
        self._stopping = False
        self._warming = 0
        self._ends = [
            host.bus.subscribe(BackendDown, self._backend_down),
            host.bus.subscribe(BackendUp, self._backend_up),
            host.bus.subscribe(CacheWarming, self._warming_up),
            host.bus.subscribe(CacheWarmed, self._warmed_up),
        ]

    def _backend_down(self, signal: BackendDown) -> None:
        self._down[signal.backend] = signal.reason

    def _backend_up(self, signal: BackendUp) -> None:
        self._down.pop(signal.backend, None)

    def _warming_up(self, _signal: CacheWarming) -> None:
        self._warming += 1

    def _warmed_up(self, _signal: CacheWarmed) -> None:
        self._warming -= 1

    def add(self, name: str, probe: Any, *, critical: bool = True, timeout_s: float = 1.0) -> None:
        """Add or replace a check.

        Args:
            name: Name in the answer. Where a part tells how it stands by the same name, the worse of the two is shown.
            probe: Function or coroutine function. False or an exception is a failure, anything else a pass.
            critical: Whether its failure makes the service fail; otherwise it is a warning.
            timeout_s: When no answer counts as a failure.

        Raises:
            ConfigError: `probe` cannot be called, or `timeout_s` is not positive.
        """
        if not callable(probe):
            fix = "pass the function itself, without calling it"
            raise ConfigError("SMW-M120", f"check {name!r}: the probe cannot be called", seen=type(probe), fix=fix)
        if not 0.0 < timeout_s < math.inf:
            raise ConfigError("SMW-M121", f"check {name!r}: timeout_s must be positive", seen=timeout_s, fix="1.0")
        self._checks[name] = _Check(name, probe, critical=critical, timeout_s=timeout_s)

    def drain(self) -> None:
        """Report not ready from now on, so that no new requests are sent here; it stays alive."""
        self._stopping = True

    async def report(self, group: Group = "all", *, details: bool = False) -> dict[str, Any]:
        """Answer within the longest time-out of the checks, whatever hangs; answers are kept for a second.

        Args:
            group: ``live`` looks at no dependency; ``ready`` and ``all`` at every check and backend.
            details: Whether to say what was seen, such as why something is not well.

        Returns:
            ``{"status": "pass" | "warn" | "fail", "checks": {name: {"status": ..., "output": ...}}}``.

        Raises:
            ConfigError: `group` is unknown.
        """
        if group not in _GROUPS:
            raise ConfigError("SMW-M122", "unknown group of checks", seen=repr(group), fix=", ".join(_GROUPS))
        if group == "live":
            return {"status": "pass", "checks": {}}
        await self._refresh()
        found: dict[str, tuple[str, str]] = {}
        for name, is_well, seen in self._standings:
            found[name] = ("pass" if is_well else "warn", mask_text(seen))
        for backend, reason in list(self._down.items()):
            found[f"backend:{backend}"] = ("warn", mask_text(reason))
        for check in list(self._checks.values()):
            bad = "fail" if check.critical else "warn"
            told = ("pass" if check.passed else bad, check.output)
            standing = found.get(check.name, told)  # a check by the name of a part's own hides nothing bad of it
            found[check.name] = max(told, standing, key=lambda each: _FROM_BEST.index(each[0]))
        if self._warming > 0:
            found["cache.warm-up"] = ("fail", "memory is being filled with what the fleet asks for most")
        if self._stopping:
            found["shutdown"] = ("fail", "the service is stopping")
        statuses = {status for status, _ in found.values()}
        return {
            "status": max(statuses, key=_FROM_BEST.index, default="pass"),
            "checks": {
                name: {"status": status, **({"output": output} if details and output else {})}
                for name, (status, output) in found.items()
            },
        }

    async def _refresh(self) -> None:
        """Run the checks whose answers are old; requests at the same time on this loop share one round."""
        running = self._round
        if running is not None and not running.done() and running.get_loop() is asyncio.get_running_loop():
            await asyncio.shield(running)
            return
        now = self._clock.now()
        old = [check for check in self._checks.values() if now - check.at >= _FRESH_S]
        if not old:
            return
        for check in old:
            check.at = now
        self._round = asyncio.ensure_future(self._run(old))
        await asyncio.shield(self._round)

    async def _run(self, checks: list[_Check]) -> None:
        await asyncio.gather(*(check.run() for check in checks))
        now = self._clock.now()
        for check in checks:
            check.at = now

    def after_fork(self) -> None:
        """Forget what the parent was probing."""
        self._round = None
        self._warming = 0
        self._down.clear()
        for check in self._checks.values():
            check.at = -math.inf
            check.pending = lambda: False

    def close(self) -> None:
        """Report not ready and stop listening."""
        self.drain()
        for end in self._ends:
            end()
        self._ends = []
