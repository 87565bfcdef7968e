"""Folder layout: one file for each record, read as one JSON object by record name."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Final, NamedTuple
from urllib.parse import unquote

import msgspec

from pend_storage._files.by_path import read_linked
from pend_storage.codec import dump_json
from pend_storage.errors import ConfigError

__all__ = [
    "FolderFile",
    "file_name",
    "files_in",
    "is_pattern",
    "matches",
    "read_folder",
    "text_of",
]

_RAW: Final = msgspec.json.Decoder(msgspec.Raw).decode
_UNFIT: Final = re.compile(r'[%/\\:*?"<>|\x00-\x1f]|^\.|[. ]$')
_STAR: Final = re.compile(r"[\[?]")
_NOT_JSON: Final = "This file is not JSON: "


class FolderFile(NamedTuple):
    """File of a folder, and the name of its record."""

    name: str
    """Name of the record."""
    path: Path


def is_pattern(file: str) -> bool:
    """Return whether a file name is a pattern for the files of a folder.

    Raises:
        ConfigError: the star is not in the last part, or there are several.
    """
    folder, _, last = file.rpartition("/")
    if "*" not in file:
        return False
    if "*" in folder or last.count("*") > 1:
        raise ConfigError(
            f"{file}: a star stands for the names of records, once, in the last part of "
            "the path: users/*.json."
        )
    return True


def matches(path: PurePath, pattern: PurePath) -> bool:
    """Return whether a file matches a pattern. Hidden files do not."""
    name = path.name
    return (
        path.parent == pattern.parent
        and not name.startswith(".")
        and fnmatch.fnmatchcase(name, _STAR.sub("[\\g<0>]", pattern.name))
    )


def file_name(pattern: Path, name: str) -> str:
    """Return the file name of a record; characters unfit for file names are escaped."""
    before, _, after = pattern.name.partition("*")
    return before + _UNFIT.sub(_escaped, name) + after


def _escaped(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode())


def files_in(pattern: Path) -> Iterator[FolderFile]:
    """Yield the files that match a pattern, sorted by the names of their records.

    A file whose name is escaped otherwise than the store would is a record of that literal
    name. It is skipped where another file has the name already.
    """
    before, _, after = pattern.name.partition("*")
    found: dict[str, Path] = {}
    odd: list[tuple[str, Path]] = []
    for path in pattern.parent.iterdir():
        if not matches(path, pattern) or not path.is_file():
            continue
        stem = path.name[len(before) : len(path.name) - len(after)]
        name = unquote(stem, errors="replace")
        if file_name(pattern, name) == path.name:
            found[name] = path
        else:
            odd.append((stem, path))
    for name, path in odd:
        found.setdefault(name, path)
    for name in sorted(found):
        yield FolderFile(name, found[name])


def read_folder(pattern: Path) -> bytes | None:
    """Read all files of a folder as one JSON object; None where there is no file."""
    if not pattern.parent.is_dir():
        return None
    found = {file.name: read_linked(file.path) for file in files_in(pattern)}
    return text_of(found) if found else None


def text_of(files: dict[str, bytes]) -> bytes:
    """Join the contents of files to one JSON object.

    A file that is not JSON becomes a text with an error prefix: the record is quarantined
    by itself, and does not break the folder as a whole.
    """
    members = [
        b"%b: %b" % (dump_json(name), _value(raw)) for name, raw in files.items()
    ]
    return b"{\n%b\n}" % b",\n".join(members) if members else b"{}"


def _value(raw: bytes) -> bytes:
    text = raw.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n")
    try:
        _RAW(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return dump_json(_NOT_JSON + raw.decode(errors="replace"))
    return text
