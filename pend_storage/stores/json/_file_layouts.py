"""File layouts: the layout and the path of each legacy file of one directory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pend_storage._layouts.layout import Layout, one_each
from pend_storage._shown import did_you_mean, shown
from pend_storage.errors import ConfigError
from pend_storage.schema import SYSTEM_NAMES, Schema
from pend_storage.stores.json._legacy_sync.one_record_per_line.layout import (
    RecordPerLineLayout,
)
from pend_storage.stores.json._legacy_sync.synced_file import SyncedFile
from pend_storage.stores.json._legacy_sync.synced_folder import synced_file_for
from pend_storage.stores.json._store_directory import OWN_DIRECTORY

__all__ = ["FileLayouts", "resolve_layouts"]


@dataclass(frozen=True)
class FileLayouts:
    """Directory of a store, its layouts, and the path of each layout's file."""

    directory: Path
    layouts: tuple[Layout, ...]
    paths: dict[str, Path]
    elsewhere: tuple[Path, ...] = ()
    """Paths of the files that the caller has placed by name."""

    @property
    def places(self) -> tuple[Path, ...]:
        """The directory, and the files that the caller has placed elsewhere."""
        return (self.directory, *self.elsewhere)

    @property
    def own(self) -> Path:
        """The store's own directory, ``.pend-storage``."""
        return self.directory / OWN_DIRECTORY

    def synced_files(self) -> dict[str, SyncedFile]:
        """Return the synchronised file, with its manifest, of each layout."""
        paths = self.paths
        return {
            x.file: synced_file_for(x, paths[x.file], self.own) for x in self.layouts
        }


def resolve_layouts(
    schema: Schema,
    directory: str | os.PathLike[str],
    layouts: Sequence[Layout],
    files: Mapping[str, str | os.PathLike[str]] | None,
) -> FileLayouts:
    """Resolve the layout of each collection, and the path of each file.

    A collection without a layout gets a :class:`RecordPerLineLayout`.

    Args:
        schema: the collections.
        directory: of the legacy files.
        layouts: as given to the store.
        files: paths of files that are not below the directory.

    Raises:
        ConfigError: some layouts claim one file and cannot share it, or need a collection
            that the schema does not have; or a path is given for an unknown file.
    """
    home = Path(directory).absolute()
    given = {name: Path(path).absolute() for name, path in (files or {}).items()}
    layouts = one_each(layouts)
    for layout in layouts:
        layout.require(schema)
    every = (*layouts, *_plain_layouts(schema, layouts))
    _require_known({*given}, [x.source for x in every])
    paths = {x.file: given.get(x.source, home / x.source) for x in every}
    return FileLayouts(home, every, paths, tuple(given.values()))


def _require_known(given: set[str], known: Sequence[str]) -> None:
    """Refuse the path of a file that no layout has: it would never be read."""
    for name in sorted(given - {*known}):
        raise ConfigError(
            f"files: no layout has a file {shown(name)}{did_you_mean(name, known)} "
            "Correct the name, or declare the file in the schema module."
        )


def _plain_layouts(schema: Schema, layouts: Sequence[Layout]) -> Iterator[Layout]:
    have = {layout.collection for layout in layouts} | SYSTEM_NAMES
    taken = {layout.file for layout in layouts}
    for spec in schema:
        if spec.name not in have:
            file = f"{spec.name}.json"
            # A declared layout has the usual name: this collection takes another.
            yield RecordPerLineLayout(
                spec, f"{spec.name}.rows.json" if file in taken else file
            )
