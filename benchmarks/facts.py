"""Facts of the machine, without its identity."""

from __future__ import annotations

import os
import platform
import statistics
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import psycopg

from benchmarks.results import Conditions, Facts
from benchmarks.workbench import Workbench

__all__ = ["conditions", "gather"]

_PACKAGES: Final = (
    "pend_storage",
    "msgspec",
    "psycopg",
    "psycopg-pool",
    "sqlalchemy",
    "tinydb",
    "diskcache",
    "sqlitedict",
    "launchdarkly-server-sdk",
    "laboratory",
    "asyncpg",
    "uvloop",
)
_GARBAGE: Final = "on, default thresholds; run once before each slice"


def conditions(bench: Workbench) -> Conditions:
    """Look how busy the machine and its disk are now."""
    return Conditions(
        load=os.getloadavg()[0],
        sync_microseconds=_sync_time(bench.directory("sync") / "file"),
    )


def gather(bench: Workbench) -> Facts:
    """Look around."""
    return Facts(
        processors=os.cpu_count() or 1,
        processor=_processor(),
        memory_gib=round(
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        ),
        system=platform.system(),
        file_system=_file_system(bench.root),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        postgresql=_server_version(bench.database_url) if bench.database_url else "",
        packages={name: found for name in _PACKAGES if (found := _version(name))},
        garbage_collector=_GARBAGE,
    )


def _processor() -> str:
    about = Path("/proc/cpuinfo")
    if about.exists():
        for line in about.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.machine()


def _file_system(path: Path) -> str:
    """The type of the file system that holds a path; "" where /proc does not show it."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return ""
    found = ("", "")
    for line in mounts.read_text().splitlines():
        _, place, kind, *_ = line.split()
        if path.resolve().is_relative_to(place) and len(place) >= len(found[0]):
            found = (place, kind)
    return found[1]


def _sync_time(path: Path) -> float:
    times = []
    with path.open("ab", buffering=0) as stream:
        for _ in range(100):
            started = time.perf_counter()
            stream.write(b"x" * 512)
            os.fsync(stream.fileno())
            times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6


def _server_version(url: str) -> str:
    with psycopg.connect(url) as connection:
        text = connection.info.parameter_status("server_version") or ""
    return text.partition(" ")[0]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
