"""Legacy JSON files: how they are read exactly, placed, shown live and rendered back.

:class:`RecordLayout` is a :class:`~pend_storage._layouts.layout.Layout`: an *envelope* (a list, a map,
or a list wrapped in an object) around records, and a *mapping* that turns each into a
record of a collection. For a file of one's own, subclass :class:`ObjectMapping` with a
table of members.
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
