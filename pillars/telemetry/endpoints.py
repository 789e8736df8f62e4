"""`/healthz`, `/readyz`, `/metrics`: beside the server's API, elsewhere on a port of theirs."""

from __future__ import annotations

import asyncio
import errno
import socket
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from pillars.ground.errors import PillarsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pillars.telemetry.health import Readiness

METRICS_TIMEOUT = 8.0
SHUTDOWN_TIMEOUT = 1.0
_NO_STORE = {"Cache-Control": "no-store"}


class PortError(PillarsError):
    """The address of the metrics endpoint cannot be used."""


class OpsServer:
    """Serves the routes of a process that has no web server of its own."""

    def __init__(self, host: str, port: int, routes: Iterable[web.RouteDef]) -> None:
        """Keep the address; port 0 takes any free one."""
        self._host = host
        self._port = port
        self._routes = tuple(routes)
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen; return the URL under which other machines reach it.

        Raises:
            PortError: the port is taken or the address is not ours.
        """
        app = web.Application()
        app.add_routes(self._routes)
        # No access log: a probe every few seconds is nothing to read.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self.stop()
            raise PortError(self._advice(error)) from error
        port = self._runner.addresses[0][1]
        return f"http://{await reachable_host(self._host)}:{port}"

    async def stop(self) -> None:
        """Stop listening; requests under way get SHUTDOWN_TIMEOUT seconds."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def _advice(self, error: OSError) -> str:
        if error.errno == errno.EADDRINUSE:
            return (
                f"port {self._port} on {self._host} is in use: "
                "stop the process that holds it or set PILLARS_METRICS_PORT (0: any free port)"
            )
        if error.errno == errno.EACCES:
            return (
                f"port {self._port} may not be used by this user: "
                "set PILLARS_METRICS_PORT to a port above 1023"
            )
        return (
            f"cannot listen on {self._host}, port {self._port} ({error.strerror or error}): "
            "check PILLARS_HOST and PILLARS_METRICS_PORT"
        )


class Exporter(Protocol):
    """What `/metrics` asks."""

    async def rendered(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics as text, and its content type, in the format `accept` prefers."""


class Judge(Protocol):
    """What `/readyz` asks."""

    async def readiness(self) -> Readiness:
        """Return whether the process does its work, with reasons."""


def ops_routes(metrics: Exporter, health: Judge) -> list[web.RouteDef]:
    """Return the routes every process serves."""
    rendering = asyncio.Lock()

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"}, headers=_NO_STORE)

    async def readyz(_: web.Request) -> web.Response:
        readiness = await health.readiness()
        status = 200 if readiness.ok else 503
        return web.json_response(asdict(readiness), status=status, headers=_NO_STORE)

    async def metricsz(request: web.Request) -> web.Response:
        accept = ",".join(request.headers.getall("Accept", []))
        try:
            # One at a time: impatient scrapers must not fill the threads that jobs run in.
            async with asyncio.timeout(METRICS_TIMEOUT), rendering:
                body, content_type = await metrics.rendered(accept)
        except TimeoutError:
            text = f"rendering took more than {METRICS_TIMEOUT:g}s\n"
            return web.Response(status=503, text=text)
        return web.Response(body=body, headers={**_NO_STORE, "Content-Type": content_type})

    return [
        web.get("/healthz", healthz),
        web.get("/readyz", readyz),
        web.get("/metrics", metricsz),
    ]


async def reachable_host(host: str) -> str:
    """Return the host part of a URL for an address to bind to.

    For a wildcard address that is the address of this machine's own name, which on a pod or
    container is the one its neighbours reach; the loopback where the name means nothing.
    """
    wildcards = {"0.0.0.0": ("127.0.0.1", socket.AF_INET), "::": ("::1", socket.AF_INET6)}  # noqa: S104 - compared, not bound
    if host in wildcards:
        loopback, family = wildcards[host]
        host = await _own_address(family) or loopback
    return f"[{host}]" if ":" in host else host


async def _own_address(family: socket.AddressFamily) -> str | None:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(socket.gethostname(), None, family=family)
    except OSError:
        return None
    return str(found[0][4][0]) if found else None
