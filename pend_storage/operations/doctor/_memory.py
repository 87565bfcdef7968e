"""Memory check: the memory that a process needs to open and use the JSON directory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from pend_storage._files.by_path import read_system_file
from pend_storage.operations.doctor._findings import Finding, ok, warn

__all__ = ["available_memory", "memory_finding", "needed_memory"]

_OF_FILES: Final = 6
"""Bytes of memory for each byte of legacy files that are not adopted yet."""
_OF_OWN: Final = 2
"""Bytes of memory for each byte of the newest snapshot and the journal after it."""
_BASE: Final = 64 << 20
"""Bytes of the interpreter and the library."""
_MIB: Final = 1 << 20
_MEMINFO: Final = Path("/proc/meminfo")
_CGROUP: Final = Path("/sys/fs/cgroup")


def memory_finding(own: Path, files: Iterable[Path]) -> Finding:
    """Compare the memory that is needed with the memory that is free.

    Args:
        own: the store's own directory, which need not exist yet.
        files: the legacy files, of which some need not exist.
    """
    needed, free = needed_memory(own, files), available_memory()
    message = f"about {needed / _MIB:,.0f} MiB are needed to open and use the directory"
    if free is None:
        return ok("memory", f"{message}; how much is free is not known on this system")
    message += f", {free / _MIB:,.0f} MiB are free"
    if needed <= free:
        return ok("memory", message)
    return warn(
        "memory",
        message,
        "Give the machine or the container more memory, or end other programs; each "
        "process that opens the directory needs as much.",
    )


def needed_memory(own: Path, files: Iterable[Path]) -> int:
    """Estimate the memory for opening the directory, reading it all, and writing a file.

    Returns:
        Bytes.

    Args:
        own: the store's own directory.
        files: the legacy files.
    """
    snapshots = sorted(own.glob("snapshot-*"))
    if not snapshots:
        return _BASE + _OF_FILES * sum(map(_size, files))
    journal = sum(map(_size, own.glob("journal-*")))
    return _BASE + _OF_OWN * (_size(snapshots[-1]) + journal)


def available_memory() -> int | None:
    """Return the bytes that are available without swapping, in machine and container.

    None where the system does not report them.
    """
    found = [*_machine_memory(), *_container_memory()]
    return min(found) if found else None


def _machine_memory() -> Iterator[int]:
    for line in _text(_MEMINFO).splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            yield int(rest.split()[0]) * 1024


def _container_memory() -> Iterator[int]:
    """Yield the free memory of the control group, if the container has a limit."""
    most, used = _text(_CGROUP / "memory.max"), _text(_CGROUP / "memory.current")
    if most.strip().isdigit() and used.strip().isdigit():
        yield max(0, int(most) - int(used))


def _text(path: Path) -> str:
    try:
        return read_system_file(path).decode("ascii")
    except (OSError, UnicodeDecodeError):
        return ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
