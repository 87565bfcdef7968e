"""Metadata of a pair: named values that stay when the primary changes.

All of them are one meta entry of the primary. A switch seals it there, after the fence,
so that no value is set any more where it would be lost, and copies it to the new primary.
A seal counts for calls at its epoch or an earlier one: what a switch that was called off
leaves behind means nothing to later ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from pend_storage._model.diff import equal
from pend_storage._model.records import JSON
from pend_storage.dualwrite._route import Route, require_primary
from pend_storage.dualwrite._router import Router
from pend_storage.errors import StaleEpoch
from pend_storage.phases import Role
from pend_storage.store import Store

__all__ = [
    "PAIR_META",
    "PairMetadata",
    "SharedValues",
    "StoreMetadata",
    "seal",
    "values_at",
]

PAIR_META: Final = "shared"
"""Name of the meta entry that holds them all."""


def _split(value: JSON) -> tuple[dict[str, JSON], int | None]:
    """Return the values, and the epoch at which they were sealed."""
    if not isinstance(value, Mapping):
        return {}, None
    values, sealed = value.get("values"), value.get("sealed")
    return (
        dict(values) if isinstance(values, Mapping) else {},
        sealed if isinstance(sealed, int) else None,
    )


def values_at(store: Store) -> Mapping[str, JSON]:
    """Return the values as one store has them: those that hold, where it is primary."""
    return _split(store.meta(PAIR_META))[0]


def seal(store: Store, epoch: int) -> JSON:
    """Seal the values of a fenced store; return the entry for the new primary.

    Args:
        store: the fenced one.
        epoch: of the switch.
    """
    # Setting a value does not read the role. Without the seal, a late compare-and-set would
    # succeed at the fenced store after the copy was made, and be lost.
    while True:
        found = store.meta(PAIR_META)
        values = {name: _plain(value) for name, value in _split(found)[0].items()}
        sealed: JSON = {"values": values, "sealed": epoch}
        if store.compare_and_set_meta(PAIR_META, found, sealed):
            return {"values": values} if values else None


def _plain(value: JSON) -> JSON:
    """Return a value as every store returns it: what was a tuple here is a list there."""
    if isinstance(value, Mapping):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    return value


class SharedValues(Protocol):
    """Values that belong to a pair, wherever they are read and set."""

    def get(self, name: str) -> JSON:
        """As :meth:`PairMetadata.get`."""

    def compare_and_set(
        self,
        name: str,
        expected: JSON,
        value: JSON,
        given: Mapping[str, JSON] | None = None,
        also: Mapping[str, JSON] | None = None,
    ) -> bool:
        """As :meth:`PairMetadata.compare_and_set`."""


class StoreMetadata:
    """Values of a pair in a store that was just made primary, while no process uses both."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, name: str) -> JSON:
        """As :meth:`PairMetadata.get`."""
        return values_at(self._store).get(name)

    def compare_and_set(
        self,
        name: str,
        expected: JSON,
        value: JSON,
        given: Mapping[str, JSON] | None = None,
        also: Mapping[str, JSON] | None = None,
    ) -> bool:
        """As :meth:`PairMetadata.compare_and_set`."""
        wanted = {**(given or {}), name: expected}
        while True:
            found = self._store.meta(PAIR_META)
            values, _ = _split(found)
            if not all(equal(values.get(n), v) for n, v in wanted.items()):
                return False
            # A seal is of a switch that this promotion has overtaken: it ends with that.
            changed = _changed(values, {name: value, **(also or {})})
            if self._store.compare_and_set_meta(PAIR_META, found, changed):
                return True


def _changed(values: Mapping[str, JSON], news: Mapping[str, JSON]) -> JSON:
    merged: dict[str, Any] = {**values, **news}
    return {"values": {n: v for n, v in merged.items() if v is not None}}


class PairMetadata:
    """Metadata of a pair, read and set at the primary. Safe to share between threads."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def get(self, name: str) -> JSON:
        """Return one value; None if it was never set."""

        def read(store: Store, epoch: int | None) -> JSON:
            require_primary(store, epoch)
            return values_at(store).get(name)

        return self._router.call_reading(read)

    def compare_and_set(
        self,
        name: str,
        expected: JSON,
        value: JSON,
        given: Mapping[str, JSON] | None = None,
        also: Mapping[str, JSON] | None = None,
    ) -> bool:
        """Set a value if it and others are what is expected; None removes it.

        Args:
            name: of the value.
            expected: its present value; None: it was never set.
            value: its new value.
            given: what other values must be.
            also: other values to set with it.
        """
        wanted = {**(given or {}), name: expected}

        def change(route: Route) -> bool:
            while True:
                found = route.store.meta(PAIR_META)
                values, sealed = _split(found)
                if sealed is not None and sealed >= route.epoch:
                    raise StaleEpoch(
                        store="the primary", role=Role.FENCED.value, epoch=route.epoch
                    )
                if not all(equal(values.get(n), v) for n, v in wanted.items()):
                    require_primary(route.store, route.epoch)
                    return False
                changed = _changed(values, {name: value, **(also or {})})
                if route.store.compare_and_set_meta(PAIR_META, found, changed):
                    return True

        return self._router.call(change)
