"""The whole site: the user's application is the root, ours stands beside its routes."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import hdrs, web

from pillars.ground.errors import PillarsError
from pillars.ground.events import RequestServed
from pillars.server import api, discovery
from pillars.server.auth import Gate
from pillars.server.openapi import describe, description_operation
from pillars.server.operations import Context, ours, route
from pillars.server.problems import answer_problems, route_of
from pillars.server.status_page import status_handler

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp.typedefs import Handler, Middleware

    from pillars.db.database import Database
    from pillars.ground.events import Emit
    from pillars.ground.settings import Settings
    from pillars.server.operations import Operation
    from pillars.worker.registry import Registry

HOME, HOME_BESIDE = "/", "/pillars"
PATIENCE = 5.0
_MOST_LINKS = 8


class SiteError(PillarsError):
    """The application has a route where Pillars needs one of its own."""


class UserApp(Protocol):
    """What the site needs to know of a `pillars.App`, which stands on a floor above."""

    registry: Registry

    @property
    def web(self) -> web.Application:
        """The user's own routes."""


def build_site(
    app: UserApp,
    *,
    database: Database,
    settings: Settings,
    emit: Emit,
    ops: Iterable[web.RouteDef],
    patience: float = PATIENCE,
) -> web.Application:
    """Return the user's own application with everything of Pillars added to it.

    Args:
        app: its `web` becomes the root and must not have been started.
        database: what the API and the status page read and write.
        settings: the token, and the address the server is bound to.
        emit: receives RequestServed for each request, and JobsEnqueued.
        ops: the routes for health and metrics.
        patience: seconds until an operation that waits for the database answers 503.

    Raises:
        SiteError: the user's routes and ours meet.
    """
    root = app.web
    context = Context(database, settings, emit, app.registry, patience)
    document: dict[str, Any] = {}
    beside: tuple[Operation, ...] = (*discovery.OPERATIONS, description_operation(document))
    plain = tuple(ops)
    document.update(describe((*api.OPERATIONS, *beside), plain))

    home = HOME_BESIDE if _serves(root, HOME) else HOME
    ours_alone = {home, *(each.path for each in beside), *(each.path for each in plain)}
    _refuse_conflicts(root, ours_alone)
    links = _pages_of(root)
    gate = Gate(settings)
    root.add_routes(route(operation, context, gate) for operation in beside)
    root.add_routes(plain)
    root.router.add_get(home, ours(status_handler(database, links)))
    root.add_subapp(api.PREFIX, api.build_api(context))
    # Ahead of the user's own, so that they see whatever those let through.
    root.middlewares[:0] = [_watch(emit), answer_problems]
    return root


def _watch(emit: Emit) -> Middleware:
    @web.middleware
    async def watch(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR
        try:
            response = await handler(request)
            status = response.status
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            # A client may send any word as method: it must not become a label.
            method = request.method if request.method in hdrs.METH_ALL else "OTHER"
            seconds = time.perf_counter() - started
            emit(RequestServed(method, route_of(request), status, seconds))
        return response

    return watch


def _refuse_conflicts(root: web.Application, needed: set[str]) -> None:
    below = f"{api.PREFIX}/"
    taken = [
        resource.canonical
        for resource in root.router.resources()
        if resource.canonical in needed or f"{resource.canonical}/".startswith(below)
    ]
    if taken:
        raise SiteError(
            f"your application has routes that Pillars serves itself: {', '.join(sorted(taken))}. "
            "Give yours other paths, for example below /app",
        )


def _serves(root: web.Application, path: str) -> bool:
    for resource in root.router.resources():
        pattern = resource.get_info().get("pattern")
        if resource.canonical == path or (pattern is not None and pattern.fullmatch(path)):
            return True
    return False


def _pages_of(root: web.Application) -> list[str]:
    pages = [
        route.resource.canonical
        for route in root.router.routes()
        if route.method == hdrs.METH_GET and isinstance(route.resource, web.PlainResource)
    ]
    return pages[:_MOST_LINKS]
