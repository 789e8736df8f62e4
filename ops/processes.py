"""Processes of ours that scripts and tests start."""

from __future__ import annotations

import os


def clean_environment(**settings: str) -> dict[str, str]:
    """Return this process's environment with these settings of Pillars and none of the caller's."""
    inherited = {key: value for key, value in os.environ.items() if "PILLARS_" not in key}
    return inherited | settings
