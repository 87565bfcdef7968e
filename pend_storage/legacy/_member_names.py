"""Duplicate member names in the text of an object."""

from __future__ import annotations

import re
from typing import Final

from pend_storage.legacy._scan import Container, name_at

__all__ = ["superseded"]

_PLAIN: Final = re.compile(rb'"([^"\\]*+)"').match


def superseded(raw: bytes, members: Container) -> frozenset[int]:
    """Find the superseded members of an object: a later one has the same name.

    Names are compared unescaped, as by every parser.

    Args:
        raw: the file.
        members: the object in it.

    Returns:
        Indices of the superseded members.
    """
    if members.is_list:
        return frozenset()
    count = len(members)
    # Hashes need less memory than the names, of which there may be millions.
    if len({hash(_name(raw, start)) for start in members.starts}) == count:
        return frozenset()
    later: set[bytes] = set()
    found = set()
    for index in range(count - 1, -1, -1):
        name = _name(raw, members.starts[index])
        if name in later:
            found.add(index)
        later.add(name)
    return frozenset(found)


def _name(raw: bytes, start: int) -> bytes:
    """Return the member name that begins at an offset, unescaped."""
    plain = _PLAIN(raw, start)
    if plain is not None:
        return plain[1]
    return name_at(raw, start).encode("utf-8", "surrogatepass")
