"""Types of the caller's own that are stored as another type: the interface."""

from __future__ import annotations

import uuid
from typing import Any, Protocol, TypeAlias

__all__ = ["RecordAdapter", "RecordKey"]

RecordKey: TypeAlias = str | int | uuid.UUID | tuple[str | int | uuid.UUID, ...]
"""A key as a caller has it. It is stored as text, and is text where the stored record is
the caller's own."""


class RecordAdapter(Protocol):
    """Turns records of the caller's type into stored ones, and back.

    A stored record may have fields that the caller's type does not know. They stay as
    they are when the caller writes a record that is there already.
    """

    @property
    def user_type(self) -> type:
        """The type that the caller gives and gets."""

    def key(self, given: Any) -> str:
        """The key as it is stored, of one as the caller has it: a number, for example.

        Raises:
            InvalidRecord: no record has such a key.
        """

    def key_of(self, record: Any) -> str | None:
        """The key under which a record of the caller's is stored; None: a new one."""

    def give(self, record: Any) -> Any:
        """The caller's record for a stored one."""

    def take(self, given: Any, present: Any) -> Any:
        """The stored record for one of the caller's.

        Args:
            given: of the caller's type.
            present: the stored record under its key; None where there is none.
        """
