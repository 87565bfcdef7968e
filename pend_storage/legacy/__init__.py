"""Legacy JSON files: exact parsing, placement of records, live views, lossless rendering.

:class:`RecordLayout` is a :class:`~pend_storage._layouts.layout.Layout`: an *envelope* (a
list, a map, or a list wrapped in an object) around records, and a *mapping* that turns each
into a record of a collection. For a file of your own, subclass :class:`ObjectMapping` with
a table of members.
"""

from pend_storage.legacy._file_envelope import LIST, MAP, WRAPPED
from pend_storage.legacy._layout import RecordLayout
from pend_storage.legacy._mapping import RecordMapping, Source
from pend_storage.legacy._members import Member, ObjectMapping, inside, time_member
from pend_storage.legacy._quarantine import CODES
from pend_storage.legacy._spellings import (
    amount_member,
    milliseconds_member,
    seconds_member,
)

__all__ = [
    "CODES",
    "LIST",
    "MAP",
    "WRAPPED",
    "Member",
    "ObjectMapping",
    "RecordLayout",
    "RecordMapping",
    "Source",
    "amount_member",
    "inside",
    "milliseconds_member",
    "seconds_member",
    "time_member",
]
