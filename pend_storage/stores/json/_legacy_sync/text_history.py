"""Text history: digests of earlier texts of a legacy file, to recognise a stale copy.

Old code that loaded a file, and writes the whole of it back some time later, undoes what
the store has written into the file meanwhile: of those records it writes what the file
showed before. So for each record that the store rewrites, the digests of its earlier texts
are retained, with the version of the file that showed them last.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final, NamedTuple

__all__ = [
    "ABSENT",
    "MOST_AT_ONCE",
    "UNCLEAR",
    "EarlierText",
    "TextHistory",
    "digest_of_text",
]

ABSENT: Final = ""
"""Digest of a record that was not in the file."""
UNCLEAR: Final = "?"
"""Digest of a record that was in the file, with an unknown text."""
MOST_AT_ONCE: Final = 1_000
"""Records in one write of which earlier texts are retained; a larger write clears the
history."""
_MOST: Final = 2_000
"""Earlier texts that are retained of one file."""
_OF_ONE: Final = 8
"""Earlier texts that are retained of one record."""
_LARGEST: Final = 1 << 20
"""Bytes of the largest text that is digested."""


class EarlierText(NamedTuple):
    """Earlier text of a record, up to a version of the file."""

    token: str
    digest: str
    until: int
    """The last version that showed it."""


@dataclass(frozen=True, slots=True)
class TextHistory:
    """History of one file, in the order of its versions."""

    version: int = 0
    """Version of the file: number of writes and adopted edits."""
    floor: int = 0
    """First version of which the history is complete."""
    states: tuple[EarlierText, ...] = ()
    edited: frozenset[str] = frozenset()
    """Tokens of records that an editor has written: an editor may set them back."""
    unlike: Mapping[str, str] = field(default_factory=dict)
    """Token to digest of texts that differ from the store's since an edit. The store rewrites
    them with the next version."""

    def written(self, before: Mapping[str, str]) -> TextHistory:
        """Return the history with the next version, written by the store.

        Args:
            before: changed records, by token, with their digests in the present version.
        """
        return self._next(before, self.edited - before.keys(), {})

    def adopted(
        self,
        before: Mapping[str, str],
        edited: Collection[str],
        unlike: Mapping[str, str],
    ) -> TextHistory:
        """Return the history with the next version, written by another program.

        Args:
            before: changed records, as for :meth:`written`.
            edited: those of them that were adopted as they were edited.
            unlike: see the attribute.
        """
        return self._next(before, self.edited | frozenset(edited), unlike)

    def without(self, tokens: AbstractSet[str]) -> TextHistory:
        """Return the history without some records.

        A version that lacks records cannot be compared with an edit. So copies of before
        now are not recognised any more.
        """
        unlike = {t: d for t, d in self.unlike.items() if t not in tokens}
        return TextHistory(self.version, self.version, unlike=unlike)

    def names(self, tokens: AbstractSet[str]) -> bool:
        """Return True if it has an earlier text of one of these records."""
        known = {*(state.token for state in self.states), *self.edited, *self.unlike}
        return not tokens.isdisjoint(known)

    def _next(
        self,
        before: Mapping[str, str],
        edited: frozenset[str],
        unlike: Mapping[str, str],
    ) -> TextHistory:
        version = self.version + 1
        # Bounds memory: a stale copy of before this version is not recognised any more.
        if len(before) > MOST_AT_ONCE:
            return TextHistory(version, version, unlike=unlike)
        states = [
            *self.states,
            *(EarlierText(t, d, self.version) for t, d in before.items()),
        ]
        counts = Counter(state.token for state in states)
        kept: list[EarlierText] = []
        for state in states:
            if counts[state.token] > _OF_ONE:
                counts[state.token] -= 1
            else:
                kept.append(state)
        floor = self.floor
        if len(kept) > _MOST:
            # Whole versions: an incomplete one cannot be compared with an edit.
            floor = kept[len(kept) - _MOST - 1].until + 1
            kept = [state for state in kept if state.until >= floor]
        known = edited & {state.token for state in kept}
        return TextHistory(version, floor, tuple(kept), known, unlike)


def digest_of_text(text: bytes) -> str:
    """Return a digest of the text of a record, independent of its formatting."""
    if len(text) > _LARGEST:
        return UNCLEAR
    for opening, closing in (b"{}", b"[]"):
        try:
            value = json.loads(b"%c%b%c" % (opening, text, closing))
        except (ValueError, RecursionError):
            continue
        canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()
    return UNCLEAR
