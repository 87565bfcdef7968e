"""Check of decoded records: that they fit their schema, and one another."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import msgspec

from pend_storage._shown import shown
from pend_storage.errors import CorruptFile, InvalidRecord
from pend_storage.schema import CollectionSpec, Schema

__all__ = ["RecordCheck"]


class RecordCheck:
    """Check of the records of one snapshot, or one segment.

    Keys of collections that others refer to, and digests of unique values, are in memory.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._keys: dict[str, set[str]] = {
            spec.name: set() for spec in schema if schema.referrers(spec.name)
        }
        self._wanted: dict[tuple[str, str, str], dict[str, str]] = {}
        """By collection, field and target: values, each with the key of a referrer."""
        self._unique: dict[tuple[str, tuple[str, ...]], dict[bytes, str]] = {}
        self._twice: list[str] = []

    def change(
        self, collection: str, key: str, version: int, body: bytes | None
    ) -> Iterator[str]:
        """Yield sentences on what is wrong with a changed record by itself."""
        record, faults = self._decoded(collection, key, version, body)
        del record
        yield from faults

    def row(
        self, collection: str, key: str, version: int, body: bytes | None
    ) -> Iterator[str]:
        """Yield sentences on a row by itself, and remember what others refer to."""
        record, faults = self._decoded(collection, key, version, body)
        yield from faults
        if record is not None:
            self._remember(self._schema[collection], key, record)

    def _decoded(
        self, collection: str, key: str, version: int, body: bytes | None
    ) -> tuple[object, list[str]]:
        label = f"{collection}[{shown(key)}]"
        if collection not in self._schema.names:
            return None, [f"{label}: the schema has no such collection"]
        if version <= 0 or not key:
            return None, [f"{label}: it has no key, or no version"]
        if body is None:
            return None, []
        spec = self._schema[collection]
        try:
            record = spec.codec.check(spec.codec.decode(body))
        except (CorruptFile, InvalidRecord) as error:
            return None, [f"{label}: {error.reason}"]
        faults = [] if spec.key_of(record) == key else [f"{label}: it has another key"]
        return record, faults

    def _remember(self, spec: CollectionSpec, key: str, record: object) -> None:
        if spec.name in self._keys:
            self._keys[spec.name].add(key)
        for name, target in spec.references.items():
            value = getattr(record, name)
            if value is not None:
                place = (spec.name, name, target)
                self._wanted.setdefault(place, {}).setdefault(value, key)
        for group in spec.unique:
            values = [getattr(record, name) for name in group]
            if None not in values:
                self._remember_unique(spec.name, group, values, key)

    def _remember_unique(
        self, name: str, group: tuple[str, ...], values: list[object], key: str
    ) -> None:
        digest = blake2b(msgspec.json.encode(values), digest_size=16).digest()
        before = self._unique.setdefault((name, group), {}).setdefault(digest, key)
        if before != key:
            self._twice.append(
                f"{name}[{shown(key)}] has the same {', '.join(group)} as {shown(before)}"
            )

    def relations(self) -> Iterator[str]:
        """Yield sentences on references that lead nowhere, and on values that occur twice."""
        yield from self._twice
        for (name, field, target), values in self._wanted.items():
            for value, key in values.items():
                if value not in self._keys[target]:
                    yield (
                        f"{name}[{shown(key)}].{field} refers to {target}[{shown(value)}], "
                        "which is not there"
                    )
