"""Live objects: views over a store that behave as the dict or list of ``json.load``.

Layouts build the views of their files from these parts: :class:`LiveMap` and
:class:`LiveList` implement the idioms of dict and list, ``_nested`` the objects and lists
inside of a record, and :class:`Members` an object whose members are stored one by one.
"""

from pend_storage.live._lists import LiveList
from pend_storage.live._maps import MISSING, LiveMap
from pend_storage.live._members import Members
from pend_storage.live._nested import Root, wrapped
from pend_storage.live._values import as_json, json_default, plain

__all__ = [
    "MISSING",
    "LiveList",
    "LiveMap",
    "Members",
    "Root",
    "as_json",
    "json_default",
    "plain",
    "wrapped",
]
