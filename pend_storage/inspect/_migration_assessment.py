"""Migration assessment: readiness score of each file, time and memory of a migration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pend_storage.inspect._model import (
    DirectoryReport,
    FileReport,
    Hazard,
    Severity,
    Shape,
)

__all__ = ["Expected", "FileHazard", "expected", "ranked_hazards", "score"]

_RECORDS_A_SECOND: Final = 7_800
"""Rate of ``migrate json`` by docs/explanation/benchmarks.md: on two cores, with the
records of a Pend server, which have 450 bytes each."""
_BYTES_A_SECOND: Final = 3_500_000
_MEMORY_A_RECORD: Final = 5_000
_MEMORY_A_BYTE: Final = 4
_JSON_FACTOR: Final = 1.3
"""Bytes of snapshot and journal for each byte of the JSON files."""
_POSTGRES_FACTOR: Final = 1.6
"""Bytes of tables, indexes and change log for each byte of the JSON files."""
_POSTGRES_LEAST: Final = 10_000_000
"""Bytes of an empty database with its tables."""
_ORDER: Final = (Severity.FILE, Severity.RECORD, Severity.NOTE)
_DOUBT: Final = 30
_NOTE: Final = 3
_MOST_NOTES: Final = 15
_RECORD_FAULT: Final = 5
_ALL_FAULTS: Final = 50


@dataclass(frozen=True, slots=True)
class FileHazard:
    """Hazard with its file; None stands for the directory itself."""

    file: str | None
    hazard: Hazard


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Estimate of a migration, by rates that were measured on another machine."""

    seconds: float
    """Duration of ``migrate json``, without the copy of the directory."""
    json_bytes: int
    """Bytes that the JSON store adds to the directory."""
    postgres_bytes: int
    memory_bytes: int
    """Peak memory of the command that migrates."""


def score(file: FileReport) -> int:
    """Score the readiness of a file, from 0 to 100: 100 where nothing needs a decision."""
    if file.shape is Shape.BROKEN:
        return 0
    points = 100 if file.is_sure else 100 - _DOUBT
    faults = file.quarantined
    if faults:
        share = faults / max(file.records, 1)
        points -= max(_RECORD_FAULT, round(_ALL_FAULTS * share))
    lost = sum(h.count for h in file.hazards if h.severity is Severity.FILE)
    if lost:  # files of a folder that cannot be read
        points -= max(_RECORD_FAULT, round(_ALL_FAULTS * lost / max(file.files, 1)))
    notes = sum(h.severity is Severity.NOTE for h in file.hazards)
    return max(0, points - min(_MOST_NOTES, _NOTE * notes))


def ranked_hazards(report: DirectoryReport) -> list[FileHazard]:
    """List all hazards, the worst first."""
    every: Iterable[FileHazard] = [
        *(FileHazard(None, hazard) for hazard in report.hazards),
        *(FileHazard(f.file, hazard) for f in report.files for hazard in f.hazards),
    ]
    return sorted(
        every,
        key=lambda found: (
            _ORDER.index(found.hazard.severity),
            -found.hazard.count,
            found.file or "",
        ),
    )


def expected(report: DirectoryReport) -> Expected:
    """Estimate a migration of the readable files."""
    files = [file for file in report.files if file.shape is not Shape.BROKEN]
    size = sum(file.size for file in files)
    records = sum(file.records for file in files)
    return Expected(
        seconds=max(records / _RECORDS_A_SECOND, size / _BYTES_A_SECOND),
        json_bytes=round(size * _JSON_FACTOR),
        postgres_bytes=_POSTGRES_LEAST + round(size * _POSTGRES_FACTOR),
        memory_bytes=60_000_000
        + max(records * _MEMORY_A_RECORD, size * _MEMORY_A_BYTE),
    )
