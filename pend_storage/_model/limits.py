"""Limits of input: how large, how deep and how many, the same for every store.

Every limit of what callers and legacy files may hand over is declared here once, and
checked before anything is sent or written. A limit is the smallest that some store has,
with headroom, or the size above which an answer would cost minutes. The reference page
``limits.md`` lists them for users.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "MAX_AUDIT_IMAGE_BYTES",
    "MAX_BITS",
    "MAX_COMMIT_BYTES",
    "MAX_CONDITIONS",
    "MAX_CONDITION_DEPTH",
    "MAX_DECIMAL_DIGITS_AFTER_POINT",
    "MAX_DECIMAL_DIGITS_BEFORE_POINT",
    "MAX_DEPTH",
    "MAX_DIGITS",
    "MAX_IN",
    "MAX_INDEXED_BYTES",
    "MAX_INDEXED_DIGITS",
    "MAX_ITEMS",
    "MAX_LIMIT",
    "MAX_MEMBERS",
    "MAX_OPERAND_BYTES",
    "MAX_ORDER_BY",
    "MAX_PATTERN_INPUT",
    "MAX_QUARANTINED",
    "MAX_RECORD_BYTES",
    "MAX_VALUE_BYTES",
    "MAX_VERSION",
]

# -- queries -------------------------------------------------------------------------

MAX_CONDITIONS: Final = 10_000
"""Comparisons of one query; each name of a path into a JSON value counts as one more.
PostgreSQL takes 65,535 parameters in one statement, and each of these needs one."""
MAX_CONDITION_DEPTH: Final = 100
"""Levels of ``&``, ``|`` and ``~`` inside of each other. Chains of one operator are one
level, and two negations are none. Python's stack ends at 1,000 calls, of which a caller
has used some, and each level takes two."""
MAX_IN: Final = 100_000
"""Values of one ``in_``. Memory compares each record with each of them."""
MAX_OPERAND_BYTES: Final = 1 << 26
"""Bytes of all texts, bytes and JSON values that a query compares with: a statement for
PostgreSQL holds them all, and the server may write them to its log."""
MAX_ORDER_BY: Final = 32
"""Fields to sort by: as many columns as an index can have."""
MAX_LIMIT: Final = (1 << 63) - 1
"""Records of a page: ``sys.maxsize``, PostgreSQL's largest ``bigint``. A call without a
limit gets all records."""

# -- values ---------------------------------------------------------------------------

MAX_DEPTH: Final = 200
"""Levels of a JSON value; msgspec and json both fail at some 1,000 levels."""
MAX_DIGITS: Final = 4_000
"""Digits of an integer; CPython converts no more than 4,300 to text."""
MAX_BITS: Final = 13_287
"""Bits of an integer of :data:`MAX_DIGITS` digits."""
# PostgreSQL's numeric: https://www.postgresql.org/docs/current/datatype-numeric.html
MAX_DECIMAL_DIGITS_BEFORE_POINT: Final = 131_072
MAX_DECIMAL_DIGITS_AFTER_POINT: Final = 16_383
MAX_INDEXED_BYTES: Final = 640
"""Bytes of a text or of bytes in a key or an index. A row of a PostgreSQL B-tree holds 2,704 bytes
(BTMaxItemSize of its source): three columns of this size and the key."""
MAX_INDEXED_DIGITS: Final = 1_000
"""Digits of a number in an index; PostgreSQL packs four digits into two bytes."""
MAX_PATTERN_INPUT: Final = 10_000
"""Characters of a text whose field declares a pattern and no ``max_length``. A pattern
may take time by the square of the length, and a longer text would hold up a server."""

# -- records and commits --------------------------------------------------------------

MAX_VALUE_BYTES: Final = (1 << 28) - 1
"""Bytes of one text or one member name in a JSON value, and of one JSON value, list or
object in the form of ``jsonb`` (``JENTRY_OFFLENMASK``)."""
MAX_ITEMS: Final = 1 << 24
"""Items of one list in a JSON value."""
MAX_MEMBERS: Final = 1 << 23
"""Members of one object in a JSON value."""
MAX_RECORD_BYTES: Final = 1 << 29
"""Bytes of a record's canonical JSON. Bytes count in base64. PostgreSQL holds a field
of 1 GiB, but a row is sent with bytes in hexadecimal and JSON with spaces, and a
change-log entry beside it: half of that always passes."""
MAX_COMMIT_BYTES: Final = 3 << 28
"""Bytes of canonical JSON of all records of one commit, and of the keys of its deletes
and checks, with 128 bytes for each: PostgreSQL takes them in one message, and keeps them
in one entry of its change log. So one commit has at most 6,291,456 of them."""

MAX_AUDIT_IMAGE_BYTES: Final = 1 << 20
"""Bytes of canonical JSON up to which an audit entry keeps a record; of a larger one it
keeps size and digest. Entries are kept for years."""

MAX_VERSION: Final = (1 << 63) - 1
"""Version of a record: 64 bits with a sign."""

# -- legacy files -----------------------------------------------------------------------

MAX_QUARANTINED: Final = 10_000
"""Records of one legacy file that are quarantined one by one. With more of them the file
is quarantined as a whole, as one record: a row for each would take a hundred times the
memory of the file."""
