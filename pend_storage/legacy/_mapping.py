"""Mapping interface: conversion of legacy records to records of a collection and back."""

from __future__ import annotations

import dataclasses
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Final, NamedTuple, Protocol, TypeAlias

from pend_storage.legacy._exact_json import digest, normal
from pend_storage.query import Condition

__all__ = ["Derived", "Groups", "Reads", "RecordMapping", "Source"]

Derived = tuple[str, Any]
"""A derived record, with its collection."""

Groups: TypeAlias = tuple[tuple[str, ...], ...]
"""Groups of columns."""

_NAMESPACE: Final = uuid.UUID("b3a6d3a4-54f5-5d0e-8a57-1b1d6f4f5c10")


class Source(NamedTuple):
    """Legacy record as parsed from its file."""

    name: str | None
    """Member name; None in a list."""
    value: Any
    digest: str
    """SHA-256 of the canonical text."""
    occurrence: int
    """Number of older equal records in the file."""
    position: int
    exact: bool = False
    """The value contains a number that no float holds."""


class Reads(Protocol):
    """Store or transaction, for lookups of one record."""

    def collection(self, name: str) -> Any:
        """Return the verbs of one collection."""


class RecordMapping(ABC):
    """Mapping of the records of one file to a collection.

    Subclass :class:`~pend_storage.legacy.ObjectMapping` for objects with a table of
    members; this class is the interface that layouts call.
    """

    collection: ClassVar[str]
    key: ClassVar[str] = "id"
    """Key field of the collection."""
    told: frozenset[str]
    """Columns that the file decides; the others belong to new code."""
    guarded: ClassVar[Groups] = ()
    """Groups of columns whose values must be unique among the records of the file; the
    later record is quarantined."""

    @abstractmethod
    def read(self, source: Source, refused: frozenset[str] = frozenset()) -> Any:
        """Convert a legacy record to a record of the collection.

        Args:
            source: the legacy record.
            refused: columns whose value the schema refused: leave them empty, and keep
                the value in ``extra``.

        Raises:
            UnreadableError: the record cannot be placed.
        """

    @abstractmethod
    def write(self, record: Any) -> Any:
        """Convert a record to the legacy record that the file shows."""

    def name(self, record: Any) -> str:
        """Return the member name of a record in a map."""
        raise NotImplementedError(f"{type(self).__name__} is of lists")

    def find(self, store: Reads, name: str) -> Any:
        """Find the record of a member name, or one that a new record would replace."""
        raise NotImplementedError(f"{type(self).__name__} is of lists")

    def named(self, name: str) -> Condition | None:  # noqa: ARG002 - for maps
        """Return a condition that the record of :meth:`find` meets; None: call that.

        For stores over a network, where one query is faster than several lookups.
        """
        return None

    def identity(self, record: Any) -> str:
        """Return the identity by which a record is matched when its file is read again."""
        return digest(normal(self.write(record)))

    def by_content(self, record: Any) -> bool:  # noqa: ARG002 - for mixed files
        """Return whether the key is derived from content and occurrence, not from a name.

        Then no two records of a file have the same key.
        """
        return False

    def again(self, record: Any, occurrence: int) -> Any:
        """Return the record under a substitute key: its own belongs to a changed record.

        Where keys are derived from content, it also gets this occurrence.
        """
        key = uuid.uuid5(_NAMESPACE, f"{getattr(record, self.key)}#{occurrence}")
        return dataclasses.replace(record, **{self.key: str(key)})

    where_tells: ClassVar[bool] = False
    """An overridden :meth:`owns` is equivalent to :attr:`where`: then a store can count
    the records of a file."""
    where: tuple[Condition, ...] = ()
    """Conditions that the records of this file meet; :meth:`owns` may add others."""

    def owns(self, record: Any) -> bool:  # noqa: ARG002 - for shared collections
        """Return whether a record of the collection belongs to this file."""
        return True

    def derive(self, record: Any, value: Any) -> Iterable[Derived]:  # noqa: ARG002
        """Derive facts about other records from a legacy record."""
        return ()

    def demote(self, column: str | None) -> str | None:
        """Return the column to leave empty because the schema refused its value.

        None where the record has to be quarantined instead.
        """
        return column if column in self.told else None

    def born(self, record: Any) -> Any:
        """Return the creation time of a record without a position, by which it is sorted."""
        return getattr(record, "created_at", None)

    def merge(self, present: Any, read: Any) -> Any:
        """Merge a changed record of the file into the stored one."""
        return dataclasses.replace(
            present, **{name: getattr(read, name) for name in self.told}
        )
