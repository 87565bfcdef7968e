"""Recognition of an edit that writes back an older copy of the file.

The evidence is what the file showed before (:class:`~pend_storage.stores.json._legacy_sync.text_history.TextHistory`).
An edit may come from a copy that was loaded at an earlier version of the file only if of
all that the store has written since it shows nothing: each such record says what that
version said, or something that only the editor knows. One record that is as the store
wrote it later proves the contrary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from pend_storage.stores.json._legacy_sync.text_history import ABSENT, TextHistory

__all__ = ["EditedText", "OlderCopy", "older_copy"]


@dataclass(frozen=True, slots=True)
class EditedText:
    """What an edit says of one record."""

    digest: str
    is_change: bool
    """It is not what the file showed just before."""


@dataclass(frozen=True, slots=True)
class OlderCopy:
    """The version of the file from which an edit may come."""

    version: int
    stale: frozenset[str]
    """Tokens of records of which it says what that version said, and no later one."""
    committed: frozenset[str]
    """Those of them that are as the store has written them, and no editor."""
    overwritten: frozenset[str]
    """Records that were written since, and by the editor too."""
    is_doubtful: bool
    """A record that was deleted since is missing; the editor may have deleted it, too."""


def older_copy(shown: TextHistory, said: Mapping[str, EditedText]) -> OlderCopy | None:
    """Find the version from which an edit comes if it comes from an older one.

    None where it shows that the editor knew the newest, or nothing that the store wrote
    is older in it. Of several versions it is the one by which most of that is stale; the
    earliest of those, so that what the editor may not have seen is kept.

    Args:
        shown: what the file showed.
        said: what the edit says of each record in it.
    """
    best: OlderCopy | None = None
    then: dict[str, str] = {}
    """What each record said at the version that is looked at."""
    newer: set[str] = set()
    missing: set[str] = set()
    stale: set[str] = set()
    states = sorted(shown.states, key=lambda state: -state.until)
    for version, group in groupby(states, key=lambda state: state.until):
        if version < shown.floor:
            break
        for state in group:
            then[state.token] = state.digest
            one = said[state.token]
            is_same = one.digest == state.digest
            _set(stale, state.token, member=is_same and one.is_change)
            is_newer = not is_same and not one.is_change
            is_there = one.digest != ABSENT
            _set(newer, state.token, member=is_newer and is_there)
            _set(missing, state.token, member=is_newer and not is_there)
        committed = stale - shown.edited
        if newer or not committed:
            continue
        changed = {token for token in then if said[token].is_change}
        copy = OlderCopy(
            version,
            frozenset(stale),
            frozenset(committed),
            frozenset(changed - stale),
            bool(missing),
        )
        if best is None or _rank(best) <= _rank(copy):
            best = copy
    return best


def _rank(copy: OlderCopy) -> tuple[bool, int, int]:
    return not copy.is_doubtful, len(copy.committed), len(copy.stale)


def _set(tokens: set[str], token: str, *, member: bool) -> None:
    if member:
        tokens.add(token)
    else:
        tokens.discard(token)
