"""The statements of this package."""

from __future__ import annotations

from pillars.db.statements import load_statements

SQL = load_statements("pillars.cron")
