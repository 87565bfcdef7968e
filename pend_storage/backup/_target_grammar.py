"""Grammar of restore targets: what of the past is wanted, as people write it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from pend_storage._secrets import may_be_address
from pend_storage._shown import shown
from pend_storage.errors import ConfigError

__all__ = [
    "FORMS",
    "AtBackup",
    "AtMark",
    "AtSequence",
    "AtTime",
    "BeforeSequence",
    "BeforeVersion",
    "Latest",
    "Target",
    "parse_target",
]

FORMS: Final = (
    "latest, the ID of a backup, a time with its zone such as 2026-01-31T12:00:00Z, a "
    "sequence number, before:SEQUENCE, before:COLLECTION/KEY@VERSION, or point:NAME"
)
"""Forms of a target, for messages."""

_ID: Final = re.compile(r"\d{8}T\d{6}Z-[0-9A-Za-z-]*")
"""Backup by its ID, which begins with a time in UTC."""
_TIME: Final = re.compile(r"\d{4}-\d|\d{8}T")
"""Beginning of a time."""
_BEGINNING: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,99}")
"""Beginning of an ID."""
_LONGEST: Final = 19
"""Digits of the highest sequence number that a store can give."""


@dataclass(frozen=True, slots=True)
class Latest:
    """The last archived commit."""


@dataclass(frozen=True, slots=True)
class AtBackup:
    """Position of one backup."""

    id: str
    """Its ID, or the beginning of it."""


@dataclass(frozen=True, slots=True)
class AtTime:
    """All commits up to a time."""

    at: datetime
    """Aware."""


@dataclass(frozen=True, slots=True)
class AtSequence:
    """All commits up to a sequence number, that one included."""

    sequence: int


@dataclass(frozen=True, slots=True)
class BeforeSequence:
    """All commits below a sequence number, that one excluded."""

    sequence: int


@dataclass(frozen=True, slots=True)
class BeforeVersion:
    """All commits before the one that has given a key this version."""

    collection: str
    key: str
    version: int


@dataclass(frozen=True, slots=True)
class AtMark:
    """All commits up to a named mark."""

    name: str


Target: TypeAlias = (
    Latest | AtBackup | AtTime | AtSequence | BeforeSequence | BeforeVersion | AtMark
)


def parse_target(text: str) -> Target:
    """Parse a target.

    Args:
        text: as it is written at ``--to``.

    Raises:
        ConfigError: it has none of the forms, or it is a time without a zone.
    """
    kind, colon, rest = text.partition(":")
    if text == "latest":
        return Latest()
    if colon and kind == "before":
        return _before(rest)
    if colon and kind == "point":
        if not rest:
            raise ConfigError("point: lacks a name. Write point:NAME.")
        return AtMark(rest)
    if _is_number(text):
        return AtSequence(_number(text))
    if _TIME.match(text) and not _ID.fullmatch(text):
        return AtTime(_time(text))
    if _BEGINNING.fullmatch(text):
        return AtBackup(text)
    # An address is not shown, because it may hold a password.
    cited = "an address" if may_be_address(text) else shown(text)
    raise ConfigError(f"{cited} is no target. Write {FORMS}.")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _number(text: str) -> int:
    if len(text) > _LONGEST:
        raise ConfigError(
            f"{shown(text)} is no sequence number: it has more than {_LONGEST} digits. "
            "See: pend-storage backup list"
        )
    return int(text)


def _before(rest: str) -> BeforeSequence | BeforeVersion:
    if _is_number(rest):
        return BeforeSequence(_number(rest))
    # A key may have any character, a slash and an @ among them; a collection may not.
    place, at, version = rest.rpartition("@")
    collection, slash, key = place.partition("/")
    if not (at and slash and collection and key and _is_number(version)):
        raise ConfigError(
            f"{shown('before:' + rest)} is no target. Write before:SEQUENCE, or "
            "before:COLLECTION/KEY@VERSION with the version that the mistake has made, such "
            "as before:users/4711@1734."
        )
    return BeforeVersion(collection, key, _number(version))


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{shown(text)} cannot be read as a time. Write it like 2026-01-31T12:00:00Z, or "
            "with an offset: 2026-01-31T13:00:00+01:00."
        ) from None
    if at.tzinfo is None:
        raise ConfigError(
            f"{shown(text)} has no zone, so it may be one of many instants. Add Z for UTC, or "
            "an offset: 2026-01-31T12:00:00Z, 2026-01-31T13:00:00+01:00."
        )
    return at
