"""Redaction: what messages may show of records with personal fields."""

from __future__ import annotations

from pend_storage._model.diff import Difference
from pend_storage._shown import shortened, shown
from pend_storage.schema import CollectionSpec

__all__ = ["record_label", "record_name", "redacted"]


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
