"""A server process: the application's own routes, the API, the status page."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from aiohttp import web

from pillars.ground.errors import PillarsError
from pillars.processes.children import tell_parent
from pillars.processes.frame import ENDED, Frame
from pillars.server.site import build_site
from pillars.telemetry.endpoints import ops_routes, reachable_host
from pillars.telemetry.snapshot import Snapshot

if TYPE_CHECKING:
    from pillars.app import App
    from pillars.ground.settings import Secret, Settings

_REQUESTS_GRACE = 5.0


class PortInUseError(PillarsError):
    """The server's port cannot be used."""


async def run_server(settings: Settings, dsn: Secret, app: App) -> None:
    """Run a server until it is asked to stop.

    Raises:
        PillarsError: it cannot start.
    """
    frame = Frame("server", settings, dsn)
    async with frame.running():
        if frame.stopping:
            return
        app.bind(frame.database, frame.events)
        frame.health.expect_server(frame.database.link("health"))
        site = build_site(
            app,
            database=frame.database,
            settings=settings,
            emit=frame.events,
            ops=ops_routes(frame.metrics, frame.health),
        )
        runner = web.AppRunner(site, access_log=None, shutdown_timeout=_REQUESTS_GRACE)
        await runner.setup()
        try:
            url = tell_parent(await _listen(runner, settings))
            await frame.join(url)
            snapshot = Snapshot(frame.database, frame.metrics, frame.clock, settings.lease)
            frame.loop("snapshot", snapshot.step)
            await frame.until_stopped()
        finally:
            await frame.bounded("requests", runner.cleanup(), ENDED)


async def _listen(runner: web.AppRunner, settings: Settings) -> str:
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
    except OSError as error:
        raise PortInUseError(port_advice(settings, error)) from None
    return f"http://{await reachable_host(settings.host)}:{runner.addresses[0][1]}"


def port_advice(settings: Settings, error: OSError) -> str:
    """Return the sentence that says why the server's address cannot be used and what to do."""
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {settings.port} on {settings.host} is in use: "
            "stop what holds it, or choose another with --port (0: any free one)"
        )
    return (
        f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}: "
        "choose others with PILLARS_HOST and --port"
    )
