"""Which files a store of a directory has, and where they are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pend_storage.layout import Layout
from pend_storage.schema import SYSTEM_NAMES, Schema
from pend_storage.stores.json.home import OWN_DIRECTORY
from pend_storage.stores.json.plain import PlainLayout
from pend_storage.stores.json.swap import Place
from pend_storage.stores.json.views import view_path

__all__ = ["Wiring", "wired"]


@dataclass(frozen=True)
class Wiring:
    """A directory, its layouts, and the path of each layout's file."""

    directory: Path
    layouts: tuple[Layout, ...]
    paths: dict[str, Path]

    @property
    def own(self) -> Path:
        """The store's own directory."""
        return self.directory / OWN_DIRECTORY

    def places(self) -> dict[str, Place]:
        """Each file, with the view of it."""
        return {n: Place(p, view_path(self.own, n)) for n, p in self.paths.items()}


def wired(
    schema: Schema,
    directory: str | os.PathLike[str],
    layouts: Sequence[Layout],
    files: Mapping[str, str | os.PathLike[str]] | None,
) -> Wiring:
    """Give a layout to each collection that has none, and a path to each file."""
    home = Path(directory).absolute()
    given = {name: Path(path).absolute() for name, path in (files or {}).items()}
    every = (*layouts, *_plain_layouts(schema, layouts))
    return Wiring(
        home, every, {x.file: given.get(x.file, home / x.file) for x in every}
    )


def _plain_layouts(schema: Schema, layouts: Sequence[Layout]) -> Iterator[Layout]:
    have = {layout.collection for layout in layouts} | SYSTEM_NAMES
    taken = {layout.file for layout in layouts}
    for spec in schema:
        if spec.name not in have:
            file = f"{spec.name}.json"
            yield PlainLayout(spec, f"{spec.name}.rows.json" if file in taken else file)
