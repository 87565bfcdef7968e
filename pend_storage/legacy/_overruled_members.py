"""Overruled members: those beside the records that an edit takes from a commit."""

from __future__ import annotations

from typing import Any

from pend_storage._model.diff import ABSENT, equal
from pend_storage._model.records import JSON
from pend_storage.legacy._exact_json import UnreadableError
from pend_storage.legacy._file_envelope import WRAPPERS, FileEnvelope

__all__ = ["overruled"]


def overruled(
    base: FileEnvelope | None, present: FileEnvelope, edited: FileEnvelope, wrapper: str
) -> dict[str, JSON]:
    """The members as commits had set them, where the edit says something else.

    Args:
        base: what both began with; None: not known, so that every member may be one.
        present: what the commits have made of it.
        edited: what counts.
        wrapper: name of the member with the records.
    """
    mine = _members(present)
    old, told = {} if base is None else _members(base), _members(edited)
    return {
        name: value
        for name, value in mine.items()
        if name != wrapper
        and not equal(value, told.get(name, ABSENT))
        and not equal(value, old.get(name, ABSENT))
        # What the edit has left alone it does not overrule: the commit stays.
        and (not told or base is None or not _same(old, told, name))
    }


def _same(left: dict[str, Any], right: dict[str, Any], name: str) -> bool:
    return equal(left.get(name, ABSENT), right.get(name, ABSENT))


def _members(envelope: FileEnvelope) -> dict[str, Any]:
    """None at all where they cannot be told apart."""
    if envelope.shape not in WRAPPERS:
        return {}
    try:
        return envelope.members()
    except UnreadableError:
        return {}
