"""Overruled members: values beside the records that commits set and an edit replaced."""

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
    """Return the committed values of members that an edit overrules.

    Args:
        base: common ancestor; None: not known, so that every member may be overruled.
        present: the stored envelope, with the commits.
        edited: the envelope of the edited file, which wins.
        wrapper: name of the member with the records.
    """
    committed = _members(present)
    base_members, new = {} if base is None else _members(base), _members(edited)
    return {
        name: value
        for name, value in committed.items()
        if name != wrapper
        and not equal(value, new.get(name, ABSENT))
        and not equal(value, base_members.get(name, ABSENT))
        # A member that the edit left unchanged is not overruled: the commit's value stays.
        and (not new or base is None or not _same(base_members, new, name))
    }


def _same(left: dict[str, Any], right: dict[str, Any], name: str) -> bool:
    return equal(left.get(name, ABSENT), right.get(name, ABSENT))


def _members(envelope: FileEnvelope) -> dict[str, Any]:
    """Parse the members of an envelope; empty where they cannot be read."""
    if envelope.shape not in WRAPPERS:
        return {}
    try:
        return envelope.members()
    except UnreadableError:
        return {}
