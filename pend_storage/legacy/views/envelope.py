"""A file that is an object around a list of records, such as ``admin-logs.json``."""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from pend_storage.codec import check_json
from pend_storage.errors import InvalidRecord
from pend_storage.legacy.frame import WRAPPED, Frame
from pend_storage.legacy.scan import contents, name_at, top_level
from pend_storage.legacy.views.lists import ListView
from pend_storage.schema import LEGACY_FILES
from pend_storage.store import Store
from pend_storage.transaction import Transaction

if TYPE_CHECKING:
    from pend_storage.legacy.layout import RecordLayout

__all__ = ["EnvelopeView", "frame_of"]


def frame_of(layout: RecordLayout, reads: Store | Transaction) -> Frame:
    """How a store knows a file to be written; the usual way where it does not."""
    found = reads.collection(LEGACY_FILES).get(layout.file)
    return Frame.of(layout.missing() if found is None else found)


class EnvelopeView(MutableMapping[str, Any]):
    """The list is a :class:`ListView`; the other members are what stands beside it."""

    def __init__(self, layout: RecordLayout, store: Store) -> None:
        self._layout: Final = layout
        self._store: Final = store
        self._name: Final = str(layout.wrapper)

    def _members(self, reads: Store | Transaction | None = None) -> dict[str, Any]:
        """The file's members, with an empty list for the records."""
        frame = frame_of(self._layout, reads or self._store)
        if frame.shape != WRAPPED:
            return {self._name: []}
        text = (frame.before + frame.after).decode("utf-8-sig")
        members: dict[str, Any] = json.loads(text, strict=False)
        return members

    @override
    def __getitem__(self, name: str) -> Any:
        if name == self._name:
            return ListView(self._layout, self._store)
        return self._members()[name]

    @override
    def __setitem__(self, name: str, value: Any) -> None:
        if name == self._name:
            self[name][:] = value
        else:
            self._store.run(
                lambda tx: self._write(tx, {**self._members(tx), name: value})
            )

    @override
    def __delitem__(self, name: str) -> None:
        if name == self._name:
            del self[name][:]
        else:
            self._store.run(lambda tx: self._take(tx, name))

    def _take(self, tx: Transaction, name: str) -> Any:
        """Take a member out from beside the list."""
        members = self._members(tx)
        value = members.pop(name)
        self._write(tx, members)
        return value

    def _write(self, tx: Transaction, members: dict[str, Any]) -> None:
        """Write the members beside the list."""
        old = frame_of(self._layout, tx)
        try:
            raw = replace(old, between=b",\n").text(check_json(members))
        except ValueError as error:
            raise InvalidRecord(str(error), collection=LEGACY_FILES) from None
        top = top_level(raw)
        assert top is not None  # noqa: S101 - it was printed a moment ago
        pairs = zip(top.starts, top.values, strict=True)
        start = next(value for name, value in pairs if name_at(raw, name) == self._name)
        frame = Frame.found(WRAPPED, raw, contents(raw, start))
        header = replace(frame, unit=old.unit, colon=old.colon).header(
            self._layout.file
        )
        tx.collection(LEGACY_FILES).put(header)

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._members())

    @override
    def __len__(self) -> int:
        return len(self._members())

    def snapshot(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return {**self._members(), self._name: self[self._name].snapshot()}

    @override
    def __repr__(self) -> str:
        return f"<live view of {self._layout.file}>"
