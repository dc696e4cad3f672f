"""How checks run: all at once, each with a deadline of its own, none able to hold up the end; knows no check."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from smw.doctor.report import Finding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

__all__ = ["Probe", "in_daemon", "run"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Probe:
    """One check, or several that build on one another.

    Args:
        name: Names the line that says it did not come to an end.
        findings: Yields what it finds; what was yielded before the deadline counts.
        deadline_s: When it is given up.
    """

    name: str
    findings: Callable[[], AsyncIterator[Finding]]
    deadline_s: float = 4.0


async def in_daemon(fn: Callable[[], T]) -> T:
    """Run a blocking function in a daemon thread, which the end of the process does not wait for.

    A name server or a disk that hangs cannot be interrupted. The workers of the event loop are joined when it closes,
    so they are no place for it.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(value)  # type: ignore[arg-type]
        else:
            done.set_exception(error)

    def work() -> None:
        value: T | None = None
        failure: BaseException | None = None
        try:
            value = fn()
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is awaited
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=work, name="smw-doctor", daemon=True).start()
    return await done


async def _one(probe: Probe) -> list[Finding]:
    found: list[Finding] = []
    try:
        async with asyncio.timeout(probe.deadline_s):
            async for finding in probe.findings():
                found.append(finding)  # noqa: PERF401 - what came before the deadline must be kept
    except TimeoutError:
        found.append(Finding(probe.name, "not checked", f"no end within {probe.deadline_s:g} s"))
    except Exception as error:  # noqa: BLE001 - one check that breaks must not take the others with it
        found.append(Finding(probe.name, "not checked", f"the check itself failed: {type(error).__name__}"))
    return found


async def run(probes: Sequence[Probe]) -> list[Finding]:
    """Run all probes at once and return their findings in the order of the probes."""
    return [finding for found in await asyncio.gather(*map(_one, probes)) for finding in found]
