"""Runs blocking calls side by side in one thread, so that what several of them ask for is asked for at once."""

from __future__ import annotations

import concurrent.futures
import contextvars
import types
from typing import TYPE_CHECKING, Any, NamedTuple

from smw._kernel.flight import flying, lead, led
from smw.cache.loading.many import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence

__all__ = ["LEASE", "LOAD", "LOOK", "MORE_S", "RELEASE", "WAIT", "Wait", "ask", "stepped"]

RELEASE, LOOK, LEASE, LOAD, WAIT = "release", "look", "lease", "load", "wait"
_ORDER = (RELEASE, LOOK, LEASE, LOAD, WAIT)
"""What a call may ask for, in the order in which it is done: nobody waits for others while others may wait for him."""
MORE_S = 0.005
"""How long who has been told something waits for others to be told as well, so that they go on together."""


class Wait(NamedTuple):
    """A wait for what another thread does.

    Attributes:
        future: Done when that is.
        until: Until when at most, by the clock of `stepped`.
    """

    future: concurrent.futures.Future[Any]
    until: float


@types.coroutine
def ask(what: str, about: Any = None) -> Generator[Any, Any, Any]:
    """Suspend a blocking call, which `stepped` runs, until what it asks for is there."""
    return (yield what, about)


class _Job:
    """One call, in a context of its own, in which it finds all the flights that its thread leads."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine
        self.context = contextvars.copy_context()
        self.asks: tuple[str, Any] | None = None
        self.ended = Outcome(None)

    def step(self, outcome: Outcome, flights: tuple[Any, ...] | None = None) -> None:
        """Go on until it has ended, or asks for something; begin as a part of `flights`."""
        self.asks = None
        if flights is not None:
            self.context.run(lead, flights)
        try:
            if outcome.error is None:
                self.asks = self.context.run(self.coroutine.send, outcome.value)
            else:
                self.asks = self.context.run(self.coroutine.throw, outcome.error)
        except StopIteration as stop:
            self.ended = Outcome(stop.value)
        except Exception as error:  # noqa: BLE001 - raised once all have ended
            self.ended = Outcome(None, error)

    def close(self) -> None:
        """End it where it is; nothing where it has ended."""
        self.context.run(self.coroutine.close)

    @property
    def led(self) -> tuple[Any, ...]:
        """The flights that its thread leads, as far as it knows."""
        return self.context.run(led)


def stepped(
    coroutines: Sequence[Coroutine[Any, Any, Any]],
    answers: Mapping[str, Callable[[list[int], list[Any]], Sequence[Outcome]]],
    now: Callable[[], float],
) -> list[Outcome]:
    """Run blocking calls until each has ended.

    Args:
        coroutines: The calls; they suspend by `ask` alone.
        answers: What they may ask for, to what does it for several: from their numbers and what each has asked about.
            It runs in the context of the first of them.
        now: The clock.
    """
    jobs, flights = [_Job(coroutine) for coroutine in coroutines], led()
    try:
        for job in jobs:
            job.step(Outcome(None), flights)
            flights = job.led if job.asks is not None else flights
        while any(job.asks is not None for job in jobs):
            _answered(jobs, answers, now)
    finally:
        for job in jobs:
            job.close()
    return [job.ended for job in jobs]


def _answered(jobs: Sequence[_Job], answers: Mapping[str, Any], now: Callable[[], float]) -> None:
    """Do what comes first of all that is asked for, and let those who have asked go on."""
    asking = [(number, *job.asks) for number, job in enumerate(jobs) if job.asks is not None]
    what = next(each for each in _ORDER if any(asked == each for _, asked, _ in asking))
    some = [(number, about) for number, asked, about in asking if asked == what]
    if what == WAIT:
        some, outcomes = _waited(some, now)
    else:
        numbers, abouts = [number for number, _ in some], [about for _, about in some]
        flights = dict.fromkeys(flight for number, _, _ in asking for flight in jobs[number].led)

        def answer() -> list[Outcome]:
            with flying(flights):
                return list(answers[what](numbers, abouts))

        outcomes = jobs[numbers[0]].context.run(answer)
    for (number, _), outcome in zip(some, outcomes, strict=True):
        jobs[number].step(outcome)


def _waited(
    waits: Sequence[tuple[int, Wait]], now: Callable[[], float]
) -> tuple[list[tuple[int, Wait]], list[Outcome]]:
    """Wait until one has what it waits for, or has waited long enough; returns all such."""
    first = min(wait.until for _, wait in waits)
    futures = [wait.future for _, wait in waits]
    concurrent.futures.wait(futures, max(0.0, first - now()), return_when=concurrent.futures.FIRST_COMPLETED)
    concurrent.futures.wait(futures, MORE_S)
    late = max(first, now()) if not any(future.done() for future in futures) else now()
    over = [(number, wait) for number, wait in waits if wait.future.done() or wait.until <= late]
    return over, [Outcome(None)] * len(over)
