"""Record profile: fields and faults of all records of one part of a file."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from pend_storage._model.limits import MAX_INDEXED_BYTES
from pend_storage.inspect._column_statistics import Column
from pend_storage.inspect._model import FieldReport
from pend_storage.legacy._exact_json import ExactFloat, UnreadableError, read
from pend_storage.legacy._scan import each, name_at

__all__ = ["Profile", "Record", "members", "one"]

Record = tuple[str | None, bytes]
"""Record in a file: its member name, or None in a list; and the text of its value."""

UNREAD: Final = object()
"""Placeholder of a record whose text cannot be parsed."""
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
    """Yield the records of the object or list at an offset.

    Raises:
        BrokenFileError: the value is not JSON.
    """
    is_list = raw[start : start + 1] == b"["
    for name, value, end in each(raw, start):
        yield None if is_list else _name(raw, name), raw[value:end]


def _name(raw: bytes, start: int) -> str:
    """Return the member name at an offset."""
    # Most names have no escapes; decoding these by hand avoids a parser for each record.
    text = raw[start + 1 : raw.index(b'"', start + 1)]
    return name_at(raw, start) if b"\\" in text else text.decode()


def one(text: bytes) -> Iterator[Record]:
    """Yield a value that is one record, such as settings."""
    yield None, text


class Profile:
    """Profile of the records of one part: counts, columns, faults."""

    def __init__(self) -> None:
        self.records = 0
        self.faults: Counter[str] = Counter()
        """Number of records that cannot be placed, by the code of the fault."""
        self.notes: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.columns: dict[str, Column] = {}
        self.values = Column("value")
        """Column of the records that are no objects."""
        self.more_fields: set[str] = set()
        self.names = array("q")
        """Hashes of the member names of a map."""

    def add(self, records: Iterable[Record]) -> None:
        """Add records, in batches: any number of them may come."""
        texts: list[bytes] = []
        size = 0
        for name, text in records:
            if name is not None:
                self._add_name(name)
            texts.append(text)
            size += len(text)
            if len(texts) == _BATCH or size > _BATCH_BYTES:
                self._add_batch(texts)
                texts, size = [], 0
        self._add_batch(texts)

    def _add_batch(self, texts: list[bytes]) -> None:
        """Add a batch: parsed as one text where that is possible, else one by one."""
        self.records += len(texts)
        values = None
        if len(texts) > 1:  # a single record may be long, and would be copied
            values = self._read_all(b"[%b]" % b",".join(texts), len(texts))
        if values is None:
            read_one = map(self._read, texts)
            values = [value for value in read_one if value is not UNREAD]
        self._flush([value for value in values if type(value) is dict])
        self.values.add([value for value in values if type(value) is not dict])

    def _read_all(self, text: bytes, count: int) -> list[Any] | None:
        """Parse a batch without special cases; None where a record may have one."""
        # Byte searches are cheap; a batch with a possible fault is parsed one by one, so
        # that the fault is counted for its record.
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
        """Return the fields, in the order of their first occurrence."""
        return tuple(column.report() for column in self.columns.values())

    def types(self) -> tuple[tuple[str, float], ...]:
        """Return the JSON types of the records with their shares, the commonest first."""
        ranked = sorted(self.kinds.items(), key=lambda pair: (-pair[1], pair[0]))
        total = self.kinds.total()
        return tuple((kind, count / total) for kind, count in ranked)

    def repeated_names(self) -> int:
        """Count the member names of a map that repeat an earlier one."""
        return len(self.names) - len(set(self.names))

    # -- one record ---------------------------------------------------------------------

    def _add_name(self, name: str) -> None:
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
    """Return the fault of a text that cannot be stored: half a character, or NUL."""
    if _HALF_CHARACTER.search(text):
        try:
            _ENCODE(value)
        except UnicodeEncodeError:
            return "half-character"
        except TypeError:  # the encoder does not know an exact number
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
