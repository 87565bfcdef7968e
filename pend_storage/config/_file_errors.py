"""Messages about wrong members of a configuration file: the place, and a known member."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from pend_storage._shown import did_you_mean, shown

__all__ = ["explained", "member_names"]

_UNKNOWN_FIELD: Final = re.compile(r"contains unknown field `(?P<name>[^`]*)`")
_PLACE: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)


def member_names(table: type[msgspec.Struct]) -> list[str]:
    """List the members that a table of the file may have."""
    return [member.name for member in msgspec.structs.fields(table)]


def explained(
    file: Path, name: str, message: str, tables: Mapping[str, Sequence[str]]
) -> str:
    """Complete a message of msgspec by file and member, and suggest a known member.

    Args:
        file: the configuration file.
        name: of the environment.
        message: of msgspec.
        tables: known members of each table, by the path of the table.
    """
    found = _PLACE.match(message)
    what, path = (message, "") if found is None else found.group("what", "path")
    place = f"{file}, environments.{name}" + (f".{path}" if path else "")
    unknown = _UNKNOWN_FIELD.search(what)
    if unknown is None:
        return f"{place}: {what[:1].lower()}{what[1:]}."
    member = unknown["name"]
    known = tables.get(path or "", tables[""])
    return (
        f"{place}: unknown member {shown(member)}{did_you_mean(member, known)} Known here: "
        f"{', '.join(known)}."
    )
