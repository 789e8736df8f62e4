"""A way to the database through TCP that can be slowed, or cut without a word to either side."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Both ends' kernels give up a silent peer after this long: 2 s idle and three probes a second
# apart, as pillars.db.connection sets it. The proxy answers the probes in the peer's place, so it
# ends what it cut after as long.
KEEPALIVE = 5.0
_CHUNK = 65_536


@dataclass(slots=True, eq=False)
class _Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    cut: bool = False

    def abort(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class Proxy:
    """Forwards a port of the loopback to PostgreSQL's Unix socket."""

    def __init__(self, socket: Path) -> None:
        """Name the socket; nothing is opened yet."""
        self._socket = socket
        self._connections: set[_Connection] = set()
        self._delay = 0.0
        self._passable = asyncio.Event()
        self._passable.set()
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen, and return the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def cut(self, seconds: float) -> None:
        """Forward nothing for a while, on connections of before never again.

        No FIN and no RST is sent; new connections are accepted and get no answer.
        """
        self._passable.clear()
        before = list(self._connections)
        for connection in before:
            connection.cut = True
        asyncio.get_running_loop().call_later(KEEPALIVE, _abort_all, before)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._passable.set()

    async def slow(self, seconds: float, delay: float) -> None:
        """Hold up all that comes by `delay` seconds, in each direction, for a while."""
        self._delay = delay
        try:
            await asyncio.sleep(seconds)
        finally:
            self._delay = 0.0

    async def stop(self) -> None:
        """Close everything."""
        self._passable.set()
        if self._server is not None:
            self._server.close()
        _abort_all(list(self._connections))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._passable.wait()
        try:
            upstream, server = await asyncio.open_unix_connection(str(self._socket))
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(writer, server)
        self._connections.add(connection)
        try:
            await asyncio.gather(
                self._forward(reader, server, connection),
                self._forward(upstream, writer, connection),
            )
        finally:
            connection.abort()
            self._connections.discard(connection)

    async def _forward(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, connection: _Connection
    ) -> None:
        with suppress(OSError):
            while data := await source.read(_CHUNK):
                if self._delay:
                    await asyncio.sleep(self._delay)
                if not connection.cut:
                    sink.write(data)
                    await sink.drain()
        # Of a connection that is cut not even its end gets through.
        if not connection.cut:
            sink.close()


def _abort_all(connections: list[_Connection]) -> None:
    for connection in connections:
        connection.abort()
