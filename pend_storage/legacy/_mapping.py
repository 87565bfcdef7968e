"""Interface of mappings: how a layout turns legacy records into records and back."""

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
"""A collection and a record of it."""

Groups: TypeAlias = tuple[tuple[str, ...], ...]
"""Groups of columns."""

_NAMESPACE: Final = uuid.UUID("b3a6d3a4-54f5-5d0e-8a57-1b1d6f4f5c10")


class Source(NamedTuple):
    """One record of a legacy file, as it was read."""

    name: str | None
    """Its member name; None in a list."""
    value: Any
    digest: str
    """SHA-256 of its canonical text."""
    occurrence: int
    """How many equal records of the file are older."""
    position: int
    exact: bool = False
    """Whether it holds a number that no float holds."""


class Reads(Protocol):
    """A store or a transaction, as far as looking for one record goes."""

    def collection(self, name: str) -> Any:
        """The verbs of one collection."""


class RecordMapping(ABC):
    """What a layout needs to know about the records of its file."""

    collection: ClassVar[str]
    key: ClassVar[str] = "id"
    """The field that is the key of the collection."""
    told: frozenset[str]
    """The columns whose value the file decides; the others belong to new code."""
    guarded: ClassVar[Groups] = ()
    """Groups of columns of which two records of one file may not share the values; the
    later record is quarantined."""

    @abstractmethod
    def read(self, source: Source, refused: frozenset[str] = frozenset()) -> Any:
        """The record that a legacy record becomes.

        Args:
            source: the legacy record.
            refused: columns that could not take their value: leave them alone.

        Raises:
            UnreadableError: it cannot be placed.
        """

    @abstractmethod
    def write(self, record: Any) -> Any:
        """The legacy record that a record is rendered as."""

    def name(self, record: Any) -> str:
        """The member name under which a record stands in its map."""
        raise NotImplementedError(f"{type(self).__name__} is of lists")

    def find(self, store: Reads, name: str) -> Any:
        """The record that stands under a member name, or one that takes its place."""
        raise NotImplementedError(f"{type(self).__name__} is of lists")

    def named(self, name: str) -> Condition | None:  # noqa: ARG002 - for maps
        """What the record that :meth:`find` gives meets; None: ask that.

        Where a query is quicker than what it does one after the other.
        """
        return None

    def identity(self, record: Any) -> str:
        """What a record is recognised by when its file is read again: its content."""
        return digest(normal(self.write(record)))

    def by_content(self, record: Any) -> bool:  # noqa: ARG002 - for those who mix
        """Whether the key follows from content and occurrence, and not from a name.

        No two records of a file have the same key then.
        """
        return False

    def again(self, record: Any, occurrence: int) -> Any:
        """The record under another key: its own belongs to one that was changed since.

        Where keys follow from content, it also becomes a later one of its kind.
        """
        key = uuid.uuid5(_NAMESPACE, f"{getattr(record, self.key)}#{occurrence}")
        return dataclasses.replace(record, **{self.key: str(key)})

    where_tells: ClassVar[bool] = False
    """Whether :meth:`owns`, where it is overridden, asks no more than :attr:`where`: then
    the records of a file can be counted by a store."""
    where: tuple[Condition, ...] = ()
    """What the records of this file meet; :meth:`owns` may ask for more."""

    def owns(self, record: Any) -> bool:  # noqa: ARG002 - for those who share
        """Whether a record of the collection belongs to this file."""
        return True

    def derive(self, record: Any, value: Any) -> Iterable[Derived]:  # noqa: ARG002
        """Further records that the legacy record tells of."""
        return ()

    def demote(self, column: str | None) -> str | None:
        """The column to leave alone because the schema refused its value, if it may."""
        return column if column in self.told else None

    def born(self, record: Any) -> Any:
        """When a record without a position came to be; orders such records."""
        return getattr(record, "created_at", None)

    def merge(self, present: Any, read: Any) -> Any:
        """A record that is there already, after its file has told something else."""
        return dataclasses.replace(
            present, **{name: getattr(read, name) for name in self.told}
        )
