"""Text history: what a legacy file showed before the store changed it, to know a stale copy.

Old code that loaded a file, and writes the whole of it back some time later, undoes what
the store has written into the file meanwhile. What it says of those records is what the
file showed before. So of each record that the store writes anew the digests of its
earlier texts are kept, with the version of the file that showed them last.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping
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
"""In place of a digest: the record was not in the file."""
UNCLEAR: Final = "?"
"""In place of a digest: the record was there, but its text is not known."""
MOST_AT_ONCE: Final = 1_000
"""Records written at once of which earlier texts are kept; where a write changes more,
everything before it is forgotten."""
_MOST: Final = 2_000
"""Earlier texts that are kept of one file."""
_OF_ONE: Final = 8
"""Earlier texts that are kept of one record."""
_LARGEST: Final = 1 << 20
"""Bytes of a text that is worth a digest."""


class EarlierText(NamedTuple):
    """What a file said of a record, up to a version of the file."""

    token: str
    digest: str
    until: int
    """The last version that said so."""


@dataclass(frozen=True, slots=True)
class TextHistory:
    """What a file showed, in the order in which it was changed."""

    version: int = 0
    """Of the file; counts how often it was written, or an edit of it adopted."""
    floor: int = 0
    """What the versions before it showed is forgotten."""
    states: tuple[EarlierText, ...] = ()
    edited: frozenset[str] = frozenset()
    """Records that are as an editor has written them: he may set them back."""
    unlike: Mapping[str, str] = field(default_factory=dict)
    """Records that the file shows otherwise than the store has them, since an edit: the
    digest of what it says. The store writes them anew with the next version."""

    def written(self, before: Mapping[str, str]) -> TextHistory:
        """The next version, which the store has written.

        Args:
            before: the records that it shows otherwise; the digests of what the present
                version says of them.
        """
        return self._next(before, self.edited - before.keys(), {})

    def adopted(
        self,
        before: Mapping[str, str],
        edited: Collection[str],
        unlike: Mapping[str, str],
    ) -> TextHistory:
        """The next version, which another program has written.

        Args:
            before: the records that it shows otherwise, as for :meth:`written`.
            edited: those of them that are in the store as he has written them.
            unlike: see there.
        """
        return self._next(before, self.edited | frozenset(edited), unlike)

    def _next(
        self,
        before: Mapping[str, str],
        edited: frozenset[str],
        unlike: Mapping[str, str],
    ) -> TextHistory:
        version = self.version + 1
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
            floor = kept[len(kept) - _MOST - 1].until + 1
            kept = [state for state in kept if state.until >= floor]
        known = edited & {state.token for state in kept}
        return TextHistory(version, floor, tuple(kept), known, unlike)


def digest_of_text(text: bytes) -> str:
    """Return a digest of the text of a record, however it is laid out."""
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
