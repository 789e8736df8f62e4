"""Pillars: distributed cron and job queue on one Postgres.

Applications need `App` and little else; `pillars.app` says how.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pillars.app import App
    from pillars.queue.enqueue import enqueue_sync
    from pillars.queue.jobs import NewJob
    from pillars.queue.retry import RetryPolicy
    from pillars.worker.context import Discard, PermanentError, Snooze, current_job

__all__ = [
    "App",
    "Discard",
    "NewJob",
    "PermanentError",
    "RetryPolicy",
    "Snooze",
    "current_job",
    "enqueue_sync",
]
__version__ = version("pillars")

# Loaded when first asked for: `import pillars` alone opens neither aiohttp nor psycopg.
_HOMES = {
    "App": "pillars.app",
    "Discard": "pillars.worker.context",
    "NewJob": "pillars.queue.jobs",
    "PermanentError": "pillars.worker.context",
    "Snooze": "pillars.worker.context",
    "RetryPolicy": "pillars.queue.retry",
    "current_job": "pillars.worker.context",
    "enqueue_sync": "pillars.queue.enqueue",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'pillars' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
