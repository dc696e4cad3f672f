"""Sends requests over real HTTP, times each, and checks that every answer is the right one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpx

from examples.music_agent.traffic import Request

_AT_ONCE = 8
_TOO_MANY = 429


@dataclass(frozen=True, slots=True)
class Sample:
    """One answered request.

    Args:
        kind: What was asked for.
        seconds: From sending to the last byte.
        queries: Round trips to the database that it took; 0 means that it was answered from a cache.
    """

    kind: str
    seconds: float
    queries: int


@dataclass(slots=True)
class Replay:
    """What came of a replay.

    Args:
        samples: The requests answered.
        limited: How many the rate limit turned away.
        wrong: Answers that were not the right one, in words.
        took_s: From the first request to the last answer.
    """

    samples: list[Sample] = field(default_factory=list)
    limited: int = 0
    wrong: list[str] = field(default_factory=list)
    took_s: float = 0.0

    def add(self, other: Replay) -> None:
        """Take in what came of a further replay."""
        self.samples += other.samples
        self.limited += other.limited
        self.wrong += other.wrong
        self.took_s += other.took_s


async def replay(url: str, requests: list[Request], step: Callable[[], None]) -> Replay:
    """Send requests in order, a few at once.

    Args:
        url: Where the service listens.
        requests: What to send.
        step: Called after each of them.
    """
    result, left = Replay(), iter(requests)
    started = time.perf_counter()
    limits = httpx.Limits(max_connections=_AT_ONCE)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=20) as client, asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(_visitor(client, left, result, step))
    result.took_s = time.perf_counter() - started
    return result


async def _visitor(
    client: httpx.AsyncClient, left: Iterator[Request], result: Replay, step: Callable[[], None]
) -> None:
    for request in left:
        answer = await _send(client, request, result)
        if request.kind == "new playlist" and answer.status_code == request.status:
            await _see_it(client, request, answer.json()["id"], result)
        step()


async def _send(client: httpx.AsyncClient, request: Request, result: Replay) -> httpx.Response:
    method = "GET" if request.body is None else "POST"
    headers = _headers(request)
    started = time.perf_counter()
    answer = await client.request(method, request.path, json=request.body, headers=headers)
    seconds = time.perf_counter() - started
    if answer.status_code == _TOO_MANY:
        result.limited += 1
        return answer
    # An answer with an age comes out of the response cache, and its other headers with it.
    queries = 0 if "age" in answer.headers else int(answer.headers.get("x-store-queries", 0))
    result.samples.append(Sample(request.kind, seconds, queries))
    if wrong := _complaint(request, answer):
        result.wrong.append(f"{method} {request.path}: {wrong}")
    return answer


def _headers(request: Request) -> dict[str, str]:
    headers = {
        "x-forwarded-for": request.client,
        "x-user": request.user,
        "x-purpose": request.purpose,
        "x-authentication": "mfa" if request.mfa else "",
    }
    return {name: value for name, value in headers.items() if value}


async def _see_it(client: httpx.AsyncClient, request: Request, new: str, result: Replay) -> None:
    """Read the list that a write has changed: a cached one from before would lack the new playlist."""
    look = Request("playlists", request.path, request.client, request.user, request.purpose)
    answer = await _send(client, look, result)
    if answer.is_success and new not in [playlist["id"] for playlist in answer.json()]:
        result.wrong.append(f"GET {request.path}: lacks {new}, written before")


def _complaint(request: Request, answer: httpx.Response) -> str:
    if answer.status_code != request.status:
        return f"status {answer.status_code} instead of {request.status}: {answer.text[:120]}"
    if not request.answer:
        return ""
    got = answer.json()
    return "; ".join(
        f"{name} is {got.get(name)!r} instead of {value!r}"
        for name, value in request.answer.items()
        if got.get(name) != value
    )
