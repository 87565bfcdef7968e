"""Views that behave as the dict or the list that ``json.load`` gives, over a store.

What a layout shows of a file is made from these parts: :class:`LiveMap` and
:class:`LiveList` are the idioms, :mod:`.nested` is what stands inside of a record, and
:class:`Members` is an object whose members are kept one by one.
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
