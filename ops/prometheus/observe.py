"""`pillars up`, in this process, beside a Prometheus that watches it.

The watcher starts first and stops last. It has a session of its own, so Ctrl-C reaches `pillars up`
alone, and the watcher ends when that has stopped.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

import yaml

import pillars.cli
from pillars.cli.context import settings_from
from pillars.cli.parser import parse
from pillars.ground.errors import PillarsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).resolve().parent
DASHBOARDS = HERE.parent / "grafana" / "dashboards"
READY_WITHIN = 30.0
LOOK_EVERY = 0.1
STOP_WITHIN = 20.0
INSTALL = (
    "Prometheus is not installed: on Debian and Ubuntu `apt-get install prometheus` "
    "(the service it starts is not needed: `systemctl disable --now prometheus`), elsewhere put "
    "a `prometheus` of https://prometheus.io/download on PATH; `ops/up` runs without it"
)


class ObserveError(PillarsError):
    """The system cannot be watched."""


def main(arguments: Sequence[str]) -> int:
    """Run everything until `pillars up` ends; returns its exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Until `pillars up` runs, and takes over, each ends this process in order.
        signal.signal(number, signal.default_int_handler)
    own, rest = _own_parser().parse_known_args(arguments)
    settings = settings_from(parse(["up", *rest]))
    program = shutil.which("prometheus")
    if program is None:
        raise ObserveError(INSTALL)
    host = _reachable(settings.host)
    port = settings.port or free_port()
    directory = settings.data_dir.absolute() / "prometheus"
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "prometheus.yml"
    config.write_text(configuration(f"http://{host}:{port}", own.scrape_interval))
    watch_port = own.prometheus_port or free_port()
    with ExitStack() as running:
        url = f"http://127.0.0.1:{watch_port}"
        running.enter_context(_prometheus(program, config, url, directory))
        print(f"Prometheus   {url}/graph, alerts at {url}/alerts, members at {url}/targets")
        print(f"Dashboards   import {DASHBOARDS}/*.json into your Grafana")
        print(f"Pillars      http://{host}:{port}", flush=True)
        # A hang-up of the terminal stops as a request to stop does.
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
        return pillars.cli.main(["up", *rest, "--port", str(port)])


def configuration(server: str, scrape_interval: str | None) -> str:
    """Return prometheus.yml for this server, with its rules wherever it is stored."""
    config = yaml.safe_load((HERE / "prometheus.yml").read_text())
    config["rule_files"] = [str(HERE / name) for name in config["rule_files"]]
    (discovery,) = config["scrape_configs"][0]["http_sd_configs"]
    discovery["url"] = f"{server}/sd/prometheus"
    if scrape_interval:
        config["global"] = dict.fromkeys(config["global"], scrape_interval)
        discovery["refresh_interval"] = scrape_interval
    return yaml.safe_dump(config, sort_keys=False)


def free_port() -> int:
    """Return a port of the loopback that nobody holds now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _own_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ops/observe",
        description="Run `pillars up` and a Prometheus that watches it; Ctrl-C stops both.",
        epilog="All other arguments are those of `pillars up`: see `pillars up --help`.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--prometheus-port",
        type=int,
        default=9090,
        metavar="N",
        help="where Prometheus listens (default 9090; 0: any free port)",
    )
    parser.add_argument(
        "--scrape-interval",
        metavar="DURATION",
        help="how often members are read, as in 1s (default: what prometheus.yml says)",
    )
    return parser


def _reachable(host: str) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"[{host}]" if ":" in host else host


@contextmanager
def _prometheus(program: str, config: Path, url: str, directory: Path) -> Iterator[None]:
    command = [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--log.level=warn",
    ]
    log = directory / "prometheus.log"
    with _running(command, log) as process:
        deadline = time.monotonic() + READY_WITHIN
        while not _answers(f"{url}/-/ready"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ObserveError(f"Prometheus does not start ({log}): {_last_words(log)}")
            time.sleep(LOOK_EVERY)
        yield


@contextmanager
def _running(
    command: Sequence[str],
    log: Path,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a session of its own while the block lasts."""
    with (
        log.open("wb") as output,
        subprocess.Popen(  # noqa: S603 - our own command
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=1.0):  # noqa: S310 - our own address
            return True
    except (URLError, OSError):
        return False


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it says nothing"


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except PillarsError as error:
        print(f"observe: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
