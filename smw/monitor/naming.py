"""How a series is named in the files that workers share; knows no figures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from smw.monitor.instruments import Instrument

if TYPE_CHECKING:
    from smw.monitor.cells import Labels

__all__ = ["named", "naming"]


def naming(instrument: Instrument, labels: Labels) -> bytes:
    """Return what stands beside the cells of one series in a file."""
    about = [instrument.name, instrument.kind, instrument.help, instrument.labels, instrument.buckets]
    return json.dumps([about, labels]).encode()


def named(text: bytes, known: dict[tuple[Any, ...], Instrument]) -> tuple[Instrument, Labels]:
    """Return the series that `naming` has named.

    Args:
        text: The name.
        known: Instruments met so far, so that each is one object.

    Raises:
        ValueError: It is no such name.
    """
    try:
        (name, kind, about, label_names, buckets), labels = json.loads(text)
        key = (name, kind, tuple(label_names), tuple(buckets))
        instrument = known.setdefault(key, Instrument(name, kind, about, *key[2:]))
        return instrument, tuple((str(label), str(value)) for label, value in labels)
    except (TypeError, KeyError) as error:
        raise ValueError("no name of a series") from error
