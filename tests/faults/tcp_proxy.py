"""A TCP proxy that hurts the replies of the server behind it: garbage, truncation, resets, delay, silence."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time


class TcpProxy:
    """Stands before `port` on `self.port`; set `mode` to hurt what passes from then on.

    Modes: `pass`, `garbage` (random bytes of the same length), `truncate` (five bytes, then the end), `reset` (every
    connection, old and new), `slow` (each reply half a second late), `late` (a tenth of a second), `blackhole` (nothing
    passes), `drip` (ten bytes of the reply a second), `loading` (what Redis answers until it has read its data).
    """

    def __init__(self, port: int) -> None:
        self.mode = "pass"
        self._behind = port
        self._random = random.Random(1)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.mode == "reset":
                    self._reset(client)
                    continue
                try:
                    server = socket.create_connection(("127.0.0.1", self._behind), 2)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                with self._lock:
                    self._open |= {client, server}
                threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_reply: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self._pass(data, sink, is_reply):
                    break
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
            with self._lock:
                self._open.discard(end)

    def _pass(self, data: bytes, sink: socket.socket, is_reply: bool) -> bool:
        mode = self.mode
        while self.mode == "blackhole":
            time.sleep(0.01)
        if mode == "reset":
            self._reset(sink)
            return False
        if not is_reply or mode in ("pass", "blackhole"):
            sink.sendall(data)
        elif mode == "garbage":
            sink.sendall(self._random.randbytes(len(data)))
        elif mode == "loading":
            sink.sendall(b"-LOADING Redis is loading the dataset in memory\r\n")
        elif mode == "truncate":
            sink.sendall(data[:5])
            return False
        elif mode in ("slow", "late"):
            time.sleep(0.5 if mode == "slow" else 0.1)
            sink.sendall(data)
        elif mode == "drip":
            for byte in data:
                sink.sendall(bytes((byte,)))
                time.sleep(0.1)
                if self.mode != "drip":
                    return False
        return True

    def _reset(self, victim: socket.socket) -> None:
        with contextlib.suppress(OSError):
            victim.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        victim.close()

    def hurt(self, mode: str) -> None:
        """Set the mode; a reset ends the open connections at once."""
        self.mode = mode
        if mode == "reset":
            with self._lock:
                for victim in self._open:
                    self._reset(victim)
                self._open.clear()

    def close(self) -> None:
        self.mode = "pass"
        for each in (self._listener, *self._open):  # closing alone would leave the threads in accept and recv
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
