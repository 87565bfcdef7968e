"""Crowded files: legacy files with so many bad records that one entry holds the file.

Each quarantined record is a row of some kilobytes, so a file of a few megabytes could fill
the memory of a server. Above a limit the file is broken as a whole, with the same promises
as a file that no parser can read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from pend_storage._layouts.broken_files import broken_header
from pend_storage._layouts.layout import Entry, ParsedFile
from pend_storage._model import limits
from pend_storage._model.records import QuarantinedRecord
from pend_storage._shown import cut

__all__ = [
    "CROWDED",
    "CrowdedFileError",
    "bounded",
    "count_entries",
    "read_bounded",
]

CROWDED: Final = "too-many"
"""The code of a file that is quarantined as a whole for the number of its bad records."""
_MOST_NAMED: Final = 10
_LONGEST_NAME: Final = 60
_LONGEST_REASON: Final = 80


class CrowdedFileError(ValueError):
    """More records of a file cannot be placed than are quarantined one by one.

    Attributes:
        whole: the file as one that is broken as a whole.
    """

    def __init__(self, whole: ParsedFile) -> None:
        """Args: whole: the file as one that is broken as a whole."""
        record = next(iter(whole.entries)).home.record
        super().__init__(record.reason)
        self.whole = whole


def bounded(
    entries: Iterable[Entry], count: int | None, quarantined: Callable[[str], Entry]
) -> Iterator[Entry]:
    """Yield the entries of a file, as long as few of them are quarantined.

    Args:
        entries: of the file.
        count: number of records of the file, for the message; None: unknown.
        quarantined: makes the entry that holds the whole file, of a reason.

    Raises:
        CrowdedFileError: more than :data:`~pend_storage._model.limits.MAX_QUARANTINED`.
    """
    found, first = 0, list[str]()
    for entry in entries:
        record = entry.home.record
        if isinstance(record, QuarantinedRecord):
            found += 1
            if found <= _MOST_NAMED:
                place = cut(record.place, _LONGEST_NAME)
                first.append(f"{place!r}: {cut(record.reason, _LONGEST_REASON)}")
            if found > limits.MAX_QUARANTINED:
                whole = quarantined(_reason(count, first))
                header = broken_header(whole.home.record)
                raise CrowdedFileError(ParsedFile(header, (whole,)))
        yield entry


def _reason(count: int | None, first: list[str]) -> str:
    of_them = "" if count is None else f" of its {count:,}"
    return (
        f"more than {limits.MAX_QUARANTINED:,}{of_them} records cannot be placed, so the "
        f"file is kept as a whole. The first of them: {'; '.join(first)}"
    )


def read_bounded(parsed: ParsedFile) -> ParsedFile:
    """Read all entries of a file; a crowded one has a single entry, of the whole file."""
    try:
        return ParsedFile(parsed.header, list(parsed.entries))
    except CrowdedFileError as error:
        return error.whole


def count_entries(parsed: ParsedFile) -> int:
    """Count the entries of a file; 1 where it is broken as a whole."""
    try:
        return sum(1 for _ in parsed.entries)
    except CrowdedFileError:
        return 1
