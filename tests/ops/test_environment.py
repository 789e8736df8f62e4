"""Which Python `ops/up` and `ops/test` install with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ENVIRONMENT = Path(__file__).parents[2] / "ops" / "environment"


def _find_python(named: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", "-c", f'source "{ENVIRONMENT}" && find_python'],
        env={**os.environ, "PYTHON": named},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("named", ["/usr/bin/false", "/no/such/python"])
def test_a_python_that_is_named_and_does_not_do_is_refused(named: str) -> None:
    found = _find_python(named)
    assert found.returncode == 1
    assert "Python 3.11 or newer" in found.stderr
    assert not found.stdout


def test_a_path_with_a_space_is_one_python(tmp_path: Path) -> None:
    python = tmp_path / "my python"
    python.symlink_to(sys.executable)
    assert _find_python(str(python)).stdout.strip() == str(python)
