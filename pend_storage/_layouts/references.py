"""References and derived facts between records: resolving and merging them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pend_storage.schema import CollectionSpec

__all__ = ["absorbed", "anchored", "merged_fact"]


def anchored(
    spec: CollectionSpec, record: Any, exists: Callable[[str, str], bool]
) -> Any:
    """Null the dangling references of a record.

    The target is not lost: another field keeps it, such as the hash from which the key of
    a user is made.

    Args:
        spec: of the collection.
        record: with references that may dangle.
        exists: returns whether a collection has a key.

    Returns:
        The record; None where a reference that may not be null dangles.
    """
    lost = {
        name: None
        for name, target in spec.references.items()
        if (value := getattr(record, name)) is not None and not exists(target, value)
    }
    # The caller quarantines it, instead of storing a record without its target.
    if not all(spec.fields[name].optional for name in lost):
        return None
    return replace(record, **lost) if lost else record


def absorbed(spec: CollectionSpec, present: Any, fact: Any) -> Any:
    """Merge a derived fact into an existing record; objects are united."""
    if fact is None:
        return None
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(fact):
        value, old = getattr(fact, field.name), getattr(present, field.name)
        # A default says nothing: the source does not know this field.
        if value == spec.fields[field.name].default:
            continue
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            value = {**old, **value}
        changes[field.name] = value
    return replace(present, **changes)


def merged_fact(
    spec: CollectionSpec,
    present: Any,
    fact: Any,
    exists: Callable[[str, str], bool],
) -> Any:
    """Merge a derived fact into the record that it is about, or make the record of it.

    Args:
        spec: of the collection.
        present: the existing record, or None.
        fact: the derived record.
        exists: returns whether a collection has a key.

    Returns:
        The record; None where a reference of the fact dangles that may not be null.
    """
    anchor = anchored(spec, fact, exists)
    return anchor if present is None else absorbed(spec, present, anchor)
