"""Evolution of stored records when their schema changes: declared, not guessed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Evolve"]


@dataclass(frozen=True, slots=True)
class Evolve:
    """Evolution of a record type: renamed fields, and conversions of values.

    The new type alone does not show them. Pass it to :func:`collection` as ``evolve=``;
    ``json migrate`` and ``db migrate`` use it while the stored schema still is the former
    one. Afterwards it has no effect, so it may stay until every environment has been
    migrated.
    """

    renamed_from: Mapping[str, str] = field(default_factory=dict)
    """Former name of each renamed field, by its present name."""
    convert: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    """By field, a function that returns its value from the former one. Null stays null
    where the field may be null, and the function is not called. For a new field, the
    function gets the whole former record, as a dict. It must be deterministic: with two
    stores it is called for each of them."""
