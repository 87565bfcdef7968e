"""Search for the texts that identify a record: in records, files and backups."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pend_storage._files.failures import translate, translated
from pend_storage._files.linked import LinkedFile
from pend_storage._model.records import Change
from pend_storage._shown import shown
from pend_storage.config import JsonSettings
from pend_storage.dualwrite import DualWriteStore
from pend_storage.errors import ConfigError
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.json import OWN_DIRECTORY

__all__ = [
    "BACKUP_MARK",
    "Holder",
    "Needles",
    "backups_of",
    "holding_changes",
    "holding_files",
    "holding_records",
    "leftovers_of",
    "parts_of",
]

BACKUP_MARK: Final = "-backup-"
"""Part of the name of every copy that the library makes of a directory."""
_BLOCK: Final = 1 << 20
_SHORT: Final = 6
"""Characters below which a text is only searched for as a whole JSON string."""
_OWN_LEFTOVERS: Final = ("kept/*", "torn-*")
"""Files that the JSON store keeps for people: late edits, and commits cut off by a crash."""
_ESCAPE: Final = re.compile(r"(?:\\u[0-9a-fA-F]{4})+|\\/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Something that still holds an identifying text."""

    kind: str
    """``record``, ``tombstone``, ``change log``, ``file``, ``unread file``, ``backup`` or
    ``store``."""
    place: str
    """Its name: a path, or a collection and a key."""


class Needles:
    """Texts that identify records, and the bytes as which they may be stored."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts: frozenset[str] = frozenset(texts)
        self._patterns = [p for text in sorted(self.texts) for p in _patterns(text)]
        self._found = re.compile(b"|".join(map(re.escape, self._patterns)))

    @property
    def longest(self) -> int:
        """Bytes of the longest pattern."""
        return max(map(len, self._patterns), default=0)

    def are_in(self, raw: bytes) -> bool:
        """Return True if one of the texts is in these bytes, in any spelling of JSON."""
        if not self._patterns:
            return False
        if self._found.search(raw) is not None:
            return True
        if b"\\" not in raw:
            return False
        plain = _ESCAPE.sub(_unescaped, raw.decode("utf-8", "replace"))
        return self._found.search(plain.encode("utf-8", "replace")) is not None

    def are_in_file(self, path: Path) -> bool:
        """Return True if one of the texts is in a file; False where there is none."""
        if not self._patterns:
            return False
        # Escaped spellings take six bytes for each character, and twelve for a pair.
        overlap = 12 * self.longest
        with (
            contextlib.suppress(FileNotFoundError),
            LinkedFile(path) as linked,
            os.fdopen(linked.open(), "rb") as file,
        ):
            tail = b""
            while block := file.read(_BLOCK):
                if self.are_in(tail + block):
                    return True
                tail = (tail + block)[-overlap:]
        return False


def _patterns(text: str) -> Iterator[bytes]:
    """Yield the byte patterns of a text: as it is, escaped, and in base64."""
    escaped = json.dumps(text, ensure_ascii=False)
    if len(text) >= _SHORT:
        escaped = escaped[1:-1]
        yield text.encode("utf-8", "surrogatepass")
    yield escaped.encode("utf-8", "surrogatepass")
    inside = json.dumps(text).encode()
    yield inside if len(text) < _SHORT else inside[1:-1]
    # Bytes are stored as base64, three in four characters: of a text in the middle, what
    # depends on its neighbours is left out.
    for raw in {escaped.encode("utf-8", "surrogatepass"), inside}:
        for shift in range(3):
            whole = base64.b64encode(bytes(shift) + raw).rstrip(b"=")
            start = (0, 2, 3)[shift]
            end = len(whole) - (1 if (shift + len(raw)) % 3 else 0)
            if end - start >= _SHORT:
                yield whole[start:end]


def _unescaped(match: re.Match[str]) -> str:
    try:
        return str(json.loads(f'"{match[0]}"'))
    except ValueError:
        return match[0]


def holding_records(store: Store, needles: Needles) -> Iterator[Holder]:
    """Yield the records and tombstones of every collection that hold one of the texts."""
    for spec in store.schema:
        for row in store.scan(spec.name, deleted=True):
            place = f"{spec.name}[{shown(row.key)}]"
            if row.record is None:
                if row.key in needles.texts:
                    yield Holder(kind="tombstone", place=place)
            elif needles.are_in(spec.codec.encode(row.record)):
                yield Holder(kind="record", place=place)


def holding_changes(
    schema: Schema, changes: Iterable[Change], needles: Needles
) -> Iterator[Holder]:
    """Yield the records that entries of a change log hold with one of the texts."""
    found: dict[tuple[str, str], bool] = {}
    for change in changes:
        for name, key, _, record in change.records:
            codec = schema[name].codec
            if record is not None and needles.are_in(codec.encode(record)):
                found[name, key] = True
    for name, key in found:
        yield Holder(kind="change log", place=f"{name}[{shown(key)}]")


def holding_files(
    directory: Path,
    needles: Needles,
    more: Iterable[Path] = (),
    *,
    unread: list[Holder] | None = None,
) -> Iterator[Path]:
    """Yield the regular files below a directory that hold one of the texts.

    Symbolic links to directories are not followed, and special files are not opened.

    Args:
        directory: searched with all its folders.
        needles: the texts.
        more: single files outside of it.
        unread: gets the files and folders that cannot be read, which may hold anything.

    Raises:
        ConfigError: a file cannot be read, and there is no list of those.
        StoreUnavailable: the disk fails.
    """

    def leave_out(error: ConfigError | OSError) -> None:
        reason = translate(error, directory) if isinstance(error, OSError) else error
        if unread is None:
            raise reason
        unread.append(Holder(kind="unread file", place=str(reason)))

    found = (
        Path(folder) / name
        for folder, _, names in os.walk(directory, onerror=leave_out)
        for name in sorted(names)
    )
    for path in (*found, *more):
        try:
            if _holds(path, needles):
                yield path
        except ConfigError as error:
            leave_out(error)


def _holds(path: Path, needles: Needles) -> bool:
    with translated(path):
        try:
            return stat.S_ISREG(path.stat().st_mode) and needles.are_in_file(path)
        except FileNotFoundError:  # deleted meanwhile, or the target of a link
            return False


def backups_of(directory: Path, folders: Iterable[Path] = ()) -> list[Path]:
    """List the copies of a directory: beside it, and in other folders.

    Args:
        directory: the JSON directory.
        folders: where else copies were made.
    """
    beside = directory.resolve().parent
    found: list[Path] = []
    for folder in (beside, *folders):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found += [p for p in sorted(folder.iterdir()) if BACKUP_MARK in p.name]
    return list(dict.fromkeys(found))


def parts_of(store: Store) -> tuple[Store, ...]:
    """Return the stores of a pair, or the only one."""
    if isinstance(store, DualWriteStore):
        return store.stores
    return (store,)


def leftovers_of(json: JsonSettings | None) -> Iterator[Path]:
    """Yield the files that the JSON store keeps for people."""
    if json is not None:
        own = json.directory / OWN_DIRECTORY
        for pattern in _OWN_LEFTOVERS:
            yield from sorted(own.glob(pattern))
