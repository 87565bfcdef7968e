"""Files that are broken as a whole: one quarantined record holds all their bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pend_storage._model.records import JSON, LegacyFile, QuarantinedRecord

__all__ = ["BROKEN", "broken_header", "broken_record", "is_whole_file"]

BROKEN: Final = "broken"
"""The shape, in a header's format, of a file that is quarantined as a whole."""
_RECORD: Final = "quarantined"


def is_whole_file(record: QuarantinedRecord) -> bool:
    """Whether a quarantined record stands for a file that is broken as a whole."""
    return record.place == "" and record.position is None


def broken_header(record: QuarantinedRecord) -> LegacyFile:
    """The header of a file that is broken as a whole.

    Args:
        record: the quarantined record that holds the bytes of the file.
    """
    kept: dict[str, JSON] = {"shape": BROKEN, _RECORD: record.id}
    return LegacyFile(file=record.file, format=kept)


def broken_record(
    header: LegacyFile, records: Iterable[QuarantinedRecord]
) -> QuarantinedRecord | None:
    """The record whose bytes are the file; None where the file is not broken.

    It is not broken any more once an operator has accepted the record, or deleted it: the
    file is written from the other records then.

    Args:
        header: of the file, as it is stored.
        records: what of the file is in quarantine.
    """
    if header.format.get("shape") != BROKEN:
        return None
    waiting = [r for r in records if is_whole_file(r) and r.is_waiting]
    known = header.format.get(_RECORD)
    if known is not None:
        return next((r for r in waiting if r.id == known), None)
    # Headers of older versions do not say which record it is.
    return max(waiting, key=lambda record: record.seen_at, default=None)
