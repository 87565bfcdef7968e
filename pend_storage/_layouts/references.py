"""References and facts: what records say of other records, and how both are merged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pend_storage.schema import CollectionSpec

__all__ = ["absorbed", "anchored", "merged_fact"]


def anchored(
    spec: CollectionSpec, record: Any, leads: Callable[[str, str], bool]
) -> Any:
    """The record with null for every reference that leads nowhere.

    None where a reference that may not be null leads nowhere. What it referred to is
    told by another field, such as the hash from which the key of a user is made.
    """
    lost = {
        name: None
        for name, target in spec.references.items()
        if (value := getattr(record, name)) is not None and not leads(target, value)
    }
    if not all(spec.fields[name].optional for name in lost):
        return None
    return replace(record, **lost) if lost else record


def absorbed(spec: CollectionSpec, present: Any, told: Any) -> Any:
    """A record that is there, with what another source tells of the same thing.

    What the other source leaves at its default it does not tell; objects are united.
    """
    if told is None:
        return None
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(told):
        value, old = getattr(told, field.name), getattr(present, field.name)
        if value == spec.fields[field.name].default:
            continue
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            value = {**old, **value}
        changes[field.name] = value
    return replace(present, **changes)


def merged_fact(
    spec: CollectionSpec,
    present: Any,
    told: Any,
    leads: Callable[[str, str], bool],
) -> Any:
    """A record after another source has told of the same thing; None where it cannot.

    Args:
        spec: of the collection.
        present: the record that is there; None: there is none.
        told: what the other source tells, as a record.
        leads: whether a reference leads somewhere.
    """
    fact = anchored(spec, told, leads)
    return fact if present is None else absorbed(spec, present, fact)
