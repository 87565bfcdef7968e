"""Directory scan: inspect all JSON files of a directory, which is only read."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pend_storage._shown import listed
from pend_storage.errors import ConfigError
from pend_storage.events import Progress
from pend_storage.inspect._directory_walk import Found, find_files
from pend_storage.inspect._file_scan import ScannedFile, scan_file
from pend_storage.inspect._key_inference import references
from pend_storage.inspect._model import DirectoryReport, Shape
from pend_storage.inspect._record_folders import folder_name, merged, record_folders

__all__ = ["inspect_directory"]

_NOTHING: Final[Mapping[str, Shape]] = MappingProxyType({})
_NO_KEYS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


def inspect_directory(
    directory: Path,
    *,
    patterns: Sequence[str] = (),
    shapes: Mapping[str, Shape] = _NOTHING,
    keys: Mapping[str, tuple[str, ...]] = _NO_KEYS,
    progress: Progress | None = None,
) -> DirectoryReport:
    """Inspect the JSON files of a directory and its folders.

    Args:
        directory: the directory; it is only read.
        patterns: patterns of names of files; if empty, the usual endings of JSON files.
        shapes: shapes that are not guessed, by file; a folder of records is called
            ``folder/*.json``.
        keys: fields that identify the records of a list, by file.
        progress: called with the bytes that were inspected, and all bytes.

    Raises:
        ConfigError: there is no such directory, or no such file in it.
    """
    started = time.monotonic()
    if not directory.is_dir():
        what = "is not a directory" if directory.exists() else "does not exist"
        raise ConfigError(f"{directory} {what}. Correct the path.")
    found, hazards = find_files(directory, patterns)
    _require_known({*shapes, *keys}, found)
    scanned = _scan_files(found, shapes, keys, progress)
    every = _with_folders(scanned, shapes)
    keyed = [part for file in every for part in file.keyed]
    return DirectoryReport(
        directory=str(directory),
        files=tuple(file.report for file in every),
        references=references(keyed),
        hazards=tuple(hazards),
        seconds=time.monotonic() - started,
    )


def _scan_files(
    found: Sequence[Found],
    shapes: Mapping[str, Shape],
    keys: Mapping[str, tuple[str, ...]],
    progress: Progress | None,
) -> list[tuple[Found, ScannedFile]]:
    total, done = sum(file.size for file in found), 0
    scanned = []
    for file in found:
        given = shapes.get(file.name, shapes.get(folder_name(file.name)))
        # FILES is the shape of a folder; of one file in it, it says nothing.
        shape = None if given is Shape.FILES else given
        result = scan_file(file, shape=shape, key=keys.get(file.name, ()))
        scanned.append((file, result))
        done += file.size
        if progress is not None:
            progress(done, total)
    return scanned


def _with_folders(
    scanned: list[tuple[Found, ScannedFile]], shapes: Mapping[str, Shape]
) -> list[ScannedFile]:
    """Merge the files of each folder of records into one report."""
    # A file with a given shape is no record of a folder.
    candidates = [pair for pair in scanned if pair[0].name not in shapes]
    merged_names: set[str] = set()
    every: list[ScannedFile] = []
    for folder, (confidence, files) in record_folders(candidates).items():
        name = folder_name(f"{folder}/-".removeprefix("./"))
        given = shapes.get(name)
        if given is None or given is Shape.FILES:
            every.append(merged(1.0 if given else confidence, files))
            merged_names.update(file.name for file, _ in files)
    every.extend(result for file, result in scanned if file.name not in merged_names)
    return sorted(every, key=lambda result: result.report.file)


def _require_known(names: set[str], found: Sequence[Found]) -> None:
    known = {file.name for file in found}
    wrong = sorted(names - known - {folder_name(name) for name in known})
    if wrong:
        raise ConfigError(
            f"--set, --key: there is no file {listed(wrong)} in the directory. The files "
            f"are: {listed(sorted(known))}"
        )
