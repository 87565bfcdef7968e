"""Legacy layout: the mapping of one JSON file to records and back. No I/O.

A layout is pure. It parses the bytes of a whole file into entries, and renders entries as
the text of a file; the JSON store reads, writes, compares and locks the file.

Positions grow with time: the oldest record of a file has the smallest, in files that grow
at the front as well. So a record keeps its position when others are added.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pend_storage._layouts.broken_files import BROKEN
from pend_storage._model.conditions import Condition
from pend_storage._model.records import JSON, Delete, LegacyFile, Put, QuarantinedRecord
from pend_storage._shown import shown
from pend_storage.errors import ConfigError, CorruptFile
from pend_storage.schema import Schema

__all__ = [
    "Entry",
    "Find",
    "Layout",
    "ParsedFile",
    "layout_of",
    "one_each",
]

Find: TypeAlias = Callable[[str, str], Any]
"""Returns the record under a collection and a key, or None."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Parsed record of a legacy file."""

    place: str
    """Member name or list index, for messages."""
    home: Put
    """The record that the entry becomes, and is rendered from; of the layout's
    collection, or of the collection ``quarantine`` where it cannot be placed. Its
    optional references may dangle: :meth:`Layout.adopt` makes them null then."""
    derived: Sequence[Put] = ()
    """Derived records: facts about other records, never rendered. They are merged into
    records that exist already (:meth:`Layout.adopt`)."""
    span: tuple[int, int] | None = None
    """Byte range of the entry's text in the file: the first byte, and the byte after the
    last one, of exactly what :meth:`Layout.render_one` renders. A store that writes the
    file again copies these bytes as long as the record does not change; None: not known,
    and the record is rendered anew."""


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """Parsed content of a whole legacy file."""

    header: LegacyFile
    """Format of the file, and its members beside the records."""
    entries: Iterable[Entry]
    """By ascending position; each key once. May be lazy: iterate once."""


class Layout(ABC):
    """Mapping of one legacy file to one collection: the interface that stores call."""

    file: str
    """Path below the JSON directory, with forward slashes."""
    collection: str
    """The collection of its records."""
    key_member: str | None = None
    """Key member of the records of a list, for merging two changed lists; None: ``id`` or
    the like, or else the position."""
    computed: frozenset[str] = frozenset()
    """Fields that follow from a record's position in the file, or from its text."""
    is_one_text: bool = True
    """The file is one JSON text, and the layout holds all of it."""
    is_folder: bool = False
    """The file is a folder of one file for each record, read as one object."""
    is_part: bool = False
    """Other layouts hold other parts of the same file."""

    @property
    def source(self) -> str:
        """Path of the file itself, where :attr:`file` names a part of it."""
        return self.file

    def joined(self, layouts: Sequence[Layout]) -> Sequence[Layout]:
        """Join the layouts that were declared for one file, this one first.

        Raises:
            ConfigError: they cannot share the file.
        """
        raise ConfigError(
            f"{self.file}: {len(layouts)} layouts claim this file. Declare it once, or "
            "its parts by ps.records(..., path=...)."
        )

    @property
    def where(self) -> tuple[Condition, ...]:
        """Conditions that select the file's records, where files share a collection."""
        return ()

    def require(self, schema: Schema) -> None:  # noqa: B027 - optional to override
        """Check that a schema can store the records of the layout.

        Raises:
            ConfigError: it cannot; the message says how to declare the collection.
        """

    # -- reading ------------------------------------------------------------------

    @abstractmethod
    def parse(self, schema: Schema, raw: bytes) -> ParsedFile:
        """Parse a whole file; records that cannot be placed are quarantined.

        A file that is broken as a whole (not JSON, half-written, another top level)
        yields one entry: a quarantined record with place "" that holds all its bytes. Its
        header is :func:`broken_header`, so that the file can be written again.
        Deterministic: the same bytes give the same records.

        Args:
            schema: of the store.
            raw: the bytes of the file.
        """

    @abstractmethod
    def missing(self) -> LegacyFile:
        """Return the header of a new file.

        Not stored while the file does not exist: a row in ``legacy_files`` means that it
        does, with records or without.
        """

    def merged_header(
        self,
        base: LegacyFile,  # noqa: ARG002 - for layouts with members beside records
        present: LegacyFile,  # noqa: ARG002
        edited: LegacyFile,
    ) -> LegacyFile:
        """Merge the headers of a file that was edited and committed to concurrently.

        Args:
            base: common ancestor of both.
            present: the stored header, with the commits.
            edited: the header of the edited file; it wins where both changed a member.
        """
        return edited

    def overruled_members(
        self,
        base: LegacyFile | None,  # noqa: ARG002 - for layouts with members beside records
        present: LegacyFile,  # noqa: ARG002
        edited: LegacyFile,  # noqa: ARG002
    ) -> Mapping[str, JSON]:
        """Return members beside the records that commits have set and the edit overrules.

        Args: as for :meth:`merged_header`; ``base`` is None where it is not known.
        """
        return {}

    def with_member(
        self,
        header: LegacyFile,
        name: str,  # noqa: ARG002 - for layouts with members beside records
        value: JSON,  # noqa: ARG002
    ) -> LegacyFile:
        """Return the header with another value of a member beside the records."""
        return header

    @abstractmethod
    def adopt(
        self, schema: Schema, parsed: ParsedFile, present: Iterable[Any], find: Find
    ) -> Iterator[Put | Delete]:
        """Adopt a changed file: yield the operations that make a store equal to it.

        Records that the file still holds keep what it cannot express (their key, fields
        that only new code knows). Where the store is empty, everything is written. A file
        that is broken as a whole deletes nothing. The deletion of a record that others
        refer to is yielded as it is: the store frees the others first.

        Args:
            schema: of the store.
            parsed: the file as it is now.
            present: the records of this file in the store, its quarantined ones
                included, in any order. Iterated once, before the entries.
            find: looks up records in the store as it was before; operations that were
                yielded earlier need not show.
        """

    def told(self, schema: Schema, record: Any) -> Iterator[Put] | None:  # noqa: ARG002
        """Derive the facts about other records from a placed one, as :attr:`Entry.derived`.

        None where no record of the file has any.
        """
        return None

    @abstractmethod
    def retry(self, schema: Schema, record: QuarantinedRecord) -> Entry:
        """Parse a quarantined record again; the entry's home may still be quarantine."""

    @abstractmethod
    def set_aside(
        self, schema: Schema, header: LegacyFile, record: Any, reason: str
    ) -> Put:
        """Quarantine a placed record, because the store refused it.

        For a unique value that a record of another file has already, which the layout of
        one file cannot know.
        """

    # -- writing ------------------------------------------------------------------

    @abstractmethod
    def owns(self, record: Any) -> bool:
        """Return whether a record belongs to this file.

        Args:
            record: one of the layout's collection or of ``quarantine``.
        """

    def member_name(self, record: Any) -> str | None:  # noqa: ARG002 - for objects
        """Return the member name of a record in an object; None in a list.

        For a quarantined record that stands beside the records: None.
        """
        return None

    @abstractmethod
    def order(self, record: Any, version: int) -> tuple[Any, ...]:
        """Return the sort key of a record among the records of its file."""

    @abstractmethod
    def placed(self, record: Any, position: int) -> Any:
        """Return the record with another position in its file."""

    @abstractmethod
    def position(self, record: Any) -> int | None:
        """Return the position of a record in its file; None where it has none yet."""

    def rank(self, record: Any) -> int | None:
        """Return the rank by which a record is sorted: its position, as a rule."""
        return self.position(record)

    def place(self, record: Any) -> str:
        """Return the member name of a record in a map, else its position, for messages."""
        return str(self.position(record))

    def merged(self, present: Any, read: Any) -> Any:  # noqa: ARG002 - to override
        """Merge a record of the file into the stored one.

        Fields that the file cannot express stay as they are.

        Args:
            present: the stored record.
            read: the record as parsed from the file.
        """
        return read

    @abstractmethod
    def render_one(self, header: LegacyFile, record: Any) -> bytes:
        """Render one record as its text inside the file, with the file's indentation.

        A quarantined record is rendered as its original bytes.
        """

    @abstractmethod
    def assemble(self, header: LegacyFile, texts: Iterable[bytes]) -> Iterator[bytes]:
        """Assemble the text of the whole file from its records' texts, in order.

        The text of a record that holds a whole broken file is that file. Each text is
        yielded as a piece of its own, the very object that was taken from ``texts``, so
        that a store can record its byte range in the file.
        """

    def assemble_in(
        self,
        header: LegacyFile,
        texts: Iterable[bytes],
        old: bytes,  # noqa: ARG002 - for parts of a file
    ) -> Iterator[bytes]:
        """Assemble the file as :meth:`assemble`, with the parts of other layouts in it.

        Args:
            header: of the file.
            texts: of the records, in order.
            old: the file as it is now.
        """
        return self.assemble(header, texts)

    def restored(self, broken: bytes, old: bytes) -> bytes:  # noqa: ARG002 - likewise
        """Return the text of a file that is broken as a whole.

        Args:
            broken: the quarantined bytes.
            old: the file as it is now.
        """
        return broken

    def as_json(self, raw: bytes) -> bytes:
        """Return the layout's part of a file as one JSON text."""
        return raw

    # -- as a whole -----------------------------------------------------------------

    def knows(self, header: LegacyFile) -> bool:
        """Return whether a stored header describes the format of this file."""
        return header.format.get("shape") != BROKEN

    def content(self, header: LegacyFile, records: Sequence[Any]) -> Any:
        """Return the value of the whole file as a JSON parser reads it, as exactly as possible.

        Args:
            header: of the file.
            records: shown by the file, in order.

        Raises:
            CorruptFile: the text of the file is not JSON.
        """
        texts = (self.render_one(header, record) for record in records)
        text = b"".join(self.assemble(header, texts))
        try:
            return json.loads(text.decode("utf-8-sig"), strict=False)
        except ValueError as error:
            raise CorruptFile(f"it is not JSON: {error}", path=self.file) from error

    def text_of(
        self,
        header: LegacyFile,  # noqa: ARG002 - for layouts that keep the format
        records: Sequence[Any],  # noqa: ARG002
        value: Any,
    ) -> tuple[LegacyFile | None, bytes]:
        """Render a value as the text of the file.

        Args:
            header: of the file as it is.
            records: shown by the file, in order.
            value: plain JSON, or parts of a result of :meth:`content`.

        Returns:
            The header, and the text; None for the header that :meth:`parse` finds in it.
        """
        return None, json.dumps(value, indent=2, ensure_ascii=False).encode()

    def shown(self, record: Any) -> tuple[str | None, Any]:
        """Return the member name of a record, and its value in the file.

        Plain data as from ``json.loads``. The name is None in a list. For views that read
        a whole file (:mod:`~pend_storage._layouts.listing`).
        """
        raise NotImplementedError(f"{type(self).__name__} has no listing")

    @abstractmethod
    def view(self, store: Any, tx: Any = None, *, strict: bool = False) -> Any:
        """Open the file as a live MutableMapping or MutableSequence.

        Args:
            store: the :class:`~pend_storage.store.Store` whose file it is. Its type is
                not in the signature, nor is that of ``tx``: stores and transactions are
                built on layouts, and a view is built on them.
            tx: a transaction of that store: reads and writes are part of it.
            strict: refuse what cannot be placed, instead of quarantining it.
        """


def one_each(layouts: Iterable[Layout]) -> tuple[Layout, ...]:
    """Join layouts that claim the same file, so that each result has a name of its own.

    Raises:
        ConfigError: two layouts claim one file and cannot share it.
    """
    by_file: dict[str, list[Layout]] = {}
    for layout in layouts:
        by_file.setdefault(layout.file, []).append(layout)
    made: list[Layout] = []
    for same in by_file.values():
        made += same if len(same) == 1 else same[0].joined(same)
    return tuple(made)


def layout_of(layouts: Iterable[Layout], file: str) -> Layout:
    """Return the layout of a legacy file.

    Raises:
        ConfigError: no layout claims a file of that name.
    """
    known = []
    for layout in layouts:
        if layout.file == file:
            return layout
        known.append(layout.file)
    raise ConfigError(
        f"no layout claims the legacy file {shown(file)}; this store knows: "
        f"{', '.join(known) or 'none'}."
    )
