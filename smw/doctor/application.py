"""What an application itself brings: it is imported, its stacks are looked at, the settings it configured are taken."""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import TYPE_CHECKING

from smw._kernel import current
from smw._kernel.chain import Stack
from smw._kernel.order import StackingWarning
from smw.cache.strategies.onlookers import looking_on
from smw.configuration import resolve
from smw.doctor.report import Finding
from smw.errors import SmwError, StackingError
from smw.runtime import Runtime, shutdown

if TYPE_CHECKING:
    from smw.configuration import Settings

__all__ = ["brought", "load", "unrecorded"]

_RECORDED = ("audit_log", "require_compliance")


def unrecorded(settings: Settings) -> list[Finding]:
    """Return the problem that functions which are loaded want an audit log, and production has no folder for it."""
    if settings.profile != "production" or settings.security.trail_dir is not None:
        return []
    stacks = [stack for stack in current.rebindable() if isinstance(stack, Stack)]
    names = {
        stack.target.name
        for stack in stacks
        for advice in stack.advices
        if advice.name in _RECORDED and getattr(advice, "owner", None) is None
    }
    if not names:
        return []
    seen = f"no folder for the audit log: with @audit_log or @require_compliance {min(names)} refuses to run"
    more = f", and {len(names) - 1} more" if len(names) > 1 else ""
    return [Finding("app.audit", "fail", seen + more, "set SECURITY_TRAIL_DIR")]


def brought(module: str | None, profile: str | None) -> tuple[list[Finding], Settings | None]:
    """Return what came up with an application, and the settings that hold for it; None where they cannot be read.

    Args:
        module: As for `load`; None for no application, so that the environment's settings hold.
        profile: Profile instead of ``SMW_PROFILE``, for an application that configures nothing.
    """
    found, settings = ([], None) if module is None else load(module)
    if settings is None:
        try:
            settings = resolve(profile)
        except SmwError:
            return found, None
    return (found, settings) if module is None else ([*found, *unrecorded(settings)], settings)


def load(module: str) -> tuple[list[Finding], Settings | None]:
    """Import the module of an application and return what came up, with the settings that it configured.

    The runtime that it opened is closed again, so that its own listener does not look like somebody else's.

    Args:
        module: ``package.module`` or ``package.module:application``.
    """
    name = module.partition(":")[0]
    sys.path.insert(0, "")
    found: list[Finding] = []
    with looking_on(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            importlib.import_module(name)
        except StackingError as error:
            found.append(Finding("app.order", "fail", error.what, error.fix or ""))
        except SmwError as error:
            found.append(Finding("app.import", "fail", error.what, error.fix or f"smw explain {error.code}"))
        except ImportError as error:
            is_itself = f"{name}.".startswith(f"{error.name}.")
            fix = "give --app package.module, from its folder" if is_itself else f'python -c "import {name}"'
            found.append(Finding("app.import", "fail", f"{name}: {error}", fix))
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
