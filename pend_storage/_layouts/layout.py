"""What a legacy layout is: how one JSON file maps to records and back. No I/O.

A layout is pure. It turns the bytes of a whole file into entries, and entries into the
text of a file; who reads, writes, compares and locks the file is the JSON store.

Positions grow with time: the oldest record of a file has the smallest, in files that grow
at the front as well. So a record keeps its position when others come.
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
    key_member: str | None = None
    """Where the file is a list: the member by which a record of it is known. By it two
    changed lists are merged; None: by ``id`` or the like, or else by position."""
    computed: frozenset[str] = frozenset()
    """Fields that follow from where a record stands in the file, or from its text."""
    is_one_text: bool = True
    """Whether the file is one JSON text, and the layout holds all of it."""
    is_folder: bool = False
    """Whether it is a folder of one file for each record, read as one object."""
    is_part: bool = False
    """Whether other layouts hold other parts of the same file."""

    @property
    def source(self) -> str:
        """The file itself, where :attr:`file` is the name of a part of it."""
        return self.file

    def joined(self, layouts: Sequence[Layout]) -> Sequence[Layout]:
        """The layouts of a file that several were declared for, this one first.

        Raises:
            ConfigError: they cannot share it.
        """
        raise ConfigError(
            f"{self.file}: {len(layouts)} layouts claim this file. Declare it once, or "
            "its parts by ps.records(..., path=...)."
        )

    @property
    def where(self) -> tuple[Condition, ...]:
        """What every record of the file meets, where others share its collection."""
        return ()

    def require(self, schema: Schema) -> None:  # noqa: B027 - for those who ask something
        """See that a schema stores what the layout gives.

        Raises:
            ConfigError: it does not; it says how to declare it.
        """

    # -- reading ------------------------------------------------------------------

    @abstractmethod
    def parse(self, schema: Schema, raw: bytes) -> ParsedFile:
        """Understand a whole file; records that cannot be placed become quarantined.

        A file that is broken as a whole (not JSON, half-written, another top level)
        yields one entry: a quarantined record with place "" that holds all its bytes. Its
        header is :func:`broken_header`, so that the file can be written again.
        Deterministic: the same bytes give the same records.
        """

    @abstractmethod
    def missing(self) -> LegacyFile:
        """The header by which a file that does not exist yet is written.

        It is never stored for a file that is not there: a row in ``legacy_files`` says
        that the file exists, with records or without.
        """

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

    def overruled_members(
        self,
        base: LegacyFile | None,  # noqa: ARG002 - for those who can tell
        present: LegacyFile,  # noqa: ARG002
        edited: LegacyFile,  # noqa: ARG002
    ) -> Mapping[str, JSON]:
        """What commits have set beside the records, and the edit overrules.

        Args: as for :meth:`merged_header`; ``base`` is None where it is not known.
        """
        return {}

    def with_member(
        self,
        header: LegacyFile,
        name: str,  # noqa: ARG002 - for those who have them
        value: JSON,  # noqa: ARG002
    ) -> LegacyFile:
        """The header with another value of a member beside the records."""
        return header

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

    def member_name(self, record: Any) -> str | None:  # noqa: ARG002 - for objects
        """The name under which a record stands in an object; None in a list.

        For a quarantined record that stands beside the records: None.
        """
        return None

    @abstractmethod
    def order(self, record: Any, version: int) -> tuple[Any, ...]:
        """Where a record stands among its file's records: sort by this."""

    @abstractmethod
    def placed(self, record: Any, position: int) -> Any:
        """The record with another position in its file."""

    @abstractmethod
    def position(self, record: Any) -> int | None:
        """The position in its file, None where it has none yet."""

    def rank(self, record: Any) -> int | None:
        """What it is sorted by: its position, or what stands for one; None: nothing."""
        return self.position(record)

    def place(self, record: Any) -> str:
        """The member name of a record in a map, for messages; else its position."""
        return str(self.position(record))

    def merged(self, present: Any, read: Any) -> Any:  # noqa: ARG002 - for those who can
        """A record that is there, after its file has told what another one says.

        Fields that the file cannot tell stay as they are.
        """
        return read

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

    def assemble_in(
        self,
        header: LegacyFile,
        texts: Iterable[bytes],
        old: bytes,  # noqa: ARG002 - for parts of a file
    ) -> Iterator[bytes]:
        """As :meth:`assemble`, with what other layouts hold of the file as it is now."""
        return self.assemble(header, texts)

    def restored(self, broken: bytes, old: bytes) -> bytes:  # noqa: ARG002 - likewise
        """The text of a file that is broken as a whole.

        Args:
            broken: what was quarantined.
            old: the file as it is now.
        """
        return broken

    def as_json(self, raw: bytes) -> bytes:
        """What the layout holds of a file, as one JSON text."""
        return raw

    # -- as a whole -----------------------------------------------------------------

    def knows(self, header: LegacyFile) -> bool:
        """Whether a stored header says how this file is written."""
        return header.format.get("shape") != BROKEN

    def content(self, header: LegacyFile, records: Sequence[Any]) -> Any:
        """What a JSON parser makes of the whole file, as exactly as possible.

        Args:
            header: of the file.
            records: that stand in it, in order.

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
        header: LegacyFile,  # noqa: ARG002 - for those who keep what it says
        records: Sequence[Any],  # noqa: ARG002
        value: Any,
    ) -> tuple[LegacyFile | None, bytes]:
        """The text by which a file says this value, and the header that belongs to it.

        Args:
            header: of the file as it is.
            records: that stand in it, in order.
            value: plain JSON, or parts of what :meth:`content` gave.

        Returns:
            Without a header: that of the text, as :meth:`parse` finds it.
        """
        return None, json.dumps(value, indent=2, ensure_ascii=False).encode()

    def shown(self, record: Any) -> tuple[str | None, Any]:
        """The member name of a record, and what the file says in its place.

        As plain data that ``json.loads`` would give. The name is None in a list. Asked by
        views that look at a whole file (:mod:`~pend_storage._layouts.listing`).
        """
        raise NotImplementedError(f"{type(self).__name__} has no listing")

    @abstractmethod
    def view(self, store: Any, tx: Any = None, *, strict: bool = False) -> Any:
        """Show the file as a live MutableMapping or MutableSequence.

        Args:
            store: the :class:`~pend_storage.store.Store` whose file it is. Its type is
                not in the signature, nor is that of ``tx``: stores and transactions are
                built on layouts, and a view is built on them.
            tx: a transaction of that store: reads and writes are part of it.
            strict: refuse what cannot be placed, instead of quarantining it.
        """


def one_each(layouts: Iterable[Layout]) -> tuple[Layout, ...]:
    """Layouts of which each has a name of its own: those of one file share it in parts.

    Raises:
        ConfigError: some claim one file and cannot share it.
    """
    by_file: dict[str, list[Layout]] = {}
    for layout in layouts:
        by_file.setdefault(layout.file, []).append(layout)
    made: list[Layout] = []
    for same in by_file.values():
        made += same if len(same) == 1 else same[0].joined(same)
    return tuple(made)


def layout_of(layouts: Iterable[Layout], file: str) -> Layout:
    """The layout of a legacy file.

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
