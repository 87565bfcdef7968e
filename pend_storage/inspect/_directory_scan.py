"""Looking at all JSON files of a directory. Nothing is written, and nothing is changed."""

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
from pend_storage.inspect._file_scan import Looked, look
from pend_storage.inspect._key_inference import references
from pend_storage.inspect._model import DirectoryReport, Shape
from pend_storage.inspect._record_folders import folder_name, gathered, record_folders

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
    """Look at the JSON files of a directory, and below.

    Args:
        directory: it is only read.
        patterns: which files; if empty, all that are called as JSON files are.
        shapes: file to shape, where a guess is not wanted; a folder of records is called
            ``folder/*.json``.
        keys: file to the fields that identify its records.
        progress: called with the bytes looked at, and all.

    Raises:
        ConfigError: there is no such directory, or no such file in it.
    """
    started = time.monotonic()
    if not directory.is_dir():
        what = "is not a directory" if directory.exists() else "does not exist"
        raise ConfigError(f"{directory} {what}. Correct the path.")
    found, hazards = find_files(directory, patterns)
    _require_known({*shapes, *keys}, found)
    looked = _look_at(found, shapes, keys, progress)
    every = _with_folders(looked, shapes)
    keyed = [part for seen in every for part in seen.keyed]
    return DirectoryReport(
        directory=str(directory),
        files=tuple(seen.report for seen in every),
        references=references(keyed),
        hazards=tuple(hazards),
        seconds=time.monotonic() - started,
    )


def _look_at(
    found: Sequence[Found],
    shapes: Mapping[str, Shape],
    keys: Mapping[str, tuple[str, ...]],
    progress: Progress | None,
) -> list[tuple[Found, Looked]]:
    total, done = sum(file.size for file in found), 0
    looked = []
    for file in found:
        said = shapes.get(file.name, shapes.get(folder_name(file.name)))
        shape = None if said is Shape.FILES else said
        seen = look(file, shape=shape, key=keys.get(file.name, ()))
        looked.append((file, seen))
        done += file.size
        if progress is not None:
            progress(done, total)
    return looked


def _with_folders(
    looked: list[tuple[Found, Looked]], shapes: Mapping[str, Shape]
) -> list[Looked]:
    """Folders of records become one report each, in the place of their files."""
    free = [pair for pair in looked if pair[0].name not in shapes]
    taken: set[str] = set()
    every: list[Looked] = []
    for folder, (sure, files) in record_folders(free).items():
        name = folder_name(f"{folder}/-".removeprefix("./"))
        said = shapes.get(name)
        if said is None or said is Shape.FILES:
            every.append(gathered(1.0 if said else sure, files))
            taken.update(file.name for file, _ in files)
    every.extend(seen for file, seen in looked if file.name not in taken)
    return sorted(every, key=lambda seen: seen.report.file)


def _require_known(names: set[str], found: Sequence[Found]) -> None:
    known = {file.name for file in found}
    wrong = sorted(names - known - {folder_name(name) for name in known})
    if wrong:
        raise ConfigError(
            f"--set, --key: there is no file {listed(wrong)} in the directory. The files "
            f"are: {listed(sorted(known))}"
        )
