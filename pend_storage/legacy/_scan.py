"""Scanner of JSON text: finds the byte ranges of records, without parsing them.

Only the outermost structure must be valid. The inside of a record is parsed later, record
by record, so that one bad record does not spoil the others. Every byte belongs to some
part, and the parts together are the file.
"""

from __future__ import annotations

import codecs
import json
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

__all__ = [
    "BrokenFileError",
    "Container",
    "Span",
    "contents",
    "each",
    "lines",
    "name_at",
    "single",
    "top_level",
    "value_start",
]

Span = tuple[int, int]
"""Byte range of a text: its first byte, and the byte after its last one."""

_BOM: Final = codecs.BOM_UTF8
_SPACE: Final = re.compile(rb"[ \t\r\n]*+").match
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL).match
_ESCAPED: Final = re.compile(
    rb'"[^"\\]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\]*+)*+"'
).fullmatch
_SCALAR: Final = re.compile(rb'[^ \t\r\n,:"\[\]{}]++').match
_COMMA: Final = re.compile(rb"[ \t\r\n]*+,[ \t\r\n]*+").match
# Everything up to the next bracket that stands outside of strings, and that bracket.
_BRACKET: Final = re.compile(
    rb'[^"\[\]{}]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"\[\]{}]*+)*+([\[\]{}])', re.DOTALL
).match
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_OPENING: Final = frozenset(b"[{")
_RAW_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_CHUNK: Final = 1 << 20


class BrokenFileError(ValueError):
    """A file cannot be divided into records.

    Attributes:
        code: of quarantine, see :data:`~pend_storage.legacy._quarantine.CODES`.
        reason: a sentence for operators.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Container:
    """Object or list, divided into the byte ranges of its members or items."""

    is_list: bool
    start: int
    """Offset of the opening bracket."""
    end: int
    """Offset behind the closing bracket."""
    starts: array[int]
    """Offsets of items; in an object, of the members' names."""
    values: array[int]
    """Offsets of values; in a list the same as ``starts``."""
    ends: array[int]
    """Offsets behind the values."""

    def __len__(self) -> int:
        return len(self.starts)

    def span(self, index: int) -> Span:
        """Return the byte range of an item, or of a member with its name."""
        return self.starts[index], self.ends[index]


def top_level(raw: bytes) -> Container | None:
    """Divide the only value of a file; None where the file is white space.

    Raises:
        BrokenFileError: not UTF-8, not JSON, cut off, or neither an object nor a list.
    """
    _check_utf8(raw)
    start = _space(raw, len(_BOM) if raw.startswith(_BOM) else 0)
    if start == len(raw):
        return None
    found = contents(raw, start)
    if _space(raw, found.end) != len(raw):
        raise BrokenFileError(
            "not-json", f"something stands behind the end of the JSON, byte {found.end}"
        )
    return found


def single(raw: bytes) -> Container | None:
    """Find the only value of a file, of any type, as the one item of a list.

    None where the file is white space.

    Raises:
        BrokenFileError: not UTF-8, not JSON, or cut off.
    """
    _check_utf8(raw)
    start = _space(raw, len(_BOM) if raw.startswith(_BOM) else 0)
    if start == len(raw):
        return None
    end = _value_end(raw, start)
    if _space(raw, end) != len(raw):
        raise BrokenFileError(
            "not-json", f"something stands behind the end of the JSON, byte {end}"
        )
    return _list_of(len(raw), array("q", [start]), array("q", [end]))


def lines(raw: bytes) -> Container:
    """Divide a file into its lines, stripped; blank ones are skipped.

    Raises:
        BrokenFileError: not UTF-8.
    """
    _check_utf8(raw)
    starts, ends = array("q"), array("q")
    place = len(_BOM) if raw.startswith(_BOM) else 0
    while place < len(raw):
        line_end = raw.find(b"\n", place)
        line_end = len(raw) if line_end < 0 else line_end
        line = raw[place:line_end]
        text = line.strip(b" \t\r")
        if text:
            start = place + len(line) - len(line.lstrip(b" \t\r"))
            starts.append(start)
            ends.append(start + len(text))
        place = line_end + 1
    return _list_of(len(raw), starts, ends)


def _list_of(end: int, starts: array[int], ends: array[int]) -> Container:
    return Container(
        is_list=True, start=0, end=end, starts=starts, values=starts, ends=ends
    )


def contents(raw: bytes, start: int) -> Container:
    """Divide the object or list that begins at an offset.

    Raises:
        BrokenFileError: it is neither, or its structure is invalid.
    """
    opening = raw[start : start + 1]
    if opening == b"[":
        return _quick_list(raw, start) or _divided(raw, start, is_list=True)
    if opening == b"{":
        return _divided(raw, start, is_list=False)
    raise BrokenFileError("wrong-shape", "the file is neither a JSON object nor a list")


def value_start(raw: bytes) -> int:
    """Return the offset of the first value of a file; its length where there is none."""
    return _space(raw, len(_BOM) if raw.startswith(_BOM) else 0)


def each(raw: bytes, start: int) -> Iterator[tuple[int, int, int]]:
    """Iterate over the items or members of an object or list that begins at an offset.

    In contrast to :func:`contents` nothing is kept, so that a file of millions of short
    items needs little memory. The text behind the closing bracket is not scanned.

    Yields:
        Offsets of the item, of its value, and of its end.

    Raises:
        BrokenFileError: it is neither an object nor a list, or its structure is invalid.
    """
    opening = raw[start : start + 1]
    if opening not in {b"[", b"{"}:
        raise BrokenFileError(
            "wrong-shape", "the file is neither a JSON object nor a list"
        )
    closing = b"]" if opening == b"[" else b"}"
    place = _space(raw, start + 1)
    if raw[place : place + 1] == closing:
        return
    for item in _items(raw, place, is_list=opening == b"["):
        yield item
        place = item[2]
    place = _space(raw, place)
    if raw[place : place + 1] != closing:
        raise _unexpected(raw, place)


def name_at(raw: bytes, start: int) -> str:
    """Parse the member name at an offset; it may hold lone surrogates."""
    found = _STRING(raw, start)
    assert found is not None  # noqa: S101 - the scan went over it already
    # As text: of bytes that begin with a quote and a NUL, it would guess another encoding.
    name: str = json.loads(found[0].decode(), strict=False)
    return name


def _check_utf8(raw: bytes) -> None:
    if raw.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(raw)
    try:
        for place in range(0, len(view), _CHUNK):
            decoder.decode(view[place : place + _CHUNK])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise BrokenFileError(
            "not-utf8", f"the file is not UTF-8: {error.reason}"
        ) from error


def _space(raw: bytes, start: int) -> int:
    found = _SPACE(raw, start)
    assert found is not None  # noqa: S101 - it also matches nothing
    return found.end()


def _quick_list(raw: bytes, start: int) -> Container | None:
    """Divide a list by msgspec, ten times as fast; None where it refuses the text.

    It accepts no NaN, no Infinity and no lone surrogates, which are faults of single
    records: replacements of the same length stand in for them, so that offsets hold.
    """
    text = raw[start:] if start else raw
    if b"NaN" in text or b"Infinity" in text:
        text = text.replace(b"NaN", b"111").replace(b"Infinity", b"11111111")
    if b"\\ud" in text or b"\\uD" in text:
        text = _SURROGATE.sub(rb"\\u0041", text)
    try:
        items = _RAW_LIST(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    starts, ends = array("q"), array("q")
    place = _space(raw, start + 1)
    for item in items:
        starts.append(place)
        place += len(memoryview(item))
        ends.append(place)
        comma = _COMMA(raw, place)
        if comma is not None:
            place = comma.end()
    end = _space(raw, place) + 1
    return Container(
        is_list=True, start=start, end=end, starts=starts, values=starts, ends=ends
    )


def _divided(raw: bytes, start: int, *, is_list: bool) -> Container:
    starts, values, ends = array("q"), array("q"), array("q")
    closing = b"]" if is_list else b"}"
    place = _space(raw, start + 1)
    if raw[place : place + 1] != closing:
        for name, value, end in _items(raw, place, is_list=is_list):
            starts.append(name)
            values.append(value)
            ends.append(end)
            place = _space(raw, end)
        if raw[place : place + 1] != closing:
            raise _unexpected(raw, place)
    return Container(is_list, start, place + 1, starts, values, ends)


def _items(raw: bytes, place: int, *, is_list: bool) -> Iterator[tuple[int, int, int]]:
    """Yield the offsets of each item, of its value and of its end, while commas follow."""
    while True:
        value = place if is_list else _value_start(raw, place)
        end = _value_end(raw, value)
        yield place, value, end
        comma = _COMMA(raw, end)
        if comma is None:
            return
        place = comma.end()


def _value_start(raw: bytes, place: int) -> int:
    """Return the offset behind a member's name and colon."""
    name = _STRING(raw, place)
    if name is None:
        raise _unexpected(raw, place)
    # Names are read later, one by one, so a wrong one is found here.
    if b"\\" in name[0] and _ESCAPED(name[0]) is None:
        raise BrokenFileError(
            "not-json",
            f"the member name at byte {place} has an escape that JSON does not have",
        )
    colon = _space(raw, name.end())
    if raw[colon : colon + 1] != b":":
        raise _unexpected(raw, colon)
    return _space(raw, colon + 1)


def _value_end(raw: bytes, start: int) -> int:
    if raw[start : start + 1] in {b"{", b"["}:
        return _bracket_end(raw, start)
    found = _STRING(raw, start) or _SCALAR(raw, start)
    if found is None:
        raise _unexpected(raw, start)
    return found.end()


def _bracket_end(raw: bytes, start: int) -> int:
    depth, place = 0, start
    while True:
        found = _BRACKET(raw, place)
        if found is None:
            raise _cut_off(start)
        place = found.end()
        if raw[place - 1] in _OPENING:
            depth += 1
        else:
            depth -= 1
            if not depth:
                return place


def _cut_off(start: int) -> BrokenFileError:
    return BrokenFileError(
        "half-written", f"the file ends inside of what begins at byte {start}"
    )


def _unexpected(raw: bytes, place: int) -> BrokenFileError:
    """Make the error for an offset at which the JSON is invalid, or cut off."""
    open_string = raw[place : place + 1] == b'"' and _STRING(raw, place) is None
    if _space(raw, place) == len(raw) or open_string:
        return _cut_off(place)
    shown = raw[place : place + 20].decode(errors="replace")
    return BrokenFileError("not-json", f"the JSON cannot go on with {shown!r}")
