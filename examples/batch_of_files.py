"""Run a function over a CSV file in bounded memory: it sees a batch of rows at a time, however long the file is."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from smw import pipeline


@pipeline.batch_transform("minutes")
def to_minutes(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turn seconds into minutes."""
    return [{"track": row["track"], "minutes": round(int(row["seconds"]) / 60, 1)} for row in rows]


def main() -> None:
    """Make a file of 10,000 rows and transform it into JSON lines."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "tracks.csv"), Path(folder, "minutes.jsonl")
        lines = [f"track {number},{120 + number % 300}" for number in range(10_000)]
        source.write_text("track,seconds\n" + "\n".join(lines) + "\n", encoding="utf-8")
        print(pipeline.run("minutes", source=source, to=target))
        print("first row:", target.read_text(encoding="utf-8").partition("\n")[0])


if __name__ == "__main__":
    main()
