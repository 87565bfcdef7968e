"""How records that are stored become records of a changed schema: declared, not guessed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Evolve"]


@dataclass(frozen=True, slots=True)
class Evolve:
    """Declaration of what a change of a record type cannot show by itself.

    It is given to :func:`collection` as ``evolve=``, and is used by ``json migrate`` and
    ``db migrate`` where the stored schema still is the former one. Afterwards it does
    nothing, so it may stay until every environment has been migrated.
    """

    renamed_from: Mapping[str, str] = field(default_factory=dict)
    """Field to the name that it had."""
    convert: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    """Field to a function that gives its value from the former one. Null stays null where
    the field may be null, and the function is not called. For a field that is new, the
    function is given the whole former record, as a dict. The same value must come out
    each time: with two stores it is called for each of them."""
