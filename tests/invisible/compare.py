"""Compares how every test ended without smw and with it; knows neither pytest nor the project whose tests they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["Accepted", "Difference", "Verdict", "compare"]


@dataclass(frozen=True)
class Accepted:
    """A difference that users of smw want.

    Args:
        test: Id of the test, without parameters or with them.
        ways: Ways of putting smw there in which it shows.
        reason: Why it is no defect, in words for users.
    """

    test: str
    ways: tuple[str, ...]
    reason: str

    def covers(self, test: str) -> bool:
        """Tell whether a test, parameters included, is meant."""
        return test == self.test or test.startswith(f"{self.test}[")


@dataclass(frozen=True)
class Difference:
    """One test that ended otherwise.

    Args:
        test: Its id.
        without: How it ended without smw; None where it did not run.
        with_smw: How it ended with it.
        accepted: The reason, where there is one.
    """

    test: str
    without: str | None
    with_smw: str | None
    accepted: Accepted | None


@dataclass(frozen=True)
class Verdict:
    """What comparing two runs has shown.

    Args:
        differences: Every test that ended otherwise.
        stale: What is in the table but did not differ.
    """

    differences: tuple[Difference, ...]
    stale: tuple[Accepted, ...]

    @property
    def unexplained(self) -> tuple[Difference, ...]:
        """The differences that no reason covers."""
        return tuple(found for found in self.differences if found.accepted is None)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is unexplained, and no reason is left over."""
        return not self.unexplained and not self.stale


def compare(
    without: Mapping[str, str], with_smw: Mapping[str, str], accepted: Iterable[Accepted], *, way: str
) -> Verdict:
    """Compare two runs.

    Args:
        without: Id of each test → how it ended without smw.
        with_smw: The same with smw.
        accepted: The table of reasons.
        way: How smw was put around the applications.
    """
    table = tuple(row for row in accepted if way in row.ways)
    differences = tuple(
        Difference(test, without.get(test), with_smw.get(test), next((row for row in table if row.covers(test)), None))
        for test in sorted(without.keys() | with_smw.keys())
        if without.get(test) != with_smw.get(test)
    )
    used = {found.accepted for found in differences}
    return Verdict(differences, tuple(row for row in table if row not in used))
