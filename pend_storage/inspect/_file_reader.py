"""File reader: the bytes of a file, or the hazard that makes it unreadable as a whole.

No sentence of a hazard quotes the file: the quoted text may be a secret.
"""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from pend_storage._files.linked import LinkedFile
from pend_storage._files.reading import read_all
from pend_storage.errors import ConfigError
from pend_storage.inspect._model import Hazard, Severity
from pend_storage.legacy._scan import BrokenFileError, each, value_start

__all__ = ["MOST_BYTES", "Text", "broken", "changed_since", "read_text"]

MOST_BYTES: Final = 2_000_000_000
"""Larger files are not read: a store keeps the records of its files in memory."""

_BOM: Final = codecs.BOM_UTF8
_WIDE: Final = {
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_COMMENT: Final = re.compile(rb"(?m)^[ \t]*(?://|/\*)|[,\[{}\]][ \t]*(?://|/\*)")
_TRAILING: Final = re.compile(rb",\s*[\]}]")
_BARE_NAME: Final = re.compile(rb"[{,]\s*[A-Za-z_$][\w$]*\s*:")
_SINGLE_QUOTED: Final = re.compile(rb"[{,:\[]\s*'")
_AT: Final = re.compile(r"\(byte (\d+)\)")
_CHECK: Final = msgspec.json.Decoder(msgspec.Raw).decode
_CHUNK: Final = 1 << 20

_Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Text:
    """Bytes of a file, which are UTF-8."""

    raw: bytes
    encoding: str
    stamp: _Stamp
    """Device, inode, size and time of change of the file when it was opened."""


def read_text(path: Path) -> Text | Hazard:
    """Read a file; returns a hazard where it cannot be read, or is not UTF-8."""
    try:
        with LinkedFile(path) as file:
            fd = file.open()
        try:
            status = os.fstat(fd)
            if status.st_size >= MOST_BYTES:
                return _too_large(status.st_size)
            raw = read_all(fd, path)
        finally:
            os.close(fd)
    except ConfigError as error:
        return Hazard("no-permission", Severity.FILE, 1, f"it is not read: {error}")
    except OSError as error:
        return Hazard(
            "no-permission",
            Severity.FILE,
            1,
            f"it cannot be read: {error.strerror}. Give the right to the user who "
            "inspects and runs the server.",
        )
    return _decoded(raw, _stamp(status))


def changed_since(path: Path, text: Text) -> Hazard | None:
    """Return a hazard where a file was written, replaced or removed during the scan."""
    try:
        same = _stamp(path.stat()) == text.stamp
    except OSError:
        same = False
    if same:
        return None
    return Hazard(
        "written-meanwhile",
        Severity.NOTE,
        1,
        "it was written while it was looked at: inspect again while the server rests, or "
        "take the numbers as of a moment ago",
    )


def broken(text: Text, error: BrokenFileError) -> Hazard:
    """Diagnose a file that cannot be divided into records.

    The order of the checks matters: a half-written file has the faults of the others, too.
    """
    raw = text.raw
    if not raw.strip(b" \t\r\n" + _BOM):
        return _file(
            "blank",
            "it has no JSON, not even an empty list: a program was probably ended while "
            "it wrote. Restore it, or remove it.",
        )
    if error.code == "half-written" and not _ends_within_comment(raw):
        return _file(
            "torn",
            "it ends in the middle: a program was probably ended while it wrote. "
            "Restore it from a copy.",
        )
    if b"\0" in raw[:_CHUNK]:
        return _file(
            "nul-bytes",
            "it has NUL bytes, as after a power cut. Restore it from a copy.",
        )
    if (kind := _relaxed(raw)) is not None:
        return _file(
            "json5",
            f"it has {kind}, as JSON5 allows and JSON does not: {_first_fault(raw)}. "
            "Make it JSON.",
        )
    return _file("not-json", f"it is not JSON: {_first_fault(raw)}. Correct it.")


def _file(code: str, sentence: str) -> Hazard:
    return Hazard(code, Severity.FILE, 1, sentence)


def _stamp(status: os.stat_result) -> _Stamp:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _too_large(size: int) -> Hazard:
    return _file(
        "too-large",
        f"it has {size / 1e9:.1f} GB, and files from {MOST_BYTES / 1e9:.0f} GB on are not "
        "read, because a store keeps all records of its files in memory. Divide it, or "
        "load it into PostgreSQL directly.",
    )


def _decoded(raw: bytes, stamp: _Stamp) -> Text | Hazard:
    for mark, name in _WIDE.items():
        if raw.startswith(mark):
            return _file(
                "not-utf8", f"it is {name}: save it as UTF-8, as JSON is everywhere."
            )
    if raw.isascii():
        return Text(raw, "ASCII", stamp)
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(raw)
    try:
        for place in range(0, len(view), _CHUNK):
            decoder.decode(view[place : place + _CHUNK])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return _file(
            "not-utf8",
            "it is not UTF-8, perhaps Latin-1 or another encoding of one byte a "
            "character: save it as UTF-8, as JSON is everywhere.",
        )
    return Text(raw, "UTF-8 with BOM" if raw.startswith(_BOM) else "UTF-8", stamp)


def _relaxed(raw: bytes) -> str | None:
    """Return the feature of JSON5 that a text has, or None."""
    for pattern, kind in (
        (_COMMENT, "comments"),
        (_SINGLE_QUOTED, "single quotes"),
        (_BARE_NAME, "names without quotes"),
        (_TRAILING, "a comma behind the last item"),
    ):
        if pattern.search(raw):
            return kind
    return None


def _ends_within_comment(raw: bytes) -> bool:
    return raw.rstrip().endswith(b"*/") or _COMMENT.search(raw) is not None


def _first_fault(raw: bytes) -> str:
    """Return the line and column at which a parser stops."""
    try:
        _CHECK(raw)
        for _ in each(raw, value_start(raw)):
            pass
    except msgspec.DecodeError as error:
        found = _AT.search(str(error))
        if found is not None:
            place = int(found[1])
            line = raw.count(b"\n", 0, place) + 1
            column = place - raw.rfind(b"\n", 0, place)
            return f"line {line:,}, column {column:,}"
    except (BrokenFileError, RecursionError):
        pass
    return "it cannot be read to its end"
