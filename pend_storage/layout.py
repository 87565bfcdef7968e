"""What a legacy layout is: how one JSON file maps to records and back. No I/O.

A layout is pure. It turns the bytes of a whole file into entries, and entries into the
text of a file; who reads, writes, compares and locks the file is the JSON store.

Positions grow with time: the oldest record of a file has the smallest, in files that grow
at the front as well. So a record keeps its position when others come.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pend_storage.conditions import Condition
from pend_storage.records import Delete, LegacyFile, Put, QuarantinedRecord

if TYPE_CHECKING:
    from pend_storage.schema import Schema
    from pend_storage.store import Store

__all__ = ["Entry", "Find", "Layout", "ParsedFile", "is_whole_file"]

Find: TypeAlias = Callable[[str, str], Any]
"""Gives the record under a collection and a key, or None."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a legacy file."""

    place: str
    """Member name or list index, for messages."""
    home: Put
    """The record that the entry becomes, and is rendered from; of the layout's
    collection, or of the collection ``quarantine`` where it cannot be placed. Its
    optional references may lead nowhere: :meth:`Layout.adopt` makes them null then."""
    derived: Sequence[Put] = ()
    """Further records that the entry tells of, never rendered; what they say is added
    to records that are there already (:meth:`Layout.adopt`)."""
    span: tuple[int, int] | None = None
    """Where the entry's own text stands in the file: its first byte, and the byte after
    its last one, of exactly what :meth:`Layout.render_one` stands for. A store that
    writes the file again copies these bytes as long as the record does not change;
    None: not known, and the record is rendered anew."""


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """A whole legacy file, understood."""

    header: LegacyFile
    """How the file is written, and what is in it beside its records."""
    entries: Iterable[Entry]
    """By ascending position; each key once. May be lazy: iterate once."""


class Layout(ABC):
    """How one legacy file maps to one collection."""

    file: str
    """Path below the JSON directory, with forward slashes."""
    collection: str
    """The collection of its records."""

    @property
    def where(self) -> tuple[Condition, ...]:
        """What every record of the file meets, where others share its collection."""
        return ()

    # -- reading ------------------------------------------------------------------

    @abstractmethod
    def parse(self, schema: Schema, raw: bytes) -> ParsedFile:
        """Understand a whole file; records that cannot be placed become quarantined.

        A file that is broken as a whole (not JSON, half-written, another top level)
        yields one entry: a quarantined record with place "" that holds all its bytes.
        Deterministic: the same bytes give the same records.
        """

    @abstractmethod
    def missing(self) -> LegacyFile:
        """The header of a file that does not exist yet."""

    def merged_header(
        self,
        base: LegacyFile,  # noqa: ARG002 - for those who can tell
        present: LegacyFile,  # noqa: ARG002
        edited: LegacyFile,
    ) -> LegacyFile:
        """The header of a file that was edited and committed to at the same time.

        Args:
            base: what both began with.
            present: what the commits have made of it.
            edited: what the file says now; where both changed the same, it counts.
        """
        return edited

    @abstractmethod
    def adopt(
        self, schema: Schema, parsed: ParsedFile, present: Iterable[Any], find: Find
    ) -> Iterator[Put | Delete]:
        """The operations after which a store agrees with a file as it is now.

        Records that the file still holds keep what it cannot tell (their key, fields
        that only new code knows). Where nothing is in the store yet, everything is
        written. A file that is broken as a whole deletes nothing. Deleting a record
        that others refer to is given as it is: the store frees the others first.

        Args:
            schema: the schema of the store.
            parsed: the file as it is now.
            present: what the store holds of this file, its quarantined records
                included, in any order. Looked at once, and before the entries.
            find: looks into the store as it was before; operations given earlier need
                not show.
        """

    def told(self, schema: Schema, record: Any) -> Iterator[Put] | None:  # noqa: ARG002
        """What a placed record tells of others, as :attr:`Entry.derived` did.

        None where no record of the file ever does.
        """
        return None

    @abstractmethod
    def retry(self, schema: Schema, record: QuarantinedRecord) -> Entry:
        """The entry that a quarantined record gives now; its home may be quarantine."""

    @abstractmethod
    def set_aside(
        self, schema: Schema, header: LegacyFile, record: Any, reason: str
    ) -> Put:
        """A placed record in quarantine instead, because the store refused it.

        For a unique value that a record elsewhere has already, which no file can tell.
        """

    # -- writing ------------------------------------------------------------------

    @abstractmethod
    def owns(self, record: Any) -> bool:
        """Whether a record belongs to this file.

        It is one of the layout's collection or of ``quarantine``.
        """

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
        """The text of the whole file from its records' texts, in order.

        The text of a record that stands for a whole broken file is that file. Each text
        is yielded as a piece of its own, the very object that was taken from ``texts``,
        so that a store can note where in the file it stands.
        """

    @abstractmethod
    def view(self, store: Store) -> Any:
        """The file as a live MutableMapping or MutableSequence over a store."""


def is_whole_file(record: QuarantinedRecord) -> bool:
    """Whether a quarantined record stands for a file that is broken as a whole."""
    return record.place == "" and record.position is None
