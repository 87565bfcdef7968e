"""Preexisting files: detects one of another shape, under the name of a collection's file.

A collection without a layout has a file of the store's own shape. A file of that name which
another program has written in another shape would be quarantined as a whole; so opening
raises, and names the declaration that fits.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from pend_storage._files.by_path import read_linked
from pend_storage._layouts.layout import Layout
from pend_storage._shown import shown
from pend_storage.codec import dump_json
from pend_storage.errors import ConfigError, CorruptFile
from pend_storage.schema import CollectionSpec, Schema
from pend_storage.stores.json._legacy_sync.one_record_per_line.layout import (
    RecordPerLineLayout,
)
from pend_storage.stores.json._legacy_sync.synced_file import SyncedFile

__all__ = ["require_fitting"]

_SAMPLE: Final = 1_000
"""Number of members that are inspected."""


def require_fitting(
    schema: Schema, layouts: Iterable[Layout], files: Mapping[str, SyncedFile]
) -> None:
    """Require that files which the store has not read yet are of its own shape.

    Raises:
        ConfigError: one is JSON of another shape; the message declares it.
    """
    for layout in layouts:
        if not isinstance(layout, RecordPerLineLayout):
            continue
        file = files[layout.file]
        if file.manifest_stamp() is None:
            _require_fitting(schema, layout, file.path)


def _require_fitting(schema: Schema, layout: RecordPerLineLayout, path: Path) -> None:
    try:
        value = _read(read_linked(path))
    except (OSError, ConfigError, ValueError, RecursionError):
        return  # missing, of no use, or no JSON: the import handles them
    spec = schema[layout.collection]
    found = _other_shape(spec, value)
    if found is None:
        return
    what, how = found
    declared = f"ps.records({layout.file!r}, {spec.record_type.__qualname__}{how})"
    raise ConfigError(
        f"{path} is there already, and it is {what}: not the shape in which a store keeps "
        f"the collection {spec.name!r} by itself. Nothing was changed. Declare the file, "
        f"LAYOUTS = [{declared}] and SCHEMA = ps.schema_of(LAYOUTS), and give both to the "
        "store; or move it away if it has nothing to do with the collection."
    )


def _read(raw: bytes) -> Any:
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return json.loads(raw)


def _other_shape(spec: CollectionSpec, value: Any) -> tuple[str, str] | None:
    """Return the description and the declaration of a file; None if its shape fits."""
    if isinstance(value, list):
        count = f"a list of {len(value):,}" if value else "an empty list"
        return count, f", key={spec.key!r}"
    if not isinstance(value, dict):
        return "neither a list nor an object", ', shape=ps.SCALAR, value="..."'
    members = dict(itertools.islice(value.items(), _SAMPLE))
    fitting = [item for name, item in members.items() if _fits(spec, name, item)]
    if fitting:
        surplus = {name for item in fitting for name in item} - spec.fields.keys()
        if not surplus:
            return None
        names = ", ".join(shown(name) for name in sorted(surplus)[:3])
        what = f"an object with members that the record type does not have ({names})"
        return what, f", key={spec.key!r}, shape=ps.MAP"
    return _other_object(members) if members else None


def _other_object(members: Mapping[str, Any]) -> tuple[str, str]:
    if all(isinstance(item, dict) for item in members.values()) and len(members) > 1:
        return "an object of records under names that are their keys", _BY_NAME
    for name, item in members.items():
        inner = item.values() if isinstance(item, dict) else item
        if not isinstance(item, dict | list):
            continue
        if inner and all(isinstance(one, dict) for one in inner):
            what = f"an object around its records, in {shown(name)}"
            by_name = ", key=ps.MEMBER_NAME" if isinstance(item, dict) else ""
            return what, f", path={name!r}{by_name}"
    if all(isinstance(item, dict) for item in members.values()):
        return "an object of records under names that are their keys", _BY_NAME
    return "an object that is no record of the collection", ", shape=ps.OBJECT"


_BY_NAME: Final = ", key=ps.MEMBER_NAME"


def _fits(spec: CollectionSpec, name: str, item: Any) -> bool:
    if not isinstance(item, dict):
        return False
    try:
        return spec.key_of(spec.codec.decode(dump_json(item))) == name
    except (CorruptFile, ValueError):
        return False
