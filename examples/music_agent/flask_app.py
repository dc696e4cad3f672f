"""The web side of the music service once more, for Flask: the same routes, domain, policies and answers.

Views are plain functions. The domain is asynchronous, so each view has its call run on one event loop beside the
threads of the server; context variables, such as who is asking and the current span, go with it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import flask

from examples.music_agent import domain, events, store
from examples.music_agent.stack import MORE, configure, listener
from smw import ENTERPRISE_MIDDLEWARE_STACK, pipeline, security

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

T = TypeVar("T")
Answer = tuple[dict[str, Any], int]
routes = flask.Blueprint("music_agent", __name__)
_loop = asyncio.new_event_loop()


def run(call: Coroutine[Any, Any, T]) -> T:
    """Run a call of the domain on the loop beside the server's threads, and wait for its result."""
    return asyncio.run_coroutine_threadsafe(call, _loop).result()


@routes.get("/users/<user_id>/playlists/<playlist_id>")
def read_playlist(user_id: str, playlist_id: str) -> dict[str, Any]:
    """Return one playlist."""
    return _found(run(domain.get_playlist(user_id, playlist_id)))


@routes.get("/users/<user_id>/playlists")
def read_playlists(user_id: str) -> list[dict[str, Any]]:
    """Return all playlists of a user."""
    return run(domain.list_playlists(user_id))


@routes.post("/users/<user_id>/playlists")
def write_playlist(user_id: str) -> Answer:
    """Make a playlist."""
    return run(domain.create_playlist(user_id, str(flask.request.json["name"]))), 201


@routes.get("/tracks/<int:track_id>")
def read_track(track_id: int) -> dict[str, Any]:
    """Return one track."""
    return _found(run(domain.get_track(track_id)))


@routes.get("/search")
def search() -> dict[str, Any]:
    """Find tracks by words of their title."""
    words = flask.request.args["q"]
    return {"q": words, "tracks": run(domain.search(words))}


@routes.get("/charts")
def charts() -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the charts; they may be a second old, which the response cache makes use of."""
    return run(store.db().charts()), {"cache-control": "public, max-age=1"}


@routes.get("/users/<user_id>/export")
def export(user_id: str) -> dict[str, Any]:
    """Return all data of a user."""
    return _found(run(domain.export_user_data(user_id)))


@routes.post("/users/<user_id>/payments")
def pay(user_id: str) -> Answer:
    """Book a payment: the card number never reaches this service, only a token for it."""
    payment = flask.request.json
    cents = int(payment["cents"])
    return {"id": run(domain.record_payment(user_id, cents, str(payment["card_token"]))), "cents": cents}, 201


@routes.post("/events")
def take_events() -> Answer:
    """Take play events; answered once the stream has them."""
    batch: list[dict[str, Any]] = flask.request.json
    for event in batch:
        pipeline.emit_sync(events.STREAM, event, key=event["user"])
    return {"accepted": len(batch)}, 202


def _found(value: dict[str, Any] | None) -> dict[str, Any]:
    if value is None:
        flask.abort(404)
    return value


class Visitor:
    """Tells smw who asks and what for, and the caller how often the database was asked.

    Args:
        app: The application around which it stands.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        asked: list[str] = []
        store.queries.set(asked)

        def start_with_count(status: str, headers: list[tuple[str, str]], *more: Any) -> Callable[[bytes], object]:
            return start_response(status, [*headers, ("x-store-queries", str(len(asked)))], *more)

        if "HTTP_X_USER" not in environ:
            return self.app(environ, start_with_count)
        user = listener(environ["HTTP_X_USER"], environ.get("HTTP_X_AUTHENTICATION"))
        with security.acting(user, purpose=environ.get("HTTP_X_PURPOSE"), subjects=[user.id]):
            return self.app(environ, start_with_count)


def create_app(home: Path | None = None) -> flask.Flask:
    """Build the service.

    Args:
        home: Folder for the database and the audit log; None keeps both in memory.
    """
    configure(home)
    app = flask.Flask("music_agent")
    app.register_blueprint(routes)
    wrapped: Any = Visitor(app.wsgi_app)
    for middleware_class, config in ENTERPRISE_MIDDLEWARE_STACK:
        wrapped = middleware_class(wrapped, **config | MORE.get(middleware_class, {}))
    app.wsgi_app = wrapped  # type: ignore[method-assign]
    threading.Thread(target=_loop.run_forever, name="music-agent", daemon=True).start()
    return app
