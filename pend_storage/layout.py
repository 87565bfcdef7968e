"""What a legacy layout is: how one JSON file maps to records and back. No I/O.

A layout is pure. It turns the bytes of a whole file into entries, and entries into the
text of a file; who reads, writes, compares and locks the file is the JSON store.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pend_storage.records import LegacyFile, Put, QuarantinedRecord

if TYPE_CHECKING:
    from pend_storage.schema import Schema
    from pend_storage.store import Store

__all__ = ["Entry", "Layout", "ParsedFile"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a legacy file."""

    place: str
    """Member name or list index, for messages."""
    home: Put
    """The record that the entry becomes, and is rendered from; of the layout's
    collection, or of the collection ``quarantine`` where it cannot be placed."""
    derived: Sequence[Put] = ()
    """Further records that the entry tells of, never rendered; they are written only
    where there is no such record yet."""


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """A whole legacy file, understood."""

    header: LegacyFile
    """How the file is written, and what is in it beside its records."""
    entries: Iterable[Entry]
    """In the order of the file; each key once. May be lazy: iterate once."""


class Layout(ABC):
    """How one legacy file maps to one collection."""

    file: str
    """Path below the JSON directory, with forward slashes."""
    collection: str
    """The collection of its records."""

    @abstractmethod
    def parse(self, schema: Schema, raw: bytes) -> ParsedFile:
        """Understand a whole file; records that cannot be placed become quarantined.

        A file that is broken as a whole (not JSON, half-written, another top level)
        yields one entry: a quarantined record with place "" that holds all its bytes.
        Deterministic: the same bytes give the same keys.
        """

    @abstractmethod
    def missing(self) -> LegacyFile:
        """The header of a file that does not exist yet."""

    @abstractmethod
    def owns(self, record: Any) -> bool:
        """Whether a record of the layout's collection belongs to this file."""

    @abstractmethod
    def order(self, record: Any, version: int) -> tuple[Any, ...]:
        """Where a record stands among its file's records: sort by this."""

    @abstractmethod
    def placed(self, record: Any, position: int) -> Any:
        """The record with another position in its file."""

    @abstractmethod
    def position(self, record: Any) -> int | None:
        """The position in its file, None where it has none yet."""

    @abstractmethod
    def render_one(self, header: LegacyFile, record: Any) -> bytes:
        """The text of one record inside the file, indented as it stands there.

        A quarantined record gives its own bytes back.
        """

    @abstractmethod
    def assemble(self, header: LegacyFile, texts: Iterable[bytes]) -> Iterator[bytes]:
        """The text of the whole file from its records' texts, in order."""

    @abstractmethod
    def view(self, store: Store) -> Any:
        """The file as a live MutableMapping or MutableSequence over a store."""


def is_whole_file(record: QuarantinedRecord) -> bool:
    """Whether a quarantined record stands for a file that is broken as a whole."""
    return record.place == "" and record.position is None
