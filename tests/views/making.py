"""Views of any shape over any store, made from the plain data that they are to show."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from pend_storage._layouts.layout import Layout
from pend_storage.legacy import LIST, MAP, WRAPPED, RecordLayout
from pend_storage.pend import SCHEMA
from pend_storage.pend._files.documents import DocumentMapping
from pend_storage.schema import LEGACY_FILES
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore

__all__ = [
    "LAYOUTS",
    "LIST_FILE",
    "LOG_FILE",
    "MAP_FILE",
    "WRAPPED_FILE",
    "fill",
    "memory",
]

MAP_FILE = "map.json"
LIST_FILE = "list.json"
LOG_FILE = "log.json"
WRAPPED_FILE = "wrapped.json"


def _layout(file: str, shape: str, **more: Any) -> RecordLayout:
    return RecordLayout(
        file, DocumentMapping(file), shapes=(shape,), blank_is_empty=True, **more
    )


LAYOUTS: tuple[Layout, ...] = (
    _layout(MAP_FILE, MAP),
    _layout(LIST_FILE, LIST),
    _layout(LOG_FILE, LIST, newest_first=True),
    _layout(WRAPPED_FILE, WRAPPED, wrapper="items"),
)
"""One file of each shape, of any JSON."""


def memory(layouts: Iterable[Layout] = LAYOUTS) -> MemoryStore:
    return MemoryStore(SCHEMA, layouts=tuple(layouts))


def fill(store: Store, file: str, value: Any) -> None:
    """Have a store adopt a file of this content."""
    (layout,) = (x for x in store.layouts if x.file == file)
    parsed = layout.parse(SCHEMA, json.dumps(value, indent=2).encode())

    def find(collection: str, key: str) -> Any:
        row = store.read(collection, (key,)).get(key)
        return None if row is None else row.record

    operations = list(layout.adopt(SCHEMA, parsed, (), find))
    header = SCHEMA.put(LEGACY_FILES, parsed.header)
    store.commit(SCHEMA.batch([*operations, header]))
