"""Which route template served an ASGI exchange, read from the scope after the call; imports no framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["RECALLED", "Routes"]

RECALLED = "smw.route"
"""Where a scope has the template of the route that made a stored answer, as seen from the adapter that gave it."""

_FIXED_MOST = 1000
_NOT_A_PAGE = (404, 405, 307)


class Routes:
    """Finds templates for the exchanges of one application.

    FastAPI and Starlette leave the route in the scope. Two things are missing there: the template of the mounts above
    it (the scope has only the concrete prefix), and plain Starlette routes below a FastAPI router.

    Args:
        owner: The application whose middleware asks.
    """

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self._fixed: set[str] = set()

    def template(self, scope: Mapping[str, Any], root_path: str, status: int) -> str | None:
        """Return the template that served the exchange, mounts included, or None.

        Args:
            scope: The ASGI scope as the application has left it.
            root_path: What its ``root_path`` was before.
            status: The status sent; it tells a page of a mounted application without routes from its 404.
        """
        leaf = scope.get(RECALLED) or _leaf(scope)
        inner = scope.get("root_path") or ""
        if inner == root_path:
            return leaf if leaf is not None else self._plain(scope, inner)
        mount = self._mount(str(scope.get("path", "")), root_path, inner)
        if mount is None:
            return None
        if leaf is None:
            leaf = self._plain(scope, inner)
        if leaf is None:
            return None if status in _NOT_A_PAGE else f"{mount}/{{path}}"
        return f"{mount}{leaf}"

    def _mount(self, path: str, root_path: str, inner: str) -> str | None:
        prefix = inner.removeprefix(root_path)
        if prefix in self._fixed:
            return prefix
        found = _mount_template(_routes(self._owner), path.removeprefix(root_path), prefix)
        if found == prefix and len(self._fixed) < _FIXED_MOST:
            self._fixed.add(prefix)
        return found

    @staticmethod
    def _plain(scope: Mapping[str, Any], root_path: str) -> str | None:
        """Find a plain Starlette route below a FastAPI router, which leaves only the endpoint in the scope."""
        endpoint = scope.get("endpoint")
        if endpoint is None:
            return None
        path = str(scope.get("path", "")).removeprefix(root_path)
        for route in _candidates(_routes(scope.get("app"))):
            if getattr(route, "endpoint", None) is endpoint and route.path_regex.match(path):
                return str(route.path_format)
        return None


def _leaf(scope: Mapping[str, Any]) -> str | None:
    route = scope.get("route")
    if route is None:
        return None
    framework = scope.get("fastapi")
    if framework:
        # FastAPI's include_router keeps the router's own route object: its path lacks the prefix.
        context = framework.get("effective_route_context")
        if context is not None and context.original_route is route:
            return str((getattr(context, "starlette_route", None) or context).path_format)
    if getattr(route, "routes", None) is not None:
        return None  # a Mount: it matched, but nothing below it did
    template = getattr(route, "path_format", None)
    return None if template is None else str(template)


def _routes(app: Any) -> Iterable[Any]:
    return getattr(app, "routes", None) or ()


def _candidates(routes: Iterable[Any]) -> Iterator[Any]:
    """Yield routes as Starlette sees them, those of included routers with their prefix."""
    for route in routes:
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is None:
            yield route
        else:
            yield from (getattr(context, "starlette_route", None) or context for context in contexts())


def _mount_template(routes: Iterable[Any], path: str, prefix: str) -> str | None:
    """Return the templates of the mounts that `prefix`, the beginning of `path`, went through."""
    for route in _candidates(routes):
        if getattr(route, "routes", None) is None or not hasattr(route, "path_regex"):
            continue
        match = route.path_regex.match(path)
        if match is None:
            continue
        rest = "/" + match.groupdict().get("path", "")
        taken = path[: -len(rest)]
        if taken == prefix:
            return str(route.path)
        if prefix.startswith(taken):
            below = _mount_template(route.routes, rest, prefix[len(taken) :])
            return None if below is None else f"{route.path}{below}"
    return None
