"""Report of a render check; the reports of record comparisons are re-exported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pend_storage.reports import (
    MOST_DIFFERENCES,
    CollectionCheck,
    Divergence,
    Kind,
    ValidationReport,
)

__all__ = [
    "MOST_DIFFERENCES",
    "CollectionCheck",
    "Divergence",
    "FileCheck",
    "FileDifference",
    "Kind",
    "ValidationReport",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDifference:
    """Place at which a rendered file is not equal to the original."""

    path: tuple[str | int, ...]
    """Member names and list indices, from the top of the file."""
    original: str
    """The text there, shortened; empty where there is none."""
    rendered: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCheck:
    """Result for one legacy file: rendered from a store, compared with the original."""

    file: str
    result: Literal["identical", "equal", "different", "missing"]
    """Identical: byte by byte. Equal: by value. Missing: there is no original, though the
    store has records of it."""
    records: int
    """Records rendered, quarantined ones included."""
    quarantined: int = 0
    differences: tuple[FileDifference, ...] = ()
    """The first of them."""

    @property
    def ok(self) -> bool:
        """True where both are equal by value."""
        return self.result in {"identical", "equal"}
