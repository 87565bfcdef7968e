"""Damage to whole files: what crashes, editors and other tools leave behind."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final, TypeAlias

from pend_storage.sample_data.entries import Frame, LegacyFile

Lines: TypeAlias = Iterator[bytes]


class Damage(StrEnum):
    """Kinds of damage to a whole file.

    Line breaks within texts are escaped, so each line of a file is a line of its
    structure. The functions below rely on that.
    """

    MISSING = "missing"
    """The file does not exist."""
    EMPTY = "empty"
    """0 bytes."""
    BARE_LIST = "bare-list"
    """3 bytes: an empty list and a line break."""
    BARE_MAP = "bare-map"
    """3 bytes: an empty object and a line break."""
    NO_RECORDS = "no-records"
    """A complete file without records, as the server leaves it: an empty list, wrapped
    in a file that has a wrapper."""
    ZEROS = "zeros"
    """The original length, but all bytes are zero, as after a power failure."""
    OTHER_TOP = "other-top"
    """JSON, but only a text."""
    BARE = "bare"
    """The list is not wrapped in an object as usual."""
    OTHER_MEMBERS = "other-members"
    """The object that wraps the list has other members too."""
    HALF_WRITTEN = "half-written"
    """The file ends in the middle of a record."""
    NOT_UTF8 = "not-utf8"
    """One byte of a text is invalid UTF-8."""
    BOM = "bom"
    """The file begins with a byte order mark."""
    CRLF = "crlf"
    """Lines end as on Windows."""
    TABS = "tabs"
    """Indentation by tabs."""
    COMPACT = "compact"
    """No line breaks, and no spaces outside of texts."""
    TRAILING_NEWLINE = "trailing-newline"
    """A line break at the end, as editors write it."""


ABSENT: Final = frozenset(
    {
        Damage.MISSING,
        Damage.EMPTY,
        Damage.BARE_LIST,
        Damage.BARE_MAP,
        Damage.NO_RECORDS,
        Damage.OTHER_TOP,
    }
)
"""Kinds of damage after which a file has no records."""

_NEEDS_WRAPPER: Final = frozenset({Damage.BARE, Damage.OTHER_MEMBERS})
_CONTENT: Final = {
    Damage.EMPTY: b"",
    Damage.BARE_LIST: b"[]\n",
    Damage.BARE_MAP: b"{}\n",
    Damage.OTHER_TOP: b'"undefined"',
}
_BUFFER: Final = 1 << 20
_INDENTATION: Final = re.compile(rb"^(?:  )+")
_NAME: Final = re.compile(rb'^("(?:[^"\\]|\\.)*":) ')


def check_damage(
    damage: Mapping[str, str], files: Sequence[LegacyFile]
) -> Mapping[str, Damage]:
    """Validate kinds of damage by file name.

    Raises:
        ValueError: A file or a kind is unknown, or the kind needs a wrapped list and
            the file has none.
    """
    known = {file.name: file for file in files}
    checked: dict[str, Damage] = {}
    for name, word in damage.items():
        if name not in known:
            raise ValueError(f"no file {name!r}; there are {', '.join(known)}")
        if word not in set(Damage):
            raise ValueError(f"no damage {word!r}; there are {', '.join(Damage)}")
        kind = Damage(word)
        if kind in _NEEDS_WRAPPER and not known[name].frame.is_wrapped:
            raise ValueError(f"{name} has no wrapped list, so {word!r} cannot be")
        checked[name] = kind
    return MappingProxyType(checked)


def apply_damage(path: Path, kind: Damage, frame: Frame) -> None:
    """Damage one file; ``path`` need not exist for the kinds in ``ABSENT``."""
    if kind is Damage.MISSING:
        path.unlink(missing_ok=True)
    elif kind is Damage.NO_RECORDS:
        path.write_text(frame.opening + frame.closing, encoding="utf-8", newline="\n")
    elif kind in ABSENT:
        path.write_bytes(_CONTENT[kind])
    elif kind in _LINE_CHANGES:
        _rewrite(path, _LINE_CHANGES[kind])
    else:
        with path.open("r+b", _BUFFER) as stream:
            _PLACE_CHANGES[kind](stream)


def _rewrite(path: Path, change: Callable[[Lines], Lines]) -> None:
    draft = path.with_name(path.name + ".draft")
    with path.open("rb", _BUFFER) as old, draft.open("wb", _BUFFER) as new:
        new.writelines(change(old))
    draft.replace(path)


def _middle(stream: BinaryIO) -> tuple[int, int]:
    """Find a line that holds a member, past the middle if possible.

    Returns:
        The line's first and last offset; a file without members is taken as one line.
    """
    size = stream.seek(0, os.SEEK_END)
    for start in (size // 2, 0):
        offset = stream.seek(start)
        for line in stream:
            if offset > start and _NAME.match(line.lstrip()):
                return offset, offset + len(line)
            offset += len(line)
    return 0, size


def _cut(stream: BinaryIO) -> None:
    begin, end = _middle(stream)
    stream.truncate((begin + end) // 2)


def _spoil(stream: BinaryIO) -> None:
    begin, end = _middle(stream)
    stream.seek(begin)
    quote = stream.read(end - begin).find(b'"')
    stream.seek(begin + quote + 1)
    stream.write(b"\xe9")


def _zero(stream: BinaryIO) -> None:
    size = stream.seek(0, os.SEEK_END)
    # Growing a file by truncate() fills it with zeros, and writes nothing.
    stream.truncate(0)
    stream.truncate(size)


def _bom(lines: Lines) -> Lines:
    yield b"\xef\xbb\xbf"
    yield from lines


def _crlf(lines: Lines) -> Lines:
    return (line.replace(b"\n", b"\r\n") for line in lines)


def _tabs(lines: Lines) -> Lines:
    return (
        _INDENTATION.sub(lambda found: b"\t" * (len(found[0]) // 2), line)
        for line in lines
    )


def _compact(lines: Lines) -> Lines:
    return (_NAME.sub(rb"\1", line.strip()) for line in lines)


def _trailing_newline(lines: Lines) -> Lines:
    yield from lines
    yield b"\n"


def _unwrapped(lines: Lines) -> Lines:
    """Unwrap a list: drop the first and last line, and one level of indentation."""
    next(lines)
    held = b"[" + next(lines).partition(b"[")[2]
    for line in lines:
        if line == b"}":
            yield held.rstrip(b"\n")
        else:
            yield held
            held = line.removeprefix(b"  ")


def _with_other_members(lines: Lines) -> Lines:
    yield next(lines)
    yield b'  "version": 3,\n'
    for line in lines:
        if line == b"}":
            yield b'  "lastUpdated": "2025-08-20T00:00:00.417Z"\n'
        if line == b"  ]\n":
            yield b"  ],\n"
        else:
            yield line


_LINE_CHANGES: Final = {
    Damage.BARE: _unwrapped,
    Damage.OTHER_MEMBERS: _with_other_members,
    Damage.BOM: _bom,
    Damage.CRLF: _crlf,
    Damage.TABS: _tabs,
    Damage.COMPACT: _compact,
    Damage.TRAILING_NEWLINE: _trailing_newline,
}
_PLACE_CHANGES: Final = {
    Damage.HALF_WRITTEN: _cut,
    Damage.NOT_UTF8: _spoil,
    Damage.ZEROS: _zero,
}
