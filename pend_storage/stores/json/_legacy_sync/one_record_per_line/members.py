"""Member parser: the members of a JSON object one by one, duplicate names included.

The fast parser keeps the last of duplicate names silently, and refuses a file for half a
character in one of its texts. This one is slower and keeps all.
"""

from __future__ import annotations

import json
import json.decoder
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from pend_storage._model.storable_text import is_storable
from pend_storage.codec import dump_json

__all__ = ["Member", "members_of", "name_of_text", "text_of_member"]

scanstring: Final[Any] = getattr(json.decoder, "scanstring")  # noqa: B009 - untyped
_space: Final = re.compile(r"[ \t\n\r]*").match


class Member(NamedTuple):
    """A member of the outermost object of a file."""

    name: str
    value: bytes
    is_superseded: bool = False
    """True if a later member has the same name: that one counts."""


def members_of(raw: bytes) -> list[Member]:
    """Return every member of an object, in the order of the text.

    Args:
        raw: the text.

    Raises:
        ValueError: it is not one JSON object in UTF-8.
        RecursionError: it is nested too deeply.
    """
    found = list(_members(raw.decode()))
    last = {name: index for index, (name, _) in enumerate(found)}
    return [
        Member(name, value, is_superseded=last[name] != index)
        for index, (name, value) in enumerate(found)
    ]


def _members(text: str) -> Iterator[tuple[str, bytes]]:
    # The values are only skipped: no number is converted.
    decoder = json.JSONDecoder(parse_int=bool, parse_float=bool, parse_constant=_refuse)
    at = _after(text, _skip(text, 0), "{")
    if text.startswith("}", at):
        at += 1
    else:
        while True:
            name, at = scanstring(text, _after(text, at, '"', space=False))
            start = _after(text, _skip(text, at), ":")
            _, at = decoder.raw_decode(text, start)
            yield name, text[start:at].encode()
            at = _skip(text, at)
            if text.startswith("}", at):
                at += 1
                break
            at = _after(text, at, ",")
    if _skip(text, at) != len(text):
        raise ValueError(f"something follows the object, at {at}")


def _skip(text: str, at: int) -> int:
    found = _space(text, at)
    return at if found is None else found.end()


def _after(text: str, at: int, expected: str, *, space: bool = True) -> int:
    if not text.startswith(expected, at):
        raise ValueError(f"no {expected} at {at}")
    return _skip(text, at + 1) if space else at + 1


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def text_of_member(name: str, value: bytes) -> bytes:
    """Return the text of a member, as the store writes it."""
    spelled = dump_json(name) if is_storable(name) else json.dumps(name).encode()
    return b"%b: %b" % (spelled, value)


def name_of_text(text: bytes) -> str:
    """Return the name in the text of a member."""
    return str(scanstring(text.decode(), 1)[0])
