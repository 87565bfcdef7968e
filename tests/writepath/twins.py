"""Two directories: one is written through views, the other by plain json."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pend_storage.events import Event
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.records import QuarantinedRecord
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from tests.ages import age

__all__ = ["Twins", "quiet", "rows", "twins"]

_PLACES = frozenset(
    {"id", "legacy_position", "content_hash", "occurrence", "position", "seen_at"}
)
"""What follows from where a record stands, or from when it was written."""


class Twins:
    """The two stores, and what plain json makes of the same operations."""

    def __init__(self, home: Path, files: dict[str, Any]) -> None:
        self.plain: dict[str, Any] = json.loads(json.dumps(files))
        self.views, self.edits = home / "views", home / "edits"
        for directory in (self.views, self.edits):
            for file in files:
                self._save(directory, file)
        self.by_view = _opened(self.views)
        self.by_edit = _opened(self.edits)

    def _save(self, directory: Path, file: str, *, indent: int = 2) -> None:
        path = directory / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.plain[file], indent=indent))
        age(path)

    def do(self, file: str, change: Callable[[Any], Any]) -> None:
        """Change a file in all three ways."""
        given = [_outcome(change, self.plain[file])]
        given.append(_outcome(change, self.by_view.legacy(file)))
        assert given[0] == given[1]
        self._save(self.edits, file)
        self.by_edit.checkpoint()

    def close(self) -> None:
        self.by_view.close()
        self.by_edit.close()

    def reopen(self) -> None:
        """Close both, and open them again."""
        self.close()
        self.by_view, self.by_edit = _opened(self.views), _opened(self.edits)

    def check(self) -> None:
        """Files and rows must be the same, and the files what plain json has made."""
        self.by_view.checkpoint()
        self.by_edit.checkpoint()
        for file, value in self.plain.items():
            expected = json.dumps(value)
            for directory in (self.views, self.edits):
                text = (directory / file).read_text()
                assert json.dumps(json.loads(text)) == expected, (file, directory.name)
            snapshot = self.by_view.legacy(file).snapshot()
            assert json.dumps(snapshot) == expected, file
        if rows(self.by_view) != rows(self.by_edit):
            # A reference to what came later is followed when its file is read whole.
            for directory in (self.views, self.edits):
                for file in self.plain:
                    self._save(directory, file, indent=3)
            self.by_view.checkpoint()
            self.by_edit.checkpoint()
        assert rows(self.by_view) == rows(self.by_edit)


def _opened(directory: Path) -> JsonStore:
    return JsonStore(
        SCHEMA,
        directory,
        layouts=LAYOUTS,
        checkpoint_interval=None,
        hook=quiet,
    )


def quiet(event: Event) -> None:
    """A hook that says nothing."""


def _outcome(change: Callable[[Any], Any], target: Any) -> Any:
    """Result of an operation, or the error that it raises."""
    try:
        found = change(target)
    except (KeyError, IndexError, ValueError) as error:
        return type(error)
    return json.loads(json.dumps(found, default=lambda view: view.snapshot()))


def rows(store: Store) -> dict[str, list[str]]:
    """The records of each collection, apart from where they stand."""
    found = {}
    for spec in SCHEMA:
        if spec.name in {"legacy_files", "findings"}:
            continue
        shown = (_shown(row.record) for row in store.scan(spec.name))
        found[spec.name] = sorted(text for text in shown if text)
    return found


def _shown(record: Any) -> str:
    if isinstance(record, QuarantinedRecord):
        if record.code == "kept":
            return ""  # by the id of the text that stands instead
        return f"{record.file} {json.loads(_value(record.raw))} {record.code}"
    fields = dataclasses.asdict(record)
    told = {name: v for name, v in fields.items() if name not in _PLACES}
    return json.dumps(told, sort_keys=True, default=str)


def _value(raw: bytes) -> str:
    return f"{{{raw.decode()}}}" if raw[:1] == b'"' and b": " in raw else raw.decode()


@contextmanager
def twins(**files: Any) -> Iterator[Twins]:
    """Twins in a directory of their own.

    Args:
        files: what is in them, by name.
    """
    with TemporaryDirectory() as home:
        made = Twins(Path(home), files)
        try:
            yield made
        finally:
            made.close()
