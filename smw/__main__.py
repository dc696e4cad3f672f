"""Starts the command line, or says how to get it where its libraries are missing."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """Run ``smw``; returns the exit code: 2 for bad usage or a missing extra."""
    try:
        from smw.cli.app import run
    except ImportError as error:
        if (error.name or "").split(".")[0] not in ("typer", "rich", "click"):
            raise
        sys.stderr.write(f'the command line needs the package "{error.name}"\n  fix:   pip install "smw[cli]"\n')
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
