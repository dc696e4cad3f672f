"""Cache a slow function, look at where its answers come from, and drop what has become old."""

from __future__ import annotations

import time

from smw import cache


@cache.cached(ttl=60, tags=["user:{user_id}"])
def playlists(user_id: str) -> list[str]:
    """Pretend to ask a slow database."""
    time.sleep(0.05)
    return [f"{user_id}'s favourites", "late night jazz"]


def main() -> None:
    """Call it twice, drop one tag, call it again."""
    print("its key:", cache.key_for(playlists, "u1"))
    for title in ("first call", "second call"):
        started = time.perf_counter()
        playlists("u1").append("changing an answer never changes the next one")
        print(f"{title}: {(time.perf_counter() - started) * 1e3:.2f} ms")
    cache.drop_sync(tags=["user:u1"])
    print("after dropping the tag:", playlists("u1"))
    print(cache.info(playlists))


if __name__ == "__main__":
    main()
