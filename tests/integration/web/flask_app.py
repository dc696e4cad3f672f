"""A Flask application that real servers run: everything that passes between a server and an application."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import flask

import smw
from smw import cached, pipeline, security
from smw.errors import Denied
from smw.web import ENTERPRISE_MIDDLEWARE_STACK, PipelineMiddleware

HOME = Path(os.environ["SHOP_HOME"])

smw.configure(
    "development",
    security={"trail_dir": HOME / "trail", "max_body_bytes": 1000, "trusted_proxies": ["127.0.0.1/32"]},
)
app = flask.Flask("shop")


@app.get("/pid")
def pid():
    return str(os.getpid())


@app.get("/users/<user>")
@cached(ttl=60)
def user(user):
    return {"user": user, "asked": time.monotonic_ns()}


@app.get("/charts")
def charts():
    return {"pid": os.getpid()}, {"cache-control": "public, max-age=60", "etag": '"week-12"'}


@app.get("/stream")
def stream():
    def pieces():
        yield b"first "
        until = time.monotonic() + 20
        while not (HOME / "go").exists() and time.monotonic() < until:
            time.sleep(0.005)
        yield b"second"

    return pieces()


@app.get("/endless")
def endless():
    def pieces():
        try:
            while True:
                yield b"x" * 10_000
                time.sleep(0.002)
        finally:
            (HOME / "left").touch()

    return pieces()


@app.get("/file")
def file():
    return flask.send_file(io.BytesIO(bytes(range(256)) * 1000) if "memory" in flask.request.args else HOME / "a.bin")


@app.post("/upload")
def upload():
    total = 0
    while data := flask.request.stream.read(100):
        total += len(data)
    return str(total)


@app.get("/client")
def client():
    return {"script": flask.request.script_root, "many": flask.request.headers.get("x-many", "")}


@app.get("/denied")
def denied():
    raise Denied(control="hipaa.access", clause="164.312(a)(1)", missing="a role")


@app.get("/broken")
def broken():
    raise ValueError


@app.get("/read")
@security.audit_log("user_data_access")
def read():
    return "1"


@pipeline.stream_process("plays")
async def count(play: dict) -> None:
    """Note a play in a file of the process."""
    with (HOME / f"plays-{os.getpid()}").open("a") as plays:
        plays.write(f"{play['n']}\n")


@app.post("/plays/<int:n>")
def emit(n):
    pipeline.emit_sync("plays", {"n": n})
    return "", 202


for middleware_class, config in ENTERPRISE_MIDDLEWARE_STACK:
    more = {"in_app": ["plays"]} if middleware_class is PipelineMiddleware else {}
    app.wsgi_app = middleware_class(app.wsgi_app, **config | more)


if __name__ == "__main__":
    import sys

    import waitress

    smw.install_signal_handlers()
    waitress.serve(app, listen=sys.argv[1], threads=4)
