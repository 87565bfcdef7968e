"""Digest of the rows of a collection, whatever their order.

It is the sum, modulo 2 to the power of 128, of a hash of each row. So two stores that hold
the same rows have the same digest, and a row can be added or taken away.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

import msgspec

from pend_storage._model.snapshots import StoredRow
from pend_storage.backup._manifest import CollectionFacts

__all__ = ["RowDigest"]

_BYTES: Final = 16
_MODULUS: Final = 1 << 8 * _BYTES
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class RowDigest:
    """Digest of the rows of one collection, with their number."""

    def __init__(self, collection: str) -> None:
        self.collection = collection
        self._prefix = collection.encode() + b"\0"
        self._sum = 0
        self.rows = 0
        """Rows with a record."""
        self.tombstones = 0

    def add(self, row: StoredRow) -> None:
        """Add a row or a tombstone."""
        self._sum += self._hash(row)
        if row.body is None:
            self.tombstones += 1
        else:
            self.rows += 1

    def remove(self, row: StoredRow) -> None:
        """Take away a row that was added."""
        self._sum -= self._hash(row)
        if row.body is None:
            self.tombstones -= 1
        else:
            self.rows -= 1

    def add_all(self, rows: Iterable[StoredRow]) -> RowDigest:
        """Add rows; returns the digest itself."""
        for row in rows:
            self.add(row)
        return self

    def _hash(self, row: StoredRow) -> int:
        key, version, body = row
        end = b"\0%d" % (body is not None)
        # PostgreSQL keeps no order of the members of a JSON value: equal records differ in it.
        content = _encode(_decode(body)) if body else b""
        text = self._prefix + b"%b\0%d\0%b%b" % (key.encode(), version, content, end)
        return int.from_bytes(blake2b(text, digest_size=_BYTES).digest())

    def hexdigest(self) -> str:
        """Return the digest, 32 hexadecimal digits."""
        return f"{self._sum % _MODULUS:032x}"

    def facts(self) -> CollectionFacts:
        """Return numbers and digest as a manifest has them."""
        return CollectionFacts(
            rows=self.rows, tombstones=self.tombstones, digest=self.hexdigest()
        )
