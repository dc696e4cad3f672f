"""The web side of the music service: routes, who is asking, and the middleware stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Response
from fastapi.telemetry import TelemetryConfig
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.music_agent import domain, events, store
from examples.music_agent.stack import MORE, configure, listener
from smw import ENTERPRISE_MIDDLEWARE_STACK, pipeline, security

router = APIRouter()


class NewPlaylist(BaseModel):
    """Body of a request for a new playlist."""

    name: str


class Payment(BaseModel):
    """Body of a payment: the card number never reaches this service, only a token for it."""

    cents: int
    card_token: str


@router.get("/users/{user_id}/playlists/{playlist_id}")
async def read_playlist(user_id: str, playlist_id: str) -> dict[str, Any]:
    """Return one playlist."""
    return _found(await domain.get_playlist(user_id, playlist_id))


@router.get("/users/{user_id}/playlists")
async def read_playlists(user_id: str) -> list[dict[str, Any]]:
    """Return all playlists of a user."""
    return await domain.list_playlists(user_id)


@router.post("/users/{user_id}/playlists", status_code=201)
async def write_playlist(user_id: str, new: NewPlaylist) -> dict[str, Any]:
    """Make a playlist."""
    return await domain.create_playlist(user_id, new.name)


@router.get("/tracks/{track_id}")
async def read_track(track_id: int) -> dict[str, Any]:
    """Return one track."""
    return _found(await domain.get_track(track_id))


@router.get("/search")
async def search(q: str) -> dict[str, Any]:
    """Find tracks by words of their title."""
    return {"q": q, "tracks": await domain.search(q)}


@router.get("/charts")
async def charts(response: Response) -> list[dict[str, Any]]:
    """Return the charts; they may be a second old, which the response cache makes use of."""
    response.headers["cache-control"] = "public, max-age=1"
    return await store.db().charts()


@router.get("/users/{user_id}/export")
async def export(user_id: str) -> dict[str, Any]:
    """Return all data of a user."""
    return _found(await domain.export_user_data(user_id))


@router.post("/users/{user_id}/payments", status_code=201)
async def pay(user_id: str, payment: Payment) -> dict[str, Any]:
    """Book a payment."""
    number = await domain.record_payment(user_id, payment.cents, payment.card_token)
    return {"id": number, "cents": payment.cents}


@router.post("/events", status_code=202)
async def take_events(batch: list[dict[str, Any]]) -> dict[str, int]:
    """Take play events; answered once the stream has them."""
    for event in batch:
        await pipeline.emit(events.STREAM, event, key=event["user"])
    return {"accepted": len(batch)}


def _found(value: dict[str, Any] | None) -> dict[str, Any]:
    if value is None:
        raise HTTPException(404)
    return value


class Visitor:
    """Tells smw who asks and what for, and the caller how often the database was asked.

    Args:
        app: The application around which it stands.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked: list[str] = []
        store.queries.set(asked)

        async def send_with_count(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-store-queries", str(len(asked)).encode()))
            await send(message)

        headers = Headers(scope=scope)
        if "x-user" not in headers:
            await self.app(scope, receive, send_with_count)
            return
        user = listener(headers["x-user"], headers.get("x-authentication"))
        with security.acting(user, purpose=headers.get("x-purpose"), subjects=[user.id]):
            await self.app(scope, receive, send_with_count)


def create_app(home: Path | None = None) -> FastAPI:
    """Build the service.

    Args:
        home: Folder for the database and the audit log; None keeps both in memory.
    """
    configure(home)
    # One server span a request is enough: smw makes it, so FastAPI need not.
    native: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
    app = FastAPI(title="Music agent", telemetry=native)
    app.include_router(router)
    app.add_middleware(Visitor)
    for middleware_class, config in ENTERPRISE_MIDDLEWARE_STACK:
        app.add_middleware(middleware_class, **config | MORE.get(middleware_class, {}))
    return app
