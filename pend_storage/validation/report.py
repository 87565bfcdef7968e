"""What a comparison found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from pend_storage.diff import Difference

__all__ = [
    "MOST_DIFFERENCES",
    "CollectionCheck",
    "Divergence",
    "FileCheck",
    "FileDifference",
    "ValidationReport",
]

MOST_DIFFERENCES: Final = 50
"""Places of one record that are told."""

Kind: TypeAlias = Literal["missing", "extra", "different"]
"""Missing: only the first store has it. Extra: only the second one has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """A record that is not the same in both stores, confirmed by looking again."""

    collection: str
    key: str
    kind: Kind
    versions: tuple[int, int]
    """In the first and in the second store; 0 where it does not exist."""
    differences: tuple[Difference, ...] = ()
    """Of a different record: field by field, the first store on the left; redacted where
    whoever confirmed it does so. The first :data:`MOST_DIFFERENCES`; a value of more than
    200 characters is its beginning and its size, as text."""
    more_differences: int = 0
    """Places that differ besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionCheck:
    """How one collection compares."""

    checked: int
    """Keys compared."""
    missing: int = 0
    extra: int = 0
    different: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing diverges."""
        return not (self.missing or self.extra or self.different)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationReport:
    """The outcome of a validation."""

    checked: int
    """Keys compared, those of the system collections among them."""
    found: int
    """Divergences, every one of them confirmed by looking again."""
    divergences: tuple[Divergence, ...]
    """The first of them, in detail; at most as many as asked for."""
    collections: Mapping[str, CollectionCheck]
    sampled: bool
    """Whether only a part of the records was compared."""
    seconds: float
    unsettled: int = 0
    """Records that went on changing for so long that nothing can be said of them."""

    @property
    def ok(self) -> bool:
        """Whether the stores are equal, as far as was looked, and that is certain."""
        return not (self.found or self.unsettled)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDifference:
    """One place at which a rendered file is not equal to the original."""

    path: tuple[str | int, ...]
    """Member names and list indices, from the top of the file."""
    original: str
    """The text there, shortened; empty where there is none."""
    rendered: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCheck:
    """How a legacy file, rendered from a store, compares with the original."""

    file: str
    result: Literal["identical", "equal", "different", "missing"]
    """Byte by byte, by value, not even that; or there is no original though the store
    has records of it."""
    records: int
    """Records rendered, quarantined ones included."""
    quarantined: int = 0
    differences: tuple[FileDifference, ...] = ()
    """The first of them."""

    @property
    def ok(self) -> bool:
        """Whether both are equal by value."""
        return self.result in {"identical", "equal"}
