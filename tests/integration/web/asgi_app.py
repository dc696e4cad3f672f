"""A FastAPI application that real servers run in one process and in several."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.responses import StreamingResponse

import smw
from smw import cached, pipeline, security
from smw.errors import Denied
from smw.web import ENTERPRISE_MIDDLEWARE_STACK, PipelineMiddleware

HOME = Path(os.environ["SHOP_HOME"])

smw.configure("development", security={"trail_dir": HOME / "trail", "max_body_bytes": 1000})
app = FastAPI()


@app.get("/pid")
async def pid() -> int:
    return os.getpid()


@app.get("/users/{user}")
@cached(ttl=60)
async def user(user: str) -> dict[str, Any]:
    return {"user": user, "asked": asyncio.get_running_loop().time()}


@app.get("/charts")
async def charts(response: Response) -> int:
    response.headers["cache-control"] = "public, max-age=60"
    return os.getpid()


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def pieces():
        yield b"first "
        for _ in range(4000):
            if (HOME / "go").exists():
                break
            await asyncio.sleep(0.005)
        yield b"second"

    return StreamingResponse(pieces())


@app.get("/endless")
async def endless() -> StreamingResponse:
    async def pieces():
        try:
            while True:
                yield b"x" * 10_000
                await asyncio.sleep(0.002)
        finally:
            (HOME / "left").touch()

    return StreamingResponse(pieces())


@app.post("/upload")
async def upload(request: Request) -> int:
    return sum([len(piece) async for piece in request.stream()])


@app.get("/denied")
async def denied() -> None:
    raise Denied(control="hipaa.access", clause="164.312(a)(1)", missing="a role")


@app.get("/read")
@security.audit_log("user_data_access")
async def read() -> int:
    return 1


@pipeline.stream_process("plays")
async def count(play: dict) -> None:
    """Note a play in a file of the process."""
    with (HOME / f"plays-{os.getpid()}").open("a") as plays:
        plays.write(f"{play['n']}\n")


@app.post("/plays/{n}", status_code=202)
async def emit(n: int) -> int:
    await pipeline.emit("plays", {"n": n})
    return os.getpid()


for middleware_class, config in ENTERPRISE_MIDDLEWARE_STACK:
    more = {"in_app": ["plays"]} if middleware_class is PipelineMiddleware else {}
    app.add_middleware(middleware_class, **config | more)
