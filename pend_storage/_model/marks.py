"""Named marks: positions of the change log with a name, to restore to. Pure.

They are one meta entry of the store, and of a pair one of its shared values, so that they
stay when the primary changes. Before each step that may be regretted, one is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from pend_storage._model.records import JSON
from pend_storage._shown import shown
from pend_storage.errors import ConfigError

__all__ = ["MARKS_META", "Mark", "automatic_name", "marks_in", "marks_of", "with_mark"]

MARKS_META: Final = "marks"
"""Name of the meta entry with all marks."""
_MOST: Final = 200
"""Marks that are kept: the oldest go first."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,99}")
_SHARED: Final = "shared"
"""Meta entry of a pair's primary with the values that stay when the primary changes."""


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Position of the change log with a name."""

    sequence: int
    """Commits up to this number are before the mark."""
    epoch: int
    at: str
    """ISO 8601, UTC."""


def automatic_name(step: str, at: datetime) -> str:
    """Return the name of a mark that is made before a step: ``before-migrate-2026...Z``."""
    return f"before-{step}-{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def marks_in(value: JSON) -> dict[str, Mark]:
    """Return the marks in a meta entry; what cannot be read is left out."""
    found: dict[str, Mark] = {}
    if isinstance(value, Mapping):
        for name, stored in value.items():
            try:
                found[name] = msgspec.convert(stored, Mark)
            except msgspec.ValidationError:
                continue  # of a newer version
    return found


def marks_of(meta: Mapping[str, JSON]) -> dict[str, Mark]:
    """Return the marks among the named values of a store, alone or primary of a pair."""
    shared = meta.get(_SHARED)
    values = shared.get("values") if isinstance(shared, Mapping) else None
    theirs = values.get(MARKS_META) if isinstance(values, Mapping) else None
    return marks_in(meta.get(MARKS_META)) | marks_in(theirs)


def with_mark(value: JSON, name: str, mark: Mark) -> JSON:
    """Return a meta entry with one more mark; one of the same name is replaced.

    Args:
        value: the entry as it is.
        name: letters, digits and ``. _ : + -``, at most 100.
        mark: the new one.

    Raises:
        ConfigError: it is no name.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{shown(name)} is no name of a mark: write letters, digits and . _ : + -, "
            "beginning with a letter or digit, at most 100."
        )
    known = dict(value) if isinstance(value, Mapping) else {}
    known.pop(name, None)
    known[name] = msgspec.to_builtins(mark)
    order = sorted(known, key=lambda n: (_time(known[n]), n))
    return {n: known[n] for n in order[-_MOST:]}


def _time(stored: JSON) -> str:
    at = stored.get("at") if isinstance(stored, Mapping) else None
    return at if isinstance(at, str) else ""
