"""Time, chance, sleep and sockets come in through the host, so that tests and replays own them."""

from __future__ import annotations

import ast

from tests.arch.source import aliases, modules

CLOCK = {
    "smw/_kernel/clock.py",
    "smw/testing/clock.py",
    "smw/testing/conformance.py",
}  # the machine's, and those of tests
BANNED = {
    **dict.fromkeys(
        (
            "asyncio.sleep",
            "datetime.date.today",
            "datetime.datetime.now",
            "datetime.datetime.today",
            "datetime.datetime.utcnow",
            "os.urandom",
            "time.monotonic",
            "time.monotonic_ns",
            "time.perf_counter",
            "time.perf_counter_ns",
            "time.process_time",
            "time.sleep",
            "time.thread_time",
            "time.time",
            "time.time_ns",
            "uuid.uuid1",
            "uuid.uuid4",
        ),
        CLOCK,
    ),
    "random": CLOCK,
    "secrets": CLOCK,
    "socket.create_connection": set(),
    "socket.socket": {"smw/_kernel/deadline.py", "smw/_redis/endings.py"},  # which open none
}


def dotted(node, names):
    """Return the full name of what an expression stands for, or an empty string."""
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute):
        base = dotted(node.value, names)
        return f"{base}.{node.attr}" if base else ""
    return ""


def banned_uses(module):
    """Yield line and name of every banned function that a module touches, called or passed on."""
    names = aliases(module)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name | ast.Attribute):
            name = dotted(node, names)
            for ban, allowed in BANNED.items():
                if (name == ban or name.startswith(ban + ".")) and module.name not in allowed:
                    yield node.lineno, name


def test_time_chance_and_sockets_are_injected():
    """No module but the kernel's clock touches time, randomness, sleep or a raw socket."""
    bad = sorted({f"{module.name}:{line} {name}" for module in modules() for line, name in banned_uses(module)})
    assert bad == []
