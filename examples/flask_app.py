"""The whole stack on a Flask application: metrics, health, security, response cache. Run it with any WSGI server."""

from __future__ import annotations

from flask import Flask

from smw import cache, monitor
from smw.web.flask import install

app = install(Flask(__name__))


@app.get("/playlists/<user_id>")
def read(user_id: str) -> tuple[list[str], dict[str, str]]:
    """Return a user's playlists; browsers and the response cache may keep the answer for ten seconds."""
    return playlists(user_id), {"cache-control": "public, max-age=10"}


@monitor.track_business_metric("playlists_read")
@cache.cached(ttl=60)
def playlists(user_id: str) -> list[str]:
    """Pretend to ask a database."""
    return [f"{user_id}'s favourites"]


def main() -> None:
    """Send three requests without a server, and print what was counted."""
    client = app.test_client()
    for user in ("u1", "u1", "u2"):
        answer = client.get(f"/playlists/{user}")
        print(answer.json, answer.headers.get("age", "computed"))
    lines = client.get("/metrics").text.splitlines()
    print("\n".join(line for line in lines if line.startswith(("http_requests_total", "business_"))))


if __name__ == "__main__":
    main()
