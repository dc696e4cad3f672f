"""Where cells are kept: in this process alone, or in a file that other workers read; knows no metric by name."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from smw.monitor.naming import naming

if TYPE_CHECKING:
    from smw.monitor.cells import Cells, Labels
    from smw.monitor.instruments import Instrument
    from smw.monitor.slab import Slab

__all__ = ["Memory"]

_log = logging.getLogger("smw.monitor")


class Memory:
    """Hands out cells to the meters of one monitor. They are private until there is a `slab`.

    Attributes:
        slab: The file of this process; None where figures are private.
    """

    def __init__(self) -> None:
        self.slab: Slab | None = None
        self._full = False

    def cells(self, instrument: Instrument, labels: Labels, width: int) -> Cells:
        """Return `width` new cells at 0; where the disk has no room they are private, with one warning."""
        if self.slab is not None and not self._full:
            try:
                return self.slab.add(naming(instrument, labels), width)
            except OSError as error:
                self._full = True
                message = "%s takes no more series (%s): other workers will not see the new ones of this process"
                _log.warning(message, self.slab.path.parent, error.strerror or error)
        return [0.0] * width

    def use(self, slab: Slab | None) -> None:
        """Hand out cells of `slab` from now on."""
        self.slab = slab
        self._full = False
