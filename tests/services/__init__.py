"""Real servers for tests and benchmarks: found, fetched, started on loopback and always ended.

Each server is looked for on PATH, then among Debian packages unpacked under `.services/` (nothing is installed), then
through docker compose; otherwise its tests are NOT RUN. Environment: `SMW_SERVICES=auto|path|deb|compose|none` forces
one way, `SMW_PORTS=20000-20099` a range of ports, `SMW_ALLOW_MISSING=redis,...` accepts a missing server outside CI.
"""
