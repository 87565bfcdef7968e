"""Secrets: which settings hold one, and their removal from the texts of drivers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

__all__ = ["hidden", "may_be_address", "may_hold_secret"]

_MASK: Final = "********"
_HINT: Final = re.compile(
    r"pass(?!file\Z)|secret|token|credential|scram_\w+_key", re.IGNORECASE
)
_PERCENT: Final = re.compile("%[0-9A-Fa-f]{2}")


def may_hold_secret(name: str) -> bool:
    """Return whether the name of a setting hints at a secret; ``passfile`` is a path."""
    return _HINT.search(name) is not None


def may_be_address(text: str) -> bool:
    """Return whether a text may be the address of a server, which may hold a password.

    That is one with a scheme, one that lacks it (``app:PASSWORD@host/database``), or one
    of keywords (``host=... password=...``). Where a directory, an id or a target is
    expected, such a text is not shown.
    """
    head, colon, rest = text.partition(":")
    lacks_scheme = bool(colon) and "/" not in head and "@" in rest
    return "://" in text or lacks_scheme or ("=" in text and may_hold_secret(text))


def hidden(text: str, secrets: Iterable[str]) -> str:
    """Replace secrets in a text of a driver by stars.

    Each one is replaced as it is, percent-encoded in full or in part, and as Python
    and libpq quote it: drivers and libraries repeat all these spellings.

    Args:
        text: for people: a message, or a part of one.
        secrets: values that must not be shown; longer ones are replaced first.
    """
    spellings = {
        spelling
        for secret in secrets
        for spelling in (
            secret,
            secret.replace("%", "%25"),
            quote(secret, safe=""),
            quote(secret),
            repr(secret)[1:-1],
            secret.replace("\\", "\\\\").replace("'", "\\'"),  # as libpq quotes it
        )
    }
    spellings |= {_PERCENT.sub(_lower, spelling) for spelling in spellings}
    for spelling in sorted(filter(None, spellings), key=len, reverse=True):
        text = text.replace(spelling, _MASK)
    return text


def _lower(found: re.Match[str]) -> str:
    return found[0].lower()
