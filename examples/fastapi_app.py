"""The whole stack on a FastAPI application: metrics, health, security, response cache. Run it with `uvicorn`."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, Response
from httpx import ASGITransport, AsyncClient

from smw import cache, monitor
from smw.web.fastapi import install

app = install(FastAPI())


@app.get("/playlists/{user_id}")
async def read(user_id: str, response: Response) -> list[str]:
    """Return a user's playlists; browsers and the response cache may keep the answer for ten seconds."""
    response.headers["cache-control"] = "public, max-age=10"
    return await playlists(user_id)


@monitor.track_business_metric("playlists_read")
@cache.cached(ttl=60)
async def playlists(user_id: str) -> list[str]:
    """Pretend to ask a database."""
    return [f"{user_id}'s favourites"]


async def main() -> None:
    """Send three requests without a server, and print what was counted."""
    async with AsyncClient(transport=ASGITransport(app), base_url="http://example") as client:
        for user in ("u1", "u1", "u2"):
            answer = await client.get(f"/playlists/{user}")
            print(answer.json(), answer.headers.get("age", "computed"))
        lines = (await client.get("/metrics")).text.splitlines()
    print("\n".join(line for line in lines if line.startswith(("http_requests_total", "business_"))))


if __name__ == "__main__":
    asyncio.run(main())
