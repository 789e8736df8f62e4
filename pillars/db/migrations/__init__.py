"""Numbered SQL migrations, applied in order by `pillars.db.migrate`."""
