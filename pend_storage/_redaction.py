"""Redaction: what messages may show of records with personal fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pend_storage._model.diff import Difference
from pend_storage._shown import outline, shortened, shown
from pend_storage.schema import CollectionSpec, Schema

__all__ = ["record_label", "record_name", "redacted", "shown_values"]


def record_label(spec: CollectionSpec, key: str) -> str:
    """Name a record in an event by collection and key; of a personal key, the beginning.

    An event is logged, and logs are kept by other systems for other times. The command that
    lists what the event is about shows the key whole.
    """
    is_personal = spec.fields[spec.key].personal
    return f"{spec.name}[{shortened(key) if is_personal else shown(key)}]"


def record_name(spec: CollectionSpec, name: str) -> str:
    """Name a record in an event as its file does; by the beginning where keys are personal.

    Args:
        spec: its collection.
        name: its member name in quotes, or another description.
    """
    if not spec.fields[spec.key].personal or name[:1] not in {"'", '"'}:
        return name
    return shortened(name[1:-1])


def redacted(spec: CollectionSpec, found: Difference) -> Difference:
    """Return a difference as it may be shown: without the values of a personal field."""
    name = found.path[0] if found.path else None
    field = spec.fields.get(name) if isinstance(name, str) else None
    return found.hidden() if field is not None and field.personal else found


_IMAGES: Final = ("before", "after")


def shown_values(
    schema: Schema, collection: str | None, key: str | None, values: Mapping[str, Any]
) -> tuple[str | None, dict[str, Any]]:
    """Return key and values of an audit entry without what is in personal fields.

    Args:
        schema: of the store.
        collection: of the record; None for an operation, whose details have none.
        key: of the record.
        values: of the entry: ``before``, ``after`` and ``diff``.
    """
    if collection is None:
        return key, dict(values)
    if (
        collection not in schema.names
    ):  # of a former schema: what is personal is not known
        return None if key is None else shortened(key), {
            name: outline(value) for name, value in values.items()
        }
    spec = schema[collection]
    hidden = {name for name, field in spec.fields.items() if field.personal}
    known = spec.fields.keys() - hidden
    found = dict(values)
    for name in _IMAGES:
        image = found.get(name)
        if isinstance(image, Mapping) and "cut" not in image:
            found[name] = {n: v if n in known else outline(v) for n, v in image.items()}
    if "diff" in found:
        found["diff"] = [_shown_change(change, known) for change in found["diff"]]
    if key is not None and spec.key in hidden:
        key = shortened(key)
    return key, found


def _shown_change(change: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    if change["path"][:1] and change["path"][0] in known:
        return dict(change)
    return {
        name: value if name == "path" else outline(value)
        for name, value in change.items()
    }
