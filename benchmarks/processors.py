"""Processor time of the database server, where its processes can be seen from here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import psycopg

from benchmarks.clients import CpuTime

__all__ = ["server_cpu"]

_LOCAL: Final = {"localhost", "127.0.0.1", "::1"}
_PROCESSES: Final = Path("/proc")


def server_cpu(url: str) -> CpuTime:
    """The time that all processes of a server have used, those that ended included."""
    server = _server(url)
    if server is None:
        return lambda: None
    import psutil  # noqa: PLC0415 - it is there, or there would be no server

    used: dict[int, float] = {}

    def cpu_time() -> float | None:
        try:
            processes = [server, *server.children()]
        except psutil.Error:
            return None
        for process in processes:
            try:
                used[process.pid] = _used(process)
            except (psutil.Error, OSError):  # it has just ended
                continue
        return sum(used.values())

    return cpu_time


def _server(url: str) -> Any:
    """The process that all backends are children of, if it can be seen."""
    try:
        import psutil  # noqa: PLC0415 - of the extra, and needed for nothing else
    except ModuleNotFoundError:
        return None
    with psycopg.connect(url) as connection:
        host = connection.info.host
        if not (host.startswith("/") or host in _LOCAL):
            return None
        try:  # while the backend is still there
            server = psutil.Process(connection.info.backend_pid).parent()
            return server if server and "postgres" in server.name() else None
        except psutil.Error:
            return None


def _used(process: Any) -> float:
    """Seconds; Linux counts in nanoseconds, but reports most only in hundredths."""
    exact = _PROCESSES / str(process.pid) / "schedstat"
    if exact.exists():
        return int(exact.read_text().split()[0]) / 1e9
    times = process.cpu_times()
    return float(times.user + times.system)
