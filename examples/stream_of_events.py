"""Handle a stream of events at least once; one that can never succeed ends among the dead letters."""

from __future__ import annotations

import asyncio

from smw import pipeline

plays: dict[str, int] = {}


@pipeline.stream_process("plays", retry=pipeline.Retry(times=2, first=0.01))
async def count_play(event: dict[str, str]) -> None:
    """Count a play of a track."""
    track = event["track"]
    plays[track] = plays.get(track, 0) + 1


async def main() -> None:
    """Run the handler over a list: the same function also serves Redis Streams, unchanged."""
    await count_play({"track": "called as a plain function"})
    result = await pipeline.run_over("plays", [{"track": "So What"}, {"title": "no track"}, {"track": "So What"}])
    print("plays:", plays)
    print(result)


if __name__ == "__main__":
    asyncio.run(main())
