"""Pillars: distributed cron and job queue on one Postgres."""

from importlib.metadata import version

__version__ = version("pillars")
