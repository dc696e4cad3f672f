"""What an application itself brings: it is imported, its stacks are looked at, the settings it configured are taken."""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import TYPE_CHECKING

from smw._kernel import current
from smw._kernel.order import StackingWarning
from smw.doctor.report import Finding
from smw.errors import SmwError, StackingError
from smw.runtime import Runtime, shutdown

if TYPE_CHECKING:
    from smw.configuration import Settings

__all__ = ["load"]


def load(module: str) -> tuple[list[Finding], Settings | None]:
    """Import the module of an application and return what came up, with the settings that it configured.

    The runtime that it opened is closed again, so that its own listener does not look like somebody else's.

    Args:
        module: ``package.module`` or ``package.module:application``.
    """
    name = module.partition(":")[0]
    sys.path.insert(0, "")
    found: list[Finding] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            importlib.import_module(name)
        except StackingError as error:
            found.append(Finding("app.order", "fail", error.what, error.fix or ""))
        except SmwError as error:
            found.append(Finding("app.import", "fail", error.what, error.fix or f"smw explain {error.code}"))
        except ImportError as error:
            found.append(
                Finding("app.import", "fail", f"{name}: {error}", "give --app package.module, from its folder")
            )
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the application raises is the finding
            seen = f"importing {name} failed: {type(error).__name__}"
            found.append(Finding("app.import", "fail", seen, f'python -c "import {name}"'))
        else:
            found.append(Finding("app.import", "ok", name))
    orders = dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, StackingWarning))
    found += [Finding("app.order", "warn", text.partition("; ")[0], text.partition("; ")[2]) for text in orders]
    runtime = current.get()
    settings = None
    if isinstance(runtime, Runtime) and runtime.is_open:
        settings = runtime.settings
        shutdown()
    return found, settings
