"""`ops/observe` as a process, where it cannot or must not start anything."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
OBSERVE = REPOSITORY / "ops" / "prometheus" / "observe.py"
PROMETHEUS = shutil.which("prometheus")

with_prometheus = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not on PATH")


def observe(
    data_dir: Path, *flags: str, path: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, OBSERVE, "--data-dir", data_dir, *flags],
        cwd=REPOSITORY,
        env={**os.environ, "PATH": path or os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_prometheus_it_says_what_to_install_and_starts_nothing(tmp_path: Path) -> None:
    ended = observe(tmp_path / "data", path="/nowhere")

    assert ended.returncode == 1
    assert "Prometheus is not installed: on Debian and Ubuntu `apt-get install prometheus`" in (
        ended.stderr
    )
    assert not (tmp_path / "data").exists()


def test_a_wrong_flag_is_refused_before_anything_starts(tmp_path: Path) -> None:
    ended = observe(tmp_path / "data", "--crons", "3")

    assert ended.returncode == 2
    assert "--crons" in ended.stderr
    assert not (tmp_path / "data").exists()


@with_prometheus
def test_a_port_that_is_in_use_is_told_and_nothing_is_left_running(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = observe(tmp_path / "data", "--prometheus-port", port)

    assert ended.returncode == 1
    assert "Prometheus does not start" in ended.stderr
    assert "address already in use" in ended.stderr
    assert not (tmp_path / "data" / "postgres").exists()


def test_the_configuration_names_no_machine_and_keeps_the_roles_that_metrics_carry() -> None:
    text = (REPOSITORY / "ops" / "prometheus" / "prometheus.yml").read_text()

    (job,) = yaml.safe_load(text)["scrape_configs"]

    assert job["honor_labels"] is True
    assert job["http_sd_configs"][0]["url"] == "http://127.0.0.1:8000/sd/prometheus"
    assert str(REPOSITORY) not in text
