"""What the demo sends: visits from a real access log, or drawn by a Zipf law, turned into requests to the service.

Each address of the log becomes a user, each path a playlist or a track, so that popularity, bursts and returning
visitors are those of the log. The same visits always give the same requests.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zlib import crc32

from examples.music_agent import store

_LINE = re.compile(r'(\S+) \S+ \S+ \[[^\]]*\] "\S+ (\S+)[^"]*" (\d{3}) \S+ "([^"]*)"')
_ASSETS = re.compile(r"\.(png|css|js|ico|jpg|gif|ttf|svg|jar|pdf)$")
_FEEDS = re.compile(r"flav=(atom|rss)|\.xml$")


@dataclass(frozen=True, slots=True)
class Visit:
    """One line of an access log.

    Args:
        client: Address of the client.
        path: Path with query.
        terms: What the visitor had searched for before coming, or "".
        found: Whether the page existed.
    """

    client: str
    path: str
    terms: str = ""
    found: bool = True


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the service, and what a right answer looks like.

    Args:
        kind: Name for the statistics.
        path: Path on the service.
        client: Address the request is said to come from.
        user: Who asks; "" is nobody.
        purpose: What for, as the data catalogue names it; "" is not said.
        mfa: Whether the user proved to be themselves by more than a password.
        body: JSON to send; a request with one is a POST.
        status: Expected status.
        answer: Fields expected in the JSON answered.
    """

    kind: str
    path: str
    client: str
    user: str = ""
    purpose: str = ""
    mfa: bool = False
    body: dict[str, Any] | None = None
    status: int = 200
    answer: dict[str, Any] = field(default_factory=dict)


def from_log(path: Path) -> Iterator[Visit]:
    """Read the visits of an access log in Apache's combined format; other lines are left out."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            match = _LINE.match(line)
            if match is None:
                continue
            client, asked, status, referrer = match.groups()
            terms = " ".join(parse_qs(urlsplit(referrer).query).get("q", ()))
            yield Visit(client, asked, terms, found=status != "404")


def generated(seed: int = 1) -> Iterator[Visit]:
    """Draw visits without end: pages and visitors by Zipf's law, as on most public sites."""
    draw = random.Random(seed)
    pages = [f"/page/{n}" if n % 2 else f"/asset/{n}.png" for n in range(1_500)]
    clients = [f"192.0.2.{n}" for n in range(250)] + [f"198.51.100.{n}" for n in range(250)]
    by_page = [1 / (rank + 1) for rank in range(len(pages))]
    by_client = [1 / (rank + 5) for rank in range(len(clients))]
    while True:
        for page, client in zip(
            draw.choices(pages, by_page, k=1_000), draw.choices(clients, by_client, k=1_000), strict=True
        ):
            chance = draw.random()
            path = "/feed.xml" if chance < 0.05 else "/robots.txt" if chance > 0.98 else page
            terms = f"query {draw.randrange(200)}" if 0.05 < chance < 0.10 else ""
            yield Visit(client, path, terms, found=chance < 0.96)


class _Numbers:
    """Gives each thing it sees the next number, the same thing the same one."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def of(self, thing: str) -> int:
        return self._numbers.setdefault(thing, len(self._numbers))


def requests(visits: Iterable[Visit], limit: int) -> list[Request]:
    """Turn visits into at most `limit` requests."""
    clients, pages = _Numbers(), _Numbers()
    made = (
        request
        for number, visit in zip(count(), visits, strict=False)
        for request in _requests(visit, number, store.user_id(clients.of(visit.client)), pages)
    )
    return list(islice(made, limit))


def _requests(visit: Visit, number: int, user: str, pages: _Numbers) -> Iterator[Request]:
    """Yield what one visit asks of the service: one read, and now and then something more."""
    path = visit.path.partition("?")[0]
    page = pages.of(path)
    chance = crc32(f"{number} {visit.client}".encode()) % 1_000
    if visit.terms:
        words = store.title_of(crc32(visit.terms.encode()) % 300)
        yield Request("search", f"/search?q={words}", visit.client, user, answer={"q": words})
    elif _FEEDS.search(visit.path):
        yield Request("charts", "/charts", visit.client, user)
    elif _ASSETS.search(path):
        answer = {"id": page, "title": store.title_of(page)}
        yield Request("track", f"/tracks/{page}", visit.client, user, answer=answer)
    else:
        # Crawlers that fetch /robots.txt come without a user.
        who = "" if path == "/robots.txt" else user
        yield _playlist(page, visit, who)
    if chance < 30:
        yield _new_playlist(visit.client, user, number)
    elif chance < 40:
        yield _payment(visit.client, user, number, mfa=chance < 38)
    elif chance < 50:
        yield _export(visit.client, user, purpose="portability" if chance < 46 else "")


def _playlist(page: int, visit: Visit, user: str) -> Request:
    owner, playlist = store.owner_of(page), store.playlist_id(page)
    if not visit.found:
        path = f"/users/{owner}/playlists/missing-{page}"
        return Request("playlist", path, visit.client, user, "streaming" if user else "", status=404)
    path = f"/users/{owner}/playlists/{playlist}"
    answer = {"id": playlist, "owner": owner, "name": store.name_of(page)}
    return Request("playlist", path, visit.client, user, "streaming" if user else "", answer=answer)


def _new_playlist(client: str, user: str, number: int) -> Request:
    body = {"name": f"found on visit {number}"}
    path = f"/users/{user}/playlists"
    answer = {"owner": user, **body}
    return Request("new playlist", path, client, user, "streaming", body=body, status=201, answer=answer)


def _payment(client: str, user: str, number: int, *, mfa: bool) -> Request:
    body = {"cents": 999, "card_token": f"tok_{crc32(str(number).encode()):08x}"}
    path = f"/users/{user}/payments"
    return Request("payment", path, client, user, "billing", mfa, body, 201, {"cents": 999})


def _export(client: str, user: str, purpose: str) -> Request:
    return Request("export", f"/users/{user}/export", client, user, purpose, answer={"id": user})


def events(visits: Iterable[Visit], amount: int, poison: int) -> list[dict[str, Any]]:
    """Make a stream of play events, `poison` of them naming a track that does not exist.

    Args:
        visits: Who plays what; starts over when there are fewer visits than events.
        amount: How many events in all.
        poison: How many of them no handler can ever take.
    """
    clients, pages = _Numbers(), _Numbers()
    kept = list(islice(visits, amount))
    made = []
    for number in range(amount):
        visit = kept[number % len(kept)]
        track = pages.of(visit.path) % store.TRACKS
        made.append({"event": number, "user": store.user_id(clients.of(visit.client)), "track": track})
    step = max(1, amount // poison) if poison else amount
    for number in islice(range(step // 2, amount, step), poison):
        made[number]["track"] = -number - 1
    return made
