"""Looking at every record of one part of a file: its fields, and what is wrong with it."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from pend_storage._model.constraints import MAX_INDEXED_BYTES
from pend_storage.inspect._column_statistics import Column
from pend_storage.inspect._model import FieldReport
from pend_storage.legacy._exact_json import ExactFloat, UnreadableError, read
from pend_storage.legacy._scan import each, name_at

__all__ = ["Profile", "Record", "members", "one"]

Record = tuple[str | None, bytes]
"""A member name, or None in a list; and the text of the value."""

UNREAD: Final = object()
"""Stands for a record whose text cannot be read."""
_BATCH: Final = 1_000
_BATCH_BYTES: Final = 1 << 20
_MOST_FIELDS: Final = 400
_LONG_NUMBER: Final = re.compile(rb"[0-9]{19}")
_HALF_CHARACTER: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_NUL: Final = b"\\u0000"
_ENCODE: Final = msgspec.json.Encoder().encode
_INT64: Final = range(-(2**63), 2**63)
_KINDS: Final = {
    type(None): "null",
    str: "text",
    bool: "bool",
    int: "integer",
    float: "number",
    ExactFloat: "number",
    dict: "object",
    list: "list",
}


def members(raw: bytes, start: int) -> Iterator[Record]:
    """The records of the object or list that begins here.

    Raises:
        BrokenFileError: it is not sound.
    """
    is_list = raw[start : start + 1] == b"["
    for name, value, end in each(raw, start):
        yield None if is_list else _name(raw, name), raw[value:end]


def _name(raw: bytes, start: int) -> str:
    """The member name that begins here; most have no escapes in them."""
    text = raw[start + 1 : raw.index(b'"', start + 1)]
    return name_at(raw, start) if b"\\" in text else text.decode()


def one(text: bytes) -> Iterator[Record]:
    """A value that is one record, such as settings."""
    yield None, text


class Profile:
    """What all records of one part say together."""

    def __init__(self) -> None:
        self.records = 0
        self.faults: Counter[str] = Counter()
        """Records that cannot be placed, by what is wrong with them."""
        self.notes: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.columns: dict[str, Column] = {}
        self.values = Column("value")
        """Of the records that are no objects."""
        self.more_fields: set[str] = set()
        self.names = array("q")
        """Hashes of the member names of a map."""

    def add(self, records: Iterable[Record]) -> None:
        """Look at records, however many there are."""
        texts: list[bytes] = []
        size = 0
        for name, text in records:
            if name is not None:
                self._note_name(name)
            texts.append(text)
            size += len(text)
            if len(texts) == _BATCH or size > _BATCH_BYTES:
                self._take(texts)
                texts, size = [], 0
        self._take(texts)

    def _take(self, texts: list[bytes]) -> None:
        """Look at a batch: read as one text if it can be, else each for itself."""
        self.records += len(texts)
        values = None
        if len(texts) > 1:  # one alone may be long, and would be copied
            values = self._read_all(b"[%b]" % b",".join(texts), len(texts))
        if values is None:
            read_one = map(self._read, texts)
            values = [value for value in read_one if value is not UNREAD]
        self._flush([value for value in values if type(value) is dict])
        self.values.add([value for value in values if type(value) is not dict])

    def _read_all(self, text: bytes, count: int) -> list[Any] | None:
        """The values of a batch without anything odd in it; else None."""
        if _NUL in text or _LONG_NUMBER.search(text) or _HALF_CHARACTER.search(text):
            return None
        try:
            values, exact = read(text)
        except UnreadableError:
            return None
        if exact or len(values) != count:
            return None
        for kind, number in Counter(map(type, values)).items():
            self.kinds[_KINDS[kind]] += number
        return list(values)

    def fields(self) -> tuple[FieldReport, ...]:
        """The fields, in the order in which they were first seen."""
        return tuple(column.report() for column in self.columns.values())

    def types(self) -> tuple[tuple[str, float], ...]:
        """JSON types of the records with their shares, the commonest first."""
        ranked = sorted(self.kinds.items(), key=lambda pair: (-pair[1], pair[0]))
        total = self.kinds.total()
        return tuple((kind, count / total) for kind, count in ranked)

    def repeated_names(self) -> int:
        """Member names that a map has more than once: how many are too many."""
        return len(self.names) - len(set(self.names))

    # -- one record ---------------------------------------------------------------------

    def _note_name(self, name: str) -> None:
        self.names.append(hash(name))
        if not name:
            self.notes["empty-name"] += 1
        elif not name.isascii() and _has_half(name):
            self.faults["half-character"] += 1
        elif "\0" in name:
            self.faults["nul"] += 1
        elif len(name) > MAX_INDEXED_BYTES // 4 and len(name.encode()) > (
            MAX_INDEXED_BYTES
        ):
            self.notes["long-name"] += 1

    def _read(self, text: bytes) -> Any:
        try:
            value, exact = read(text)
        except UnreadableError as error:
            self.faults[error.code] += 1
            self.kinds["object" if text[:1] == b"{" else "list"] += text[:1] in b"{["
            return UNREAD
        self.kinds[_KINDS[type(value)]] += 1
        if exact:
            self.notes["long-decimal"] += 1
        if b"\\" in text and (fault := _text_fault(text, value)):
            self.faults[fault] += 1
        if _LONG_NUMBER.search(text) and _has_large(value):
            self.notes["large-integer"] += 1
        return value

    def _flush(self, batch: list[dict[str, Any]]) -> None:
        gathered: dict[str, list[Any]] = {}
        for record in batch:
            for name, value in record.items():
                values = gathered.get(name)
                if values is None:
                    gathered[name] = [value]
                else:
                    values.append(value)
        for name, values in gathered.items():
            column = self.columns.get(name)
            if column is None:
                if len(self.columns) >= _MOST_FIELDS:
                    self.more_fields.add(name)
                    continue
                column = self.columns[name] = Column(name)
            column.add(values)


def _text_fault(text: bytes, value: Any) -> str | None:
    """Whether a text in a value cannot be stored: it has half a character, or NUL."""
    if _HALF_CHARACTER.search(text):
        try:
            _ENCODE(value)
        except UnicodeEncodeError:
            return "half-character"
        except TypeError:  # a number with all its digits
            if any(map(_has_half, _texts(value))):
                return "half-character"
    if _NUL in text and any("\0" in found for found in _texts(value)):
        return "nul"
    return None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield name
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _has_half(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _has_large(value: Any) -> bool:
    if type(value) is int:
        return value not in _INT64
    if isinstance(value, Mapping):
        return any(map(_has_large, value.values()))
    return isinstance(value, list) and any(map(_has_large, value))
