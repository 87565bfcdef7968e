"""Render check: legacy files are made from a store, and compared with the originals.

Files may be large, so the texts of records go through a temporary file, and only their
order is kept in memory.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeAlias

from pend_storage._files.linked import LinkedFile
from pend_storage._layouts.broken_files import BROKEN, broken_record, is_whole_file
from pend_storage._layouts.duplicate_members import Text as NamedText
from pend_storage._layouts.duplicate_members import hidden, text_of
from pend_storage._layouts.folders import read_folder
from pend_storage._layouts.layout import Layout
from pend_storage._layouts.unread_files import as_stored
from pend_storage._model.records import LegacyFile, QuarantinedRecord
from pend_storage._shown import bounded_path
from pend_storage.errors import ConfigError
from pend_storage.events import Progress
from pend_storage.schema import QUARANTINE
from pend_storage.store import Store
from pend_storage.validation._exact_json_compare import Text, unequal
from pend_storage.validation.report import FileCheck, FileDifference

__all__ = ["render_check"]

_DIFFERENCES: Final = 20
"""Differences of a file that are reported."""
_BUFFER: Final = 1 << 20

_Place: TypeAlias = tuple[tuple[Any, ...], int, int]
"""Sort key; begin of the text in the temporary file, in bytes; its length."""


@as_stored()
def render_check(
    store: Store,
    directory: Path,
    *,
    files: Mapping[str, Path] | None = None,
    progress: Progress | None = None,
) -> list[FileCheck]:
    """Render every legacy file from a store, and compare each with its original by value.

    Args:
        store: with the layouts of the files.
        directory: where the original files are.
        files: originals that lie elsewhere, by their name in the layout.
        progress: called with files done and to do.

    Returns:
        One result for each file that exists, or of which the store has records.

    Raises:
        ConfigError: an original cannot be read.
    """
    checks: list[FileCheck] = []
    with ExitStack() as stack:
        made = [_File(store, layout, stack) for layout in store.layouts]
        _collect(store, made)
        for number, file in enumerate(made, 1):
            name = file.layout.source
            original = (files or {}).get(name, directory / name)
            if _is_there(file.layout, original) or file.places or file.is_there:
                checks.append(_check(file, original))
            if progress is not None:
                progress(number, len(made))
    return checks


class _File:
    """Legacy file that is rendered: the texts of its records, not sorted yet."""

    def __init__(self, store: Store, layout: Layout, stack: ExitStack) -> None:
        found = store.collection(LegacyFile).get(layout.file)
        self.is_there = found is not None
        """Whether it exists even without a record."""
        self.header = layout.missing() if found is None else found
        self.layout = layout
        self.places: list[_Place] = []
        self.quarantined = 0
        self.is_broken = False
        """Whether one record stands for the whole file."""
        self._whole: list[QuarantinedRecord] = []
        self._texts = stack.enter_context(_scratch_file())
        self._end = 0
        self._namesakes: dict[str, list[NamedText]] = {}
        """Records that share a member name with a quarantined one, by that name."""

    def add(self, record: Any, version: int) -> None:
        """Add a record, behind all quarantined ones."""
        if self._namesakes:
            named = text_of(self.layout, record, version, None)
            if named is not None and named.name in self._namesakes:
                self._namesakes[named.name].append(named)
        self._write(record, version)

    def _write(self, record: Any, version: int) -> None:
        text = self.layout.render_one(self.header, record)
        self.places.append((self.layout.order(record, version), self._end, len(text)))
        self._end += self._texts.write(text)

    def add_quarantined(self, record: QuarantinedRecord, version: int) -> None:
        """Add a quarantined record."""
        self.quarantined += 1
        if is_whole_file(record):
            self._whole.append(record)
            return
        if record.position is None:
            return  # it is not among the records of the file
        named = text_of(self.layout, record, version, len(self.places))
        if named is not None:
            self._namesakes.setdefault(named.name, []).append(named)
        self._write(record, version)

    def settle(self) -> None:
        """Decide whether the file is broken as a whole, once all quarantined are added.

        A broken file has no other record. A file whose quarantined text was accepted, or
        deleted, is written from the other records, as a new file is.
        """
        broken = broken_record(self.header, self._whole)
        if broken is not None:
            self.is_broken = True
            self.places.clear()
            self._namesakes.clear()
            self._write(broken, 0)
        elif self.header.format.get("shape") == BROKEN:
            self.header = self.layout.missing()

    def text(self) -> Iterator[bytes]:
        """Return the text of the whole file, in pieces."""
        self._texts.flush()
        gone = hidden(chain(*self._namesakes.values()))
        places = sorted(p for i, p in enumerate(self.places) if i not in gone)
        source = self._texts.fileno()
        texts = (os.pread(source, length, start) for _, start, length in places)
        return self.layout.assemble(self.header, texts)


def _collect(store: Store, files: list[_File]) -> None:
    """Add every record of the store to the file that it belongs to."""
    for row in store.scan(QUARANTINE):
        for file in files:
            if file.layout.owns(row.record):
                file.add_quarantined(row.record, row.version)
    for file in files:
        file.settle()
    for name in {file.layout.collection for file in files}:
        wanted = [file for file in files if file.layout.collection == name]
        wanted = [file for file in wanted if not file.is_broken]
        for row in store.scan(name):
            for file in wanted:
                if file.layout.owns(row.record):
                    file.add(row.record, row.version)
                    break


def _check(file: _File, original: Path) -> FileCheck:
    """Compare one file with its original."""
    check = FileCheck(
        file=file.layout.file,
        result="identical",
        records=len(file.places),
        quarantined=file.quarantined,
    )
    if not _is_there(file.layout, original):
        return replace(check, result="missing")
    with _scratch_file() as made:
        made.writelines(file.text())
        with _original(file.layout, original) as wanted, _view(made) as found:
            if _identical(wanted, found):
                return check
            differences = _differences(*_comparable(file.layout, wanted, found))
    result: Literal["different", "equal"] = "different" if differences else "equal"
    return replace(check, result=result, differences=tuple(differences))


def _is_there(layout: Layout, path: Path) -> bool:
    if not layout.is_folder:
        return path.exists()
    return read_folder(path) is not None


@contextmanager
def _original(layout: Layout, path: Path) -> Iterator[Text]:
    """Open the text of a file; of a folder, its files as one JSON object."""
    if layout.is_folder:
        yield read_folder(path) or b""
        return
    with _mapped(path) as text:
        yield text


def _comparable(layout: Layout, *texts: Text) -> Iterator[Text]:
    """Yield each text as one JSON text: of other formats, as the layout reads it."""
    for text in texts:
        yield text if layout.is_one_text else layout.as_json(bytes(text))


def _scratch_file() -> IO[bytes]:
    return tempfile.TemporaryFile(buffering=_BUFFER, prefix="pend-render-")


def _identical(left: Text, right: Text) -> bool:
    blocks = range(0, len(left), _BUFFER)
    return len(left) == len(right) and all(
        left[start : start + _BUFFER] == right[start : start + _BUFFER]
        for start in blocks
    )


def _differences(original: Text, rendered: Text) -> list[FileDifference]:
    with closing(unequal(original, rendered)) as found:
        return [
            FileDifference(
                path=bounded_path(item.path), original=item.left, rendered=item.right
            )
            for item in islice(found, _DIFFERENCES)
        ]


@contextmanager
def _mapped(path: Path) -> Iterator[Text]:
    try:
        with LinkedFile(path) as file:
            stream = os.fdopen(file.open(), "rb")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}. Correct its permissions."
        ) from error
    with stream, _view(stream) as text:
        yield text


@contextmanager
def _view(stream: IO[bytes]) -> Iterator[Text]:
    """Map the bytes of a file into memory: the system loads them when they are read."""
    stream.flush()
    size = os.fstat(stream.fileno()).st_size
    if size == 0:
        yield b""
        return
    with mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ) as view:
        yield view
