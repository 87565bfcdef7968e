"""A folder with one file for each record, read as one object: name to what its file says."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Final, NamedTuple
from urllib.parse import unquote

import msgspec

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
    """One file of a folder."""

    name: str
    """Of its record."""
    path: Path


def is_pattern(file: str) -> bool:
    """Whether a name stands for many files of one folder.

    Raises:
        ConfigError: it has a star elsewhere than once in its last part.
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
    """Whether a file is one of those that a pattern stands for."""
    name = path.name
    return (
        path.parent == pattern.parent
        and not name.startswith(".")
        and fnmatch.fnmatchcase(name, _STAR.sub("[\\g<0>]", pattern.name))
    )


def file_name(pattern: Path, name: str) -> str:
    """The name of the file of a record."""
    before, _, after = pattern.name.partition("*")
    return before + _UNFIT.sub(_escaped, name) + after


def _escaped(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode())


def files_in(pattern: Path) -> Iterator[FolderFile]:
    """The files that a pattern stands for, by the names of their records.

    A file whose name is not spelled as the store would spell it is known by that name. It
    is left alone where another one has it already.
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
    """The contents of all files as one JSON object; None where there is no file."""
    if not pattern.parent.is_dir():
        return None
    found = {file.name: file.path.read_bytes() for file in files_in(pattern)}
    return text_of(found) if found else None


def text_of(files: dict[str, bytes]) -> bytes:
    """The contents of files as one JSON object; of what is no JSON, a text that says so."""
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
