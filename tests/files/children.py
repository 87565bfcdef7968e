"""Child processes that work with files."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from .places import Place

__all__ = ["create", "hold", "hold_and_fork"]

Report = Callable[[Any], None]


def hold(report: Report, place: Place, file: str, seconds: float) -> None:
    """Have exclusive use of a file, and report when it begins and ends."""
    with place.open() as store, store.exclusive(file):
        report("in")
        time.sleep(seconds)
        report("out")


def hold_and_fork(report: Report, place: Place, file: str) -> None:
    """Have it, and start a child that outlives this process; report its number."""
    with place.open() as store, store.exclusive(file):
        pid = os.fork()
        if pid == 0:
            os.close(int(sys.argv[1]))  # by which this process reports
            time.sleep(60)
            os._exit(0)
        report(pid)
        time.sleep(60)


def create(report: Report, place: Place, file: str, times: int) -> None:
    """Create records as servers do, from several threads."""

    def work() -> None:
        for _ in range(times):
            with store.exclusive(file, timeout=60):
                records = store.load(file, [])
                records.append({"id": max((r["id"] for r in records), default=0) + 1})
                store.save(file, records)
            report(records[-1]["id"])

    with place.open() as store:
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
