"""Check of the memory that opening and using the JSON directory needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

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
        own: the store's own directory, which need not be there yet.
        files: the legacy files, of which some need not be there.
    """
    needed, free = needed_memory(own, files), available_memory()
    says = f"about {needed / _MIB:,.0f} MiB are needed to open and use the directory"
    if free is None:
        return ok("memory", f"{says}; how much is free is not known on this system")
    says += f", {free / _MIB:,.0f} MiB are free"
    if needed <= free:
        return ok("memory", says)
    return warn(
        "memory",
        says,
        "Give the machine or the container more memory, or end other programs; each "
        "process that opens the directory needs as much.",
    )


def needed_memory(own: Path, files: Iterable[Path]) -> int:
    """Bytes that a process needs to open the directory, read it all, and write a file.

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
    """Bytes that can be had without swapping, by the machine and by the container.

    None where the system does not tell.
    """
    found = [*_of_machine(), *_of_container()]
    return min(found) if found else None


def _of_machine() -> Iterator[int]:
    for line in _text(_MEMINFO).splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            yield int(rest.split()[0]) * 1024


def _of_container() -> Iterator[int]:
    """Free memory of the control group that a container sees as its own."""
    most, used = _text(_CGROUP / "memory.max"), _text(_CGROUP / "memory.current")
    if most.strip().isdigit() and used.strip().isdigit():
        yield max(0, int(most) - int(used))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
