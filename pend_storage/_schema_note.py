"""Stored description of a schema: the meta entry by which later schemas are compared."""

from __future__ import annotations

from typing import Any, Final
from weakref import WeakKeyDictionary

import msgspec

from pend_storage._model.fields import FieldSpec, Kind
from pend_storage._model.records import JSON
from pend_storage.schema import CollectionSpec, Schema

__all__ = ["CollectionShape", "Description", "FieldShape", "describe"]


class FieldShape(msgspec.Struct, frozen=True, omit_defaults=True):
    """Stored description of a field."""

    kind: str
    optional: bool = False
    limit: dict[str, Any] = {}
    choices: list[Any] = []
    has_default: bool = False
    default: Any = None
    """As in a stored record."""
    shape: str | None = None
    indexed: bool = False

    @classmethod
    def of(cls, spec: FieldSpec) -> FieldShape:
        """Describe a declared field."""
        bounds = {
            name: msgspec.to_builtins(value)
            for name in spec.limit.__slots__
            if (value := getattr(spec.limit, name)) is not None
        }
        has_default = spec.default is not ...
        return cls(
            spec.kind.value,
            spec.optional,
            bounds,
            list(spec.choices),
            has_default,
            msgspec.to_builtins(spec.default) if has_default else None,
            None if spec.shape is None else str(spec.shape),
            spec.indexed,
        )

    def spec(self, name: str) -> FieldSpec:
        """Return a field specification by which stored values are read."""
        return FieldSpec(name, Kind(self.kind), self.optional, choices=(*self.choices,))


class CollectionShape(msgspec.Struct, frozen=True, omit_defaults=True):
    """Stored description of a collection."""

    key: str
    fields: dict[str, FieldShape]
    unique: list[list[str]] = []
    references: dict[str, str] = {}
    indexes: list[list[str]] = []
    search: list[str] = []

    @classmethod
    def of(cls, spec: CollectionSpec) -> CollectionShape:
        """Describe a declared collection."""
        return cls(
            spec.key,
            {name: FieldShape.of(field) for name, field in spec.fields.items()},
            [list(group) for group in spec.unique],
            dict(spec.references),
            [
                [("-" if down else "") + name for name, down in index.columns]
                for index in spec.indexes
            ],
            list(spec.search),
        )


class Description(msgspec.Struct, frozen=True, omit_defaults=True):
    """Stored description of a schema."""

    fingerprint: str
    collections: dict[str, CollectionShape]
    module: str = ""
    """The module that declares it."""
    ancestors: list[str] = []
    """Fingerprints of the schemas since which there were only additions: programs that
    have one of them can go on."""
    floor: int = 0
    """Entries of the change log up to this sequence are of a former schema."""

    @classmethod
    def from_json(cls, value: JSON) -> Description:
        """Parse a description; the inverse of :meth:`to_json`."""
        return msgspec.convert(value, type=cls)

    def to_json(self) -> dict[str, Any]:
        """Convert to the JSON value that a store keeps."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found

    def after(self, former: Description, *, only_added: bool) -> Description:
        """Return this description as the successor of a former one.

        Args:
            former: the stored one.
            only_added: whether programs with the former schema can go on.
        """
        known = []
        if only_added:
            known = [f for f in former.ancestors if f != self.fingerprint]
            if former.fingerprint != self.fingerprint:
                known.append(former.fingerprint)
        return msgspec.structs.replace(self, ancestors=known, floor=former.floor)


_shapes: Final[WeakKeyDictionary[Schema, dict[str, CollectionShape]]] = (
    WeakKeyDictionary()
)
"""Cache for the schemas of this process: each opening of a store needs them."""


def describe(schema: Schema) -> Description:
    """Describe a schema, as a store keeps it."""
    shapes = _shapes.get(schema)
    if shapes is None:
        shapes = {spec.name: CollectionShape.of(spec) for spec in schema}
        _shapes[schema] = shapes
    return Description(schema.fingerprint(), shapes, schema.module)
