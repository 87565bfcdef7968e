"""Stale copies: recognises an edit that writes back an older copy of the file.

The evidence is what the file showed before (:class:`~pend_storage.stores.json._legacy_sync.text_history.TextHistory`).
An edit may come from a copy of an earlier version of the file only if it shows nothing of
what the store has written since: each such record has the text of that version, or a text
that only the editor knows. One record as the store wrote it later proves the contrary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from pend_storage.stores.json._legacy_sync.text_history import ABSENT, TextHistory

__all__ = ["EditedText", "OlderCopy", "older_copy"]


@dataclass(frozen=True, slots=True)
class EditedText:
    """Text of one record in an edited file."""

    digest: str
    is_change: bool
    """It differs from what the file showed just before."""


@dataclass(frozen=True, slots=True)
class OlderCopy:
    """Candidate: a version of the file from which an edit may come."""

    version: int
    stale: frozenset[str]
    """Tokens of records whose text is that of this version, and of no later one."""
    committed: frozenset[str]
    """Those of them that the store has written since, rather than an editor."""
    overwritten: frozenset[str]
    """Tokens of records that were written since by the store, and changed by the editor."""
    is_doubtful: bool
    """A record that the store deleted since is missing; the editor may have deleted it."""


def older_copy(shown: TextHistory, said: Mapping[str, EditedText]) -> OlderCopy | None:
    """Find the older version of the file from which an edit comes.

    Of several candidates, the one by which most records are stale; of those the earliest,
    so that every commit is protected that the editor may not have seen.

    Args:
        shown: history of the file.
        said: text of each record in the edit, by token.

    Returns:
        None if the edit shows that the editor knew the newest version, or if nothing in it
        is older than what the store wrote.
    """
    best: OlderCopy | None = None
    then: dict[str, str] = {}
    """Digest of each record at the version under test, by token."""
    newer: set[str] = set()
    missing: set[str] = set()
    stale: set[str] = set()
    states = sorted(shown.states, key=lambda state: -state.until)
    for version, group in groupby(states, key=lambda state: state.until):
        if version < shown.floor:  # the history before is incomplete: it proves nothing
            break
        for state in group:
            then[state.token] = state.digest
            one = said[state.token]
            is_same = one.digest == state.digest
            # A text that the file showed just before, too, proves nothing.
            _set(stale, state.token, member=is_same and one.is_change)
            is_newer = not is_same and not one.is_change
            is_there = one.digest != ABSENT
            _set(newer, state.token, member=is_newer and is_there)
            _set(missing, state.token, member=is_newer and not is_there)
        committed = stale - shown.edited
        # One newer text proves that the editor had loaded a later version.
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
