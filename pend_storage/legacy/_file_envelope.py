"""Envelope of the records of a file: the text around them, and their format.

An envelope is taken from a file as it is, or made in the manner of
``JSON.stringify(value, null, 2)``, which the legacy server uses; it is stored in the
file's :class:`~pend_storage.records.LegacyFile` header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from pend_storage._layouts.broken_files import BROKEN
from pend_storage._model.diff import ABSENT, equal
from pend_storage._model.records import JSON, LegacyFile
from pend_storage.legacy._exact_json import UnreadableError, dump, read_last
from pend_storage.legacy._scan import Container, contents, name_at, top_level

__all__ = [
    "BROKEN",
    "JSON_LINES",
    "LIST",
    "MAP",
    "NAMED",
    "OBJECT",
    "SCALAR",
    "SINGLE",
    "WRAPPED",
    "WRAPPED_MAP",
    "WRAPPERS",
    "FileEnvelope",
]

LIST: Final = "list"
"""The file is a list of records."""
MAP: Final = "map"
"""The file is an object; each member is a record."""
WRAPPED: Final = "wrapped"
"""The file is an object; one of its members is the list of records."""
WRAPPED_MAP: Final = "wrapped-map"
"""The file is an object; one of its members is an object, and each member of that is a
record."""
JSON_LINES: Final = "json-lines"
"""Each line of the file is a record; blank lines are none."""
OBJECT: Final = "object"
"""The file is an object, and the whole of it is one record: settings, for example."""
SCALAR: Final = "scalar"
"""The file is one text, number, true, false or null, and that is the only record."""
WRAPPERS: Final = frozenset({WRAPPED, WRAPPED_MAP})
"""Shapes with members beside the records."""
NAMED: Final = frozenset({MAP, WRAPPED_MAP})
"""Shapes in which each record has a name."""
SINGLE: Final = frozenset({OBJECT, SCALAR})
"""Shapes of one record."""

_BOM: Final = b"\xef\xbb\xbf"
_SPACE: Final = b" \t\r\n"
_INDENT: Final = "  "
_SAMPLE: Final = 50
_NAME: Final = re.compile(rb'\{\s*"(?:[^"\\]|\\.)*"(\s*:\s*)').match
_LINE: Final = re.compile(rb"\n( *)")
_BREAK: Final = re.compile(rb"\r?\n[ \t]*").search


@dataclass(frozen=True, slots=True)
class FileEnvelope:
    """Format of a file, and its text apart from its records."""

    shape: str
    before: bytes
    """Text up to the first record."""
    after: bytes
    between: bytes
    """Separator of two records."""
    unit: str | None = _INDENT
    """One step of indentation inside of a record; None where a record is one line."""
    colon: str = ": "
    nothing: bytes | None = None
    """Whole text of the file without records, where it was seen so."""

    # -- origin -----------------------------------------------------------------------

    @classmethod
    def usual(cls, shape: str, wrapper: str | None) -> FileEnvelope:
        """Make the envelope of a new file, as the legacy server writes it."""
        if shape == JSON_LINES:
            return cls(shape, b"", b"\n", b"\n", None)
        if shape in SINGLE:
            nothing = b"{}" if shape == OBJECT else b"null"
            return cls(shape, b"", b"", b"\n", nothing=nothing)
        opening, closing = _brackets(shape)
        if shape in WRAPPERS:
            opening = b"{\n  %b: %b" % (dump(wrapper), opening)
            return cls._around(shape, opening, closing + b"\n}", _INDENT)
        return cls._around(shape, opening, closing, "")

    @classmethod
    def _around(
        cls, shape: str, opening: bytes, closing: bytes, margin: str
    ) -> FileEnvelope:
        outer = b"\n" + margin.encode()
        inner = outer + _INDENT.encode()
        return cls(shape, opening + inner, outer + closing, b"," + inner)

    @classmethod
    def found(cls, shape: str, raw: bytes, records: Container) -> FileEnvelope:
        """Take the envelope of a file from its text."""
        if not len(records):
            margin = _INDENT if shape in WRAPPERS else ""
            opening, closing = raw[: records.start + 1], raw[records.end - 1 :]
            around = cls._around(shape, opening, closing, margin)
            return replace(around, nothing=raw)
        before, after = raw[: records.starts[0]], raw[records.ends[-1] :]
        space = before[len(before.rstrip(_SPACE)) :]
        unit, colon = _style(raw, records, _margin(space))
        if shape == JSON_LINES or shape in SINGLE:
            between = b"\r\n" if b"\r\n" in raw else b"\n"
        elif len(records) > 1:
            between = raw[records.ends[0] : records.starts[1]]
        elif _margin(space):
            between = b"," + space
        else:
            between = b", " if colon.endswith(" ") else b","
        found = cls(shape, before, after, between, unit, colon)
        if shape in SINGLE:
            return replace(found, nothing=cls.usual(shape, None).nothing)
        return found

    @classmethod
    def inserted(
        cls, shape: str, raw: bytes, top: Container, wrapper: str
    ) -> FileEnvelope:
        """Take the envelope of an object, and insert the member with its records."""
        opening = raw[: top.ends[-1]] if len(top) else raw[: top.start + 1]
        comma = b"," if len(top) else b""
        first, last = _brackets(shape)
        opening += b"%b\n  %b: %b" % (comma, dump(wrapper), first)
        closing = last + b"\n" + raw[top.end - 1 :]
        return replace(cls._around(shape, opening, closing, _INDENT), nothing=raw)

    @classmethod
    def of(cls, header: LegacyFile) -> FileEnvelope:
        """Decode the envelope that a header holds."""
        kept, envelope = header.format, header.envelope
        if not isinstance(envelope, Mapping):
            envelope = {}
        unit, nothing = kept.get("unit", _INDENT), kept.get("nothing")
        return cls(
            str(kept.get("shape", LIST)),
            str(envelope.get("before", "")).encode(),
            str(envelope.get("after", "")).encode(),
            str(kept.get("between", ",")).encode(),
            None if unit is None else str(unit),
            str(kept.get("colon", ": ")),
            None if nothing is None else str(nothing).encode(),
        )

    def header(self, file: str) -> LegacyFile:
        """Encode the envelope as the header of its file."""
        kept: dict[str, JSON] = {
            "shape": self.shape,
            "between": self.between.decode(),
            "unit": self.unit,
            "colon": self.colon,
        }
        if self.nothing is not None:
            kept["nothing"] = self.nothing.decode()
        envelope: JSON = {"before": self.before.decode(), "after": self.after.decode()}
        return LegacyFile(file=file, format=kept, envelope=envelope)

    # -- members beside wrapped records ---------------------------------------------------

    def members(self) -> dict[str, Any]:
        """Parse the members of a wrapped file, with an empty container for the records.

        Raises:
            UnreadableError: a member cannot be read.
        """
        text = (self.before + self.after).removeprefix(_BOM)
        members: dict[str, Any] = read_last(text)
        return members

    def with_members(self, members: Mapping[str, Any], wrapper: str) -> FileEnvelope:
        """Return the envelope of a wrapped file with these members.

        Args:
            members: with an empty list or object for the records.
            wrapper: name of the member with the records.
        """
        raw = replace(self, between=b",\n").text(members)
        top = top_level(raw)
        assert top is not None  # noqa: S101 - it was printed a moment ago
        pairs = zip(top.starts, top.values, strict=True)
        start = next(value for name, value in pairs if name_at(raw, name) == wrapper)
        found = FileEnvelope.found(self.shape, raw, contents(raw, start))
        return replace(found, unit=self.unit, colon=self.colon)

    def merged(
        self, base: FileEnvelope, edited: FileEnvelope, wrapper: str
    ) -> FileEnvelope:
        """Merge this envelope's changed members into an edited one.

        Args:
            base: common ancestor of both.
            edited: the other one; it wins where both changed a member.
            wrapper: name of the member with the records.
        """
        if any(envelope.shape not in WRAPPERS for envelope in (self, base, edited)):
            return edited
        try:
            old, mine, members = base.members(), self.members(), edited.members()
        except UnreadableError:
            return edited
        for name in (old.keys() | mine.keys()) - {wrapper}:
            there, edit = old.get(name, ABSENT), members.get(name, ABSENT)
            if not equal(there, edit):
                continue  # the edit counts
            if name in mine:
                members[name] = mine[name]
            else:
                members.pop(name, None)
        if equal(members, edited.members()):
            return edited
        return edited.with_members(members, wrapper)

    def indented(self) -> FileEnvelope:
        """Indent the envelope by one step, for a member of an object."""
        before, after, between = (
            text.replace(b"\n", b"\n" + _INDENT.encode())
            for text in (self.before, self.after, self.between)
        )
        return replace(self, before=before, after=after, between=between)

    # -- text -------------------------------------------------------------------------

    def text(self, value: Any, name: str | None = None) -> bytes:
        """Render a record as its text in the file, with its member name if it has one."""
        shown = self._indented(dump(value))
        if name is None:
            return shown
        return dump(name) + self.colon.encode() + shown

    def _indented(self, compact: bytes) -> bytes:
        if self.unit is None:
            spaced = self.colon.endswith(" ")
            return msgspec.json.format(compact, indent=0) if spaced else compact
        if compact[:1] not in {b"{", b"["} or len(compact) == len(b"{}"):
            return compact
        margin = _margin(self.between)
        if set(self.unit) == {" "}:
            lines = msgspec.json.format(compact, indent=len(self.unit))
            return lines.replace(b"\n", margin)
        unit = self.unit.encode()
        lines = msgspec.json.format(compact, indent=1)
        return _LINE.sub(lambda found: margin + unit * len(found[1]), lines)

    def whole(self, texts: Iterable[bytes]) -> Iterator[bytes]:
        """Assemble the file from the texts of its records, in pieces."""
        rest = iter(texts)
        first = next(rest, None)
        if self.shape == BROKEN:
            yield first or b""
        elif first is None:
            yield self._empty()
        else:
            yield self.before
            yield first
            for text in rest:
                yield self.between
                yield text
            yield self.after

    def _empty(self) -> bytes:
        if self.nothing is not None:
            return self.nothing
        return self.before.rstrip(_SPACE) + self.after.lstrip(_SPACE)


def _brackets(shape: str) -> tuple[bytes, bytes]:
    return (b"{", b"}") if shape in NAMED else (b"[", b"]")


def _margin(between: bytes) -> bytes:
    """Return line break and indentation of the records; empty where they share a line."""
    found = _BREAK(between)
    return found[0] if found else b""


def _style(raw: bytes, records: Container, margin: bytes) -> tuple[str | None, str]:
    """Detect the unit of indentation and the colon, from the first record with members."""
    colon = ": " if margin else ""
    for index in range(min(len(records), _SAMPLE)):
        start, end = records.span(index)
        value = raw[records.values[index] : end]
        if start != records.values[index]:
            name_and_colon = raw[start : records.values[index]].decode()
            colon = name_and_colon[name_and_colon.rindex('"') + 1 :]
        if value[:1] in {b"{", b"["} and len(value) > len(b"{ }"):
            found = _NAME(value)
            return _unit(value, margin), found[1].decode() if found else colon or ":"
    return (_unit_of_margin(margin) if margin else None), colon or ":"


def _unit(value: bytes, margin: bytes) -> str | None:
    """Return the indentation of the first line inside of a record, relative to its own."""
    _, newline, rest = value.partition(b"\n")
    if not newline:
        return None
    space = rest[: len(rest) - len(rest.lstrip(b" \t"))]
    own = margin.rpartition(b"\n")[2]
    return (space.removeprefix(own)).decode()


def _unit_of_margin(margin: bytes) -> str:
    return margin.rpartition(b"\n")[2].decode() or _INDENT
