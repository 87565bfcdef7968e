"""Adapter protocol for record types of the caller that are stored as another type."""

from __future__ import annotations

import uuid
from typing import Any, Protocol, TypeAlias

__all__ = ["RecordAdapter", "RecordKey"]

RecordKey: TypeAlias = str | int | uuid.UUID | tuple[str | int | uuid.UUID, ...]
"""A key as a caller has it. It is stored as text, and is text where the stored record is
the caller's own."""


class RecordAdapter(Protocol):
    """Adapter: converts records of the caller's type to stored ones, and back.

    A stored record may have fields that the caller's type lacks. They are kept when the
    caller writes over a present record.
    """

    @property
    def user_type(self) -> type:
        """Type of the caller's records."""

    def key(self, given: Any) -> str:
        """Convert a key of the caller, such as a number, to its stored form.

        Raises:
            InvalidRecord: no record has such a key.
        """

    def key_of(self, record: Any) -> str | None:
        """Return the stored key of a record of the caller; None: a new record."""

    def give(self, record: Any) -> Any:
        """Convert a stored record to the caller's type."""

    def take(self, given: Any, present: Any) -> Any:
        """Convert a record of the caller's type to a stored one.

        Args:
            given: of the caller's type.
            present: the stored record under its key; None where there is none.
        """
