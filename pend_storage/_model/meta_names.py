"""Names of meta entries that more than one package reads: each is a promise on disk."""

from __future__ import annotations

from typing import Final

__all__ = [
    "BACKFILL_META",
    "NUMBERS_PER_TRANSACTION",
    "OFFSET_META",
    "POSITION_META",
    "TAINTED_META",
]

POSITION_META: Final = "mark"
"""Meta of a follower: the position up to which it has applied the log of its primary."""
BACKFILL_META: Final = "backfill"
"""Meta of a follower: how far a backfill has come, with the members ``source`` (identity),
``head`` (of the source, when it began) and ``complete``."""
TAINTED_META: Final = "spoiled"
"""Meta of a store that holds what its primary does not know of: the other one was promoted
by force, or it came with records in the place of another one. It must be emptied before it
follows."""
OFFSET_META: Final = "postgres.numbering"
"""Meta of a PostgreSQL store: offset added to transaction ids; absent: 0."""
NUMBERS_PER_TRANSACTION: Final = 1024
"""Sequence numbers of one transaction of PostgreSQL: more than the largest group of commits."""
