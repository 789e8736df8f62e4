from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

from pillars.worker.threads import Threads


async def test_threads_are_started_when_needed_and_used_again() -> None:
    threads: Threads[str] = Threads(2, "t")

    one_by_one = [await threads.submit(_name) for _ in range(5)]
    both = threading.Barrier(2)
    at_once = await asyncio.gather(*(threads.submit(lambda: f"{both.wait()}") for _ in range(2)))
    threads.close()

    assert set(one_by_one) == {"t-1"}
    assert sorted(at_once) == ["0", "1"]


def test_a_thread_that_hangs_does_not_keep_the_process_from_ending() -> None:
    code = """
import asyncio, threading
from pillars.worker.threads import Threads
async def main():
    Threads(1, "t").submit(threading.Event().wait)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=120, check=False)

    assert done.returncode == 0


def _name() -> str:
    return threading.current_thread().name
