"""Three-way merge of one record: each side keeps what only it has changed. No I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Mapping
from typing import Any

from pend_storage._model.diff import ABSENT, equal

__all__ = ["merge"]


def merge(
    base: Any, committed: Any, edited: Any, computed: Container[str] = ()
) -> tuple[Any, list[str]]:
    """Merge the changes of a commit and of an edit.

    Fields, and members of JSON objects in them, are compared one by one; a list counts
    as a whole.

    Args:
        base: common ancestor of both sides.
        committed: the record after the commit.
        edited: the record as edited; it wins where both changed the same.
        computed: fields that are taken from the edit, because no program sets them.

    Returns:
        The merged record, and the names of fields in which a committed value is lost.
    """
    values, lost = {}, []
    for field in dataclasses.fields(base):
        sides = (getattr(record, field.name) for record in (base, committed, edited))
        values[field.name], is_lost = _value(*sides)
        if is_lost and field.name not in computed:
            lost.append(field.name)
    return dataclasses.replace(committed, **values), lost


def _value(base: Any, committed: Any, edited: Any) -> tuple[Any, bool]:
    if equal(base, edited):
        return committed, False
    if equal(base, committed) or equal(committed, edited):
        return edited, False
    if not all(isinstance(side, Mapping) for side in (base, committed, edited)):
        return edited, True
    members, is_lost = {}, False
    for name in {**edited, **committed}:
        sides = (side.get(name, ABSENT) for side in (base, committed, edited))
        value, one = _value(*sides)
        # What the commit deleted, and the edit changed, takes nothing from it.
        is_lost = is_lost or (one and committed.get(name, ABSENT) is not ABSENT)
        if value is not ABSENT:
            members[name] = value
    return members, is_lost
