"""Keys of declared files: the identifying fields of a record, and the text of its key."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from pend_storage._shown import shown
from pend_storage.errors import ConfigError, InvalidRecord
from pend_storage.legacy._exact_json import dump

__all__ = ["MEMBER_NAME", "Key", "KeyKind", "MemberName"]


class MemberName(Enum):
    """Type of :data:`MEMBER_NAME`."""

    MEMBER_NAME = "the member name"


MEMBER_NAME: Final = MemberName.MEMBER_NAME
"""The key of a record is its member name in the file."""


class KeyKind(Enum):
    """Source of a record's key."""

    FIELD = "a field"
    FIELDS = "several fields"
    NAME = "the member name"
    CONTENT = "content"
    ONLY = "the only record"


@dataclass(frozen=True, slots=True)
class Key:
    """Key of the records of one file."""

    kind: KeyKind
    column: str
    """Stored field that holds the key, as text."""
    fields: tuple[str, ...] = ()
    """Key fields of the user's type; for a member name, the field that holds it."""
    types: tuple[type, ...] = ()
    """Types of these fields: str, int or UUID."""
    only: str = ""
    """The key of the only record."""
    collection: str = ""

    def text(self, values: Mapping[str, Any] | Callable[[str], Any]) -> str:
        """Return the key of a record with these stored field values."""
        look = values if callable(values) else values.__getitem__
        if self.kind is KeyKind.ONLY:
            return self.only
        found = [look(name) for name in self.fields]
        if self.kind is KeyKind.FIELDS:
            return dump(found).decode()
        return str(found[0])

    def text_of(self, given: Any) -> str:
        """Convert a user's key to the stored text.

        Raises:
            InvalidRecord: the value is not of the key's type.
        """
        if isinstance(given, str):
            return given
        if self.kind is KeyKind.FIELDS and isinstance(given, tuple):
            values = [str(v) if isinstance(v, uuid.UUID) else v for v in given]
            return dump(values).decode()
        known = self.types and isinstance(given, self.types)
        if known and not isinstance(given, bool):
            return str(given)
        kinds = " or ".join(sorted({"str", *(kind.__name__ for kind in self.types)}))
        raise InvalidRecord(
            f"{shown(given)} is not a key of {self.collection}: give a {kinds}",
            collection=self.collection,
        )

    def from_name(self, name: str) -> Any:
        """Parse a member name as the stored value of the key field.

        Raises:
            ValueError: the name is not the canonical text of a key.
        """
        kind = self.types[0]
        value: Any = int(name) if kind is int else name
        if kind is uuid.UUID:
            value = str(uuid.UUID(name))
        if str(value) != name:
            raise ValueError(f"{shown(name)} is another spelling of {shown(value)}")
        return value


def require_key_type(user_type: type, name: str, hint: Any) -> type:
    """Return the type of a key field.

    Raises:
        ConfigError: a field of this type cannot be a key.
    """
    if hint in {str, int, uuid.UUID}:
        found: type = hint
        return found
    raise ConfigError(
        f"{user_type.__qualname__}.{name}: a key must be a str, an int or a UUID, and "
        f"never None; {hint!r} is none of them."
    )
