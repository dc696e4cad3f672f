"""A process that is killed between a commit and the drop that it promised: the next one of its folder makes it."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from smw.cache import Cache
from tests.faults.test_cache_backplane import until

pytestmark = [pytest.mark.service("redis"), pytest.mark.timed]
ROOT = Path(__file__).parents[2]
WRITER = """
import os, signal, sys
from pathlib import Path
from smw.cache import Cache

source, state, url, namespace = Path(sys.argv[1]), *sys.argv[2:]
cache = Cache(state_dir=state, l2_url=url, namespace=namespace)
waiting = []
cache.on_commit(waiting.append)

@cache.invalidate(tags=["title"], when="commit")
def rename(title):
    pass

rename("new")
source.write_text("new")  # the commit; now the drops would follow
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_drop_of_a_killed_process_is_made(tmp_path, redis_server):
    """Readers elsewhere see the new value within seconds, not when the old one's time to live has ended."""
    source, state, namespace = tmp_path / "title", tmp_path / "state", f"t{uuid.uuid4().hex}"
    source.write_text("old")
    levels = {"l2_url": redis_server.url, "namespace": namespace, "budget_ms": 1000}
    with_disk, reader = (Cache(state_dir=folder, **levels) for folder in (state, None))

    def title() -> str:
        return source.read_text()

    try:
        reading = reader.cached(600, tags=["title"])(title)
        assert reading() == "old"
        arguments = [str(source), str(state), redis_server.url, namespace]
        killed = subprocess.run([sys.executable, "-c", WRITER, *arguments], cwd=ROOT, timeout=60, check=False)
        assert (killed.returncode, source.read_text()) == (-signal.SIGKILL, "new")
        assert reading() == "old"
        with_disk.prepare()
        until(lambda: reading() == "new")
    finally:
        with_disk.close()
        reader.close()
