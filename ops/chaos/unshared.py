"""Crons without membership: they own nothing and know nobody."""

from __future__ import annotations

from uuid import uuid4

from pillars.cluster import agent
from pillars.ground.events import MemberJoined

_IDLE = 1.0


class Unshared(agent.Membership):
    """A membership that for a cron does nothing at all."""

    async def step(self) -> float:
        """Say once, for those who wait for it, that the process is there."""
        if self.role != "cron":
            return await super().step()
        if not self._active:
            self._active = True
            self._emit(MemberJoined(self.role, self.name, str(uuid4()), 0, 0))
        return _IDLE

    async def begin_leave(self) -> int:
        """Leave nothing."""
        return 0 if self.role == "cron" else await super().begin_leave()


def install() -> None:
    """Let this process have such a membership."""
    agent.Membership = Unshared  # type: ignore[misc]
