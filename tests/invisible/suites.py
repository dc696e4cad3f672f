"""Whose suites are run, and in which ways smw is put around their applications."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SUITES", "Suite"]


@dataclass(frozen=True)
class Suite:
    """A project with tests in its sdist.

    Args:
        project: Name of the distribution; its installed version is the one tested.
        plugin: Module in `plugins/` that puts smw around applications.
        ways: How it can do that.
        kinds: What has to have passed through smw, so that the comparison says something.
        needs: Modules in `plugins/` that the suite does not run without, smw or not.
    """

    project: str
    plugin: str
    ways: tuple[str, ...]
    kinds: tuple[str, ...]
    needs: tuple[str, ...] = ()


SUITES = {
    "starlette": Suite(
        project="starlette",
        plugin="smw_around_starlette",
        ways=("outside", "inside", "both"),
        kinds=("http", "websocket", "lifespan"),
    ),
    "flask": Suite(
        project="flask",
        plugin="smw_around_flask",
        ways=("outside", "inside", "both"),
        kinds=("http", "raised"),
        needs=("pytest_before_9",),
    ),
}
