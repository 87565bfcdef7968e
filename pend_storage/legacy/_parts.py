"""Layouts of a file that holds several collections, each in one of its members.

.. code-block:: json

    {"posts": [{"id": 1}], "users": [{"id": 1}], "version": 3}

Each of these members is a file of its own to the store: a :class:`PartLayout` of the name
``db.json#posts``. The rest of the object is a :class:`RestLayout`. A write of one of them
leaves the bytes of all others as they are in the file at that moment.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from typing_extensions import override

from pend_storage._layouts.broken_files import broken_header
from pend_storage._layouts.crowded_files import CrowdedFileError
from pend_storage._layouts.layout import Entry, ParsedFile
from pend_storage._model.records import LegacyFile
from pend_storage._transaction import Transaction
from pend_storage.legacy._document_files import DocumentMapping
from pend_storage.legacy._exact_json import UnreadableError, dump, read
from pend_storage.legacy._file_division import DividedFile
from pend_storage.legacy._file_envelope import (
    LIST,
    MAP,
    WRAPPED,
    WRAPPED_MAP,
    FileEnvelope,
)
from pend_storage.legacy._layout import RecordLayout
from pend_storage.legacy._scan import BrokenFileError, Container, name_at, top_level
from pend_storage.legacy.views._parts import LegacyParts
from pend_storage.schema import Schema
from pend_storage.store import Store

__all__ = ["PartLayout", "RestLayout"]

_INNER: Final = {WRAPPED: LIST, WRAPPED_MAP: MAP}
_ABSENT: Final = "absent"
"""Marks, in a header's format, a part whose member the file lacks."""
_EMPTY: Final = b"{}"


class PartLayout(RecordLayout):
    """Layout of the records in one member of a file that has other members."""

    is_one_text = False
    is_part = True

    def __init__(self, whole: RecordLayout) -> None:
        """Make the layout of a part.

        Args:
            whole: layout of the file as if it had this part only.
        """
        self.member: Final = str(whole.wrapper)
        super().__init__(
            f"{whole.file}#{self.member}",
            whole.mapping,
            shapes=tuple(_INNER[shape] for shape in whole.shapes),
            newest_first=whole.newest_first,
            blank_is_empty=whole.blank_is_empty,
        )
        self._source: Final = whole.file

    @property
    @override
    def source(self) -> str:
        return self._source

    # -- reading ------------------------------------------------------------------------

    @override
    def parse(self, schema: Schema, raw: bytes) -> ParsedFile:
        try:
            place = _place_of(_members(raw), raw, self.member)
        except BrokenFileError as error:
            if error.code == "blank" and self.blank_is_empty:
                return ParsedFile(self.missing(), ())
            entry = self._broken(schema, raw, error)
            return ParsedFile(broken_header(entry.home.record), (entry,))
        if place is None:
            return ParsedFile(self.missing(), ())
        parsed = super().parse(schema, raw[place[0] : place[1]])
        entries = _shifted(parsed.entries, place[0])
        return ParsedFile(self._header(parsed.header), entries)

    def _header(self, header: LegacyFile) -> LegacyFile:
        """Return the header of a member; without records, with the usual indentation."""
        envelope = FileEnvelope.of(header)
        if envelope.nothing is None:
            return header
        return envelope.indented().header(self.file)

    @override
    def missing(self) -> LegacyFile:
        header = self.found()
        return replace(header, format={**header.format, _ABSENT: True})

    def found(self) -> LegacyFile:
        """Return the header of a member without records."""
        return self._shapes.usual.indented().header(self.file)

    @staticmethod
    def is_there(header: LegacyFile) -> bool:
        """Return whether a header says that the file has the member."""
        return _ABSENT not in header.format

    # -- writing ------------------------------------------------------------------------

    @override
    def assemble(self, header: LegacyFile, texts: Iterable[bytes]) -> Iterator[bytes]:
        return self.assemble_in(header, texts, b"")

    @override
    def assemble_in(
        self, header: LegacyFile, texts: Iterable[bytes], old: bytes
    ) -> Iterator[bytes]:
        before, after = self._around(old)
        yield before
        yield from super().assemble(header, texts)
        yield after

    @override
    def restored(self, broken: bytes, old: bytes) -> bytes:
        try:
            read(broken)
        except UnreadableError:
            return old or broken  # the file as a whole is broken: leave it as it is
        before, after = self._around(old)
        return before + broken + after

    def _around(self, old: bytes) -> tuple[bytes, bytes]:
        """Return the text before and behind the member's value."""
        try:
            top = _members(old)
            place = _place_of(top, old, self.member)
        except BrokenFileError:
            return b"{\n  %b: " % dump(self.member), b"\n}"
        if place is not None:
            return old[: place[0]], old[place[1] :]
        return _behind(top, old, self.member)

    @override
    def as_json(self, raw: bytes) -> bytes:
        place = _place_of(_members(raw), raw, self.member)
        if place is None:
            return b"[]" if self.shapes[0] == LIST else _EMPTY
        return raw[place[0] : place[1]]


class RestLayout(RecordLayout):
    """Layout of the members that are not parts, each a document; its view is the file."""

    is_one_text = False
    is_part = True

    def __init__(self, file: str, parts: Sequence[PartLayout]) -> None:
        super().__init__(file, DocumentMapping(file), shapes=(MAP,))
        self.parts: Final = tuple(parts)
        self._names: Final = frozenset(part.member for part in parts)

    # -- reading ------------------------------------------------------------------------

    @override
    def _divide(self, raw: bytes) -> DividedFile:
        top = _members(raw)
        usual = self._shapes.usual
        rest = self._rest(top, raw)
        if not len(rest):
            return DividedFile(usual, top, None)
        found = FileEnvelope.found(MAP, raw, rest)
        between = b"," + raw[top.start + 1 : top.starts[0]]
        envelope = replace(
            found, before=usual.before, after=usual.after, between=between
        )
        return DividedFile(envelope, top, rest)

    def _rest(self, top: Container, raw: bytes) -> Container:
        """Return the members that are not parts."""
        kept = [
            index
            for index, start in enumerate(top.starts)
            if name_at(raw, start) not in self._names
        ]
        starts, values, ends = (
            array("q", [places[index] for index in kept])
            for places in (top.starts, top.values, top.ends)
        )
        return replace(top, starts=starts, values=values, ends=ends)

    # -- writing ------------------------------------------------------------------------

    @override
    def assemble(self, header: LegacyFile, texts: Iterable[bytes]) -> Iterator[bytes]:
        return self.assemble_in(header, texts, b"")

    @override
    def assemble_in(
        self, header: LegacyFile, texts: Iterable[bytes], old: bytes
    ) -> Iterator[bytes]:
        envelope = FileEnvelope.of(header)
        try:
            top = _members(old)
        except BrokenFileError:
            old = _EMPTY
            top = _members(old)
        yield self._written(envelope, _named(texts), top, old)

    def _written(
        self,
        envelope: FileEnvelope,
        texts: dict[str, list[bytes]],
        top: Container,
        old: bytes,
    ) -> bytes:
        """Assemble the file from these members, with the parts at their present places."""
        for name in self._names:
            # A text that spans several members may contain a part: the file's own wins.
            texts.pop(name, None)
        between = envelope.between
        if len(top) > 1:
            between = old[top.ends[0] : top.starts[1]]
        pieces: list[bytes] = []
        for index, start in enumerate(top.starts):
            name, space = name_at(old, start), between
            if index:
                space = old[top.ends[index - 1] : start]
            if name in self._names:
                pieces += (space, old[start : top.ends[index]])
            for text in texts.pop(name, ()):
                pieces += (space, text)
        for text in itertools.chain(*texts.values()):
            pieces += (between, text)
        members = b"".join(pieces[1:])
        if not members:
            return old[: top.start] + _EMPTY + old[top.end :]
        if not len(top):
            return b"{" + between[1:] + members + b"\n}"
        return old[: top.starts[0]] + members + old[top.ends[-1] :]

    @override
    def restored(self, broken: bytes, old: bytes) -> bytes:
        return broken

    @override
    def as_json(self, raw: bytes) -> bytes:
        rest = self._rest(_members(raw), raw)
        texts = (raw[slice(*rest.span(i))] for i in range(len(rest)))
        return b"{%b}" % b",".join(texts)

    @override
    def view(
        self, store: Store, tx: Transaction | None = None, *, strict: bool = False
    ) -> LegacyParts:
        rest = super().view(store, tx, strict=strict)
        parts = {part.member: part for part in self.parts}
        return LegacyParts(self, parts, rest, store, tx, strict=strict)


def _members(raw: bytes) -> Container:
    """Divide a file that is an object into its members.

    Raises:
        BrokenFileError: the file is not an object.
    """
    top = top_level(raw)
    if top is None:
        raise BrokenFileError("blank", "the file is not JSON")
    if top.is_list:
        raise BrokenFileError("wrong-shape", "the file is a list")
    return top


def _place_of(top: Container, raw: bytes, name: str) -> tuple[int, int] | None:
    """Return the byte range of a member's value; None where there is none."""
    for index in range(len(top) - 1, -1, -1):  # every parser keeps the last
        if name_at(raw, top.starts[index]) == name:
            return top.values[index], top.ends[index]
    return None


def _behind(top: Container, raw: bytes, name: str) -> tuple[bytes, bytes]:
    """Return the text around the value of a member that is appended to an object."""
    if not len(top):
        before, after = raw[: top.start + 1], raw[top.end - 1 :]
        return before + b"\n  %b: " % dump(name), b"\n" + after
    space = raw[top.start + 1 : top.starts[0]]
    before, after = raw[: top.ends[-1]], raw[top.ends[-1] :]
    return before + b",%b%b: " % (space, dump(name)), after


def _shifted(entries: Iterable[Entry], by: int) -> Iterator[Entry]:
    try:
        yield from (_shifted_by(entry, by) for entry in entries)
    except CrowdedFileError as error:
        whole = [_shifted_by(entry, by) for entry in error.whole.entries]
        raise CrowdedFileError(replace(error.whole, entries=whole)) from error


def _shifted_by(entry: Entry, by: int) -> Entry:
    span = entry.span
    return entry if span is None else replace(entry, span=(span[0] + by, span[1] + by))


def _named(texts: Iterable[bytes]) -> dict[str, list[bytes]]:
    """Group the texts of members by name; a name may occur several times."""
    raw = b"{%b}" % b",".join(texts)
    top = top_level(raw)
    found: dict[str, list[bytes]] = {}
    for index in range(0 if top is None else len(top)):
        start, end = top.span(index)  # type: ignore[union-attr]
        found.setdefault(name_at(raw, start), []).append(raw[start:end])
    return found
