"""The table of everything under /api/v1, and the sub-application made from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from pillars.server import api_cluster, api_jobs, api_queues, api_schedule_life, api_schedules
from pillars.server.auth import Gate
from pillars.server.operations import route

if TYPE_CHECKING:
    from pillars.server.operations import Context

PREFIX = "/api/v1"
OPERATIONS = (
    *api_jobs.OPERATIONS,
    *api_queues.OPERATIONS,
    *api_schedules.OPERATIONS,
    *api_schedule_life.OPERATIONS,
    *api_cluster.OPERATIONS,
)


def build_api(context: Context) -> web.Application:
    """Return the API as an application to be mounted at PREFIX."""
    gate = Gate(context.settings)
    api = web.Application()
    api.add_routes(route(operation, context, gate, PREFIX) for operation in OPERATIONS)
    return api
