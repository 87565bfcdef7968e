"""Reports of backfills, validations and confirmations.

They stand below the jobs that make them and the pair that returns them, neither of which
imports the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

from pend_storage._model.diff import Difference

__all__ = [
    "MOST_DIFFERENCES",
    "BackfillReport",
    "CollectionCheck",
    "Confirm",
    "Confirmed",
    "Divergence",
    "FileTally",
    "Kind",
    "Tally",
    "ValidationReport",
]

# -- backfill ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts of the records of one collection in a backfill."""

    rows: int = 0
    """Records seen; ``written + unchanged``."""
    written: int = 0
    unchanged: int = 0
    """Already there, at this version or a newer one."""
    deleted: int = 0
    """Records deleted in the target because they are deleted in the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTally:
    """Counts of the records of one legacy file in a backfill."""

    written: int = 0
    unchanged: int = 0
    quarantined: int = 0

    @property
    def read(self) -> int:
        """Records of the file: each was written, unchanged or quarantined."""
        return self.written + self.unchanged + self.quarantined


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillReport:
    """Outcome of a backfill."""

    rows: int
    """Records of the schema's own collections; ``written + unchanged``."""
    written: int
    unchanged: int
    deleted: int
    quarantined: int
    """Legacy records in quarantine, copied as such."""
    seconds: float
    resumed: bool
    """True if it continued one that was interrupted. Records that the earlier one had
    written count as unchanged here."""
    collections: Mapping[str, Tally]
    """By name; the system collections are among them."""
    files: Mapping[str, FileTally]
    """By legacy file; records of no file are not among them."""
    throttled: Mapping[str, float] = field(default_factory=dict)
    """Seconds of throttling, by reason: ``rate`` (the limit of the caller),
    ``lag`` (the secondary does not keep up), ``slow-target``."""


# -- validation -------------------------------------------------------------------------

MOST_DIFFERENCES: Final = 50
"""Places of one record that are reported."""

Kind: TypeAlias = Literal["missing", "extra", "different"]
"""Missing: only the first store has it. Extra: only the second one has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Divergence: a record that differs between the stores, confirmed by reading again."""

    collection: str
    key: str
    kind: Kind
    versions: tuple[int, int]
    """In the first and in the second store; 0 where it does not exist."""
    differences: tuple[Difference, ...] = ()
    """Of a different record: field by field, the first store on the left; redacted where
    the confirmation does so. The first :data:`MOST_DIFFERENCES`; a value of more than
    200 characters is its beginning and its size, as text."""
    more_differences: int = 0
    """Places that differ besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionCheck:
    """Comparison of one collection, in numbers."""

    checked: int
    """Keys compared."""
    missing: int = 0
    extra: int = 0
    different: int = 0

    @property
    def ok(self) -> bool:
        """True if no record diverges."""
        return not (self.missing or self.extra or self.different)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationReport:
    """Outcome of a validation."""

    checked: int
    """Keys compared, those of the system collections among them."""
    found: int
    """Divergences, every one of them confirmed by reading again."""
    divergences: tuple[Divergence, ...]
    """First divergences in detail; at most as many as the caller wants."""
    collections: Mapping[str, CollectionCheck]
    sampled: bool
    """True if only a part of the records was compared."""
    seconds: float
    unsettled: int = 0
    """Records that went on changing, so that they are neither equal nor certain to differ."""

    @property
    def ok(self) -> bool:
        """True if all compared records are certainly equal."""
        return not (self.found or self.unsettled)


class Confirmed(NamedTuple):
    """Outcome of a confirmation; keys that are in neither are equal."""

    found: Mapping[str, Divergence]
    """Certain divergences, by key; their differences are not bounded yet."""
    unsettled: Collection[str]
    """Keys that went on changing, so that nothing is certain."""


Confirm: TypeAlias = Callable[[str, Sequence[str]], Confirmed]
"""Reads a collection's keys that seem to differ again, and returns which of them do."""
