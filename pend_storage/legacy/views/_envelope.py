"""View of an object around a list of records, such as ``admin-logs.json``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from typing_extensions import override

from pend_storage._transaction import Transaction
from pend_storage.codec import check_json
from pend_storage.errors import InvalidRecord
from pend_storage.legacy._file_envelope import NAMED, WRAPPERS
from pend_storage.legacy._placement import RecordPlacement, envelope_of
from pend_storage.legacy.views._file_members import FileMembers
from pend_storage.legacy.views._lists import LegacySequence
from pend_storage.legacy.views._maps import LegacyMapping
from pend_storage.live import MISSING
from pend_storage.live._recent import NEVER, Moment
from pend_storage.schema import LEGACY_FILES
from pend_storage.store import Store

__all__ = ["LegacyEnvelope"]


class LegacyEnvelope(FileMembers):
    """Object with one member that holds the records, as a view of its own."""

    def __init__(
        self,
        layout: RecordPlacement,
        store: Store,
        tx: Transaction | None = None,
        *,
        strict: bool = False,
    ) -> None:
        super().__init__(layout, store, tx, strict=strict)
        self._layout: Final = layout
        self._name: Final = str(layout.wrapper)

    def _members(self, reads: Store | Transaction) -> dict[str, Any]:
        """Read the file's members, with an empty list or object for the records."""
        envelope = envelope_of(self._layout, reads)
        if envelope.shape not in WRAPPERS:
            return {self._name: {} if self._is_map(reads) else []}
        text = (envelope.before + envelope.after).decode("utf-8-sig")
        members: dict[str, Any] = json.loads(text, strict=False)
        return members

    def _is_map(self, reads: Store | Transaction) -> bool:
        shape = envelope_of(self._layout, reads).shape
        if shape not in WRAPPERS:
            shape = next(s for s in self._layout.shapes if s in WRAPPERS)
        return shape in NAMED

    def _records(
        self, reads: Store | Transaction | None = None
    ) -> LegacySequence | LegacyMapping:
        """Open the view of the records, by the present shape of the file."""
        kind: type[LegacySequence | LegacyMapping] = LegacySequence
        if self._is_map(self._reads if reads is None else reads):
            kind = LegacyMapping
        strict = self._contents.strict
        return kind(self._layout, self._store, self._tx, strict=strict)

    @override
    def __getitem__(self, name: str) -> Any:
        if name == self._name:
            return self._records()
        return super().__getitem__(name)

    @override
    def _child(self, name: str, value: Any, moment: Moment = NEVER) -> Any:
        if name == self._name:
            return self._records()
        return super()._child(name, value, moment)

    @override
    def _poppable(self) -> list[str]:
        """Return the members beside the records first: the emptied list stays."""
        beside = [name for name in self if name != self._name]
        return beside or ([self._name] if len(self._records()) else [])

    @override
    def setdefault(self, name: Any, default: Any = None) -> Any:
        if name == self._name:
            return self._records()
        return super().setdefault(name, default)

    @override
    def _value(self, reads: Store | Transaction, name: str) -> Any:
        if name == self._name:
            return self._records(reads).values_in(reads)
        return self._members(reads).get(name, MISSING)

    @override
    def _set(self, tx: Transaction, name: str, value: Any) -> None:
        if name == self._name:
            records: Any = self._records(tx)
            records.replace_in(tx, value)
        else:
            self._write(tx, {**self._members(tx), name: value})

    @override
    def _remove(self, tx: Transaction, name: str) -> None:
        if name == self._name:
            records: Any = self._records(tx)
            records.replace_in(tx, {} if isinstance(records, LegacyMapping) else [])
            return
        members = self._members(tx)
        del members[name]
        self._write(tx, members)

    def _write(self, tx: Transaction, members: dict[str, Any]) -> None:
        """Write the members beside the records."""
        old = envelope_of(self._layout, tx)
        try:
            checked: Any = check_json(members)
        except ValueError as error:
            raise InvalidRecord(str(error), collection=LEGACY_FILES) from None
        envelope = old.with_members(checked, self._name)
        tx.collection(LEGACY_FILES).put(envelope.header(self._layout.file))

    @override
    def _all(self, reads: Store | Transaction) -> dict[str, Any]:
        members = self._members(reads)
        if self._name in members:
            members[self._name] = self._records(reads).values_in(reads)
        return members

    @override
    def _pairs(self) -> list[tuple[str, Any]]:
        return [(n, self._child(n, v)) for n, v in self._members(self._reads).items()]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(list(self._members(self._reads)))

    @override
    def __len__(self) -> int:
        return len(self._members(self._reads))
