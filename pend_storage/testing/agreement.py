"""Comparison of a store with its model: the same call on both, answers compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from typing import Any, TypeAlias

from pend_storage._model.records import Batch, ChangedRecord, Outcome, Row, Versioned
from pend_storage._transaction import Transaction
from pend_storage.errors import Conflict, PendStorageError
from pend_storage.phases import ROLE_META, RoleState
from pend_storage.schema import CollectionSpec
from pend_storage.store import Store

__all__ = ["RIGHT", "Age", "Pair", "Place", "Side"]

Place: TypeAlias = tuple[str, str]
"""Collection and key of a record."""

RIGHT = "what is there"
"""Placeholder for the current value of a meta entry, as the expected one."""
_UNREACHED = 2**62
"""Version that no store has reached."""


class Age(Enum):
    """Version that a check demands of a key; each store has its own number for it."""

    ANY = "any"
    NOTHING = "nothing"
    """No record."""
    PRESENT = "present"
    """The current version, or that of the tombstone."""
    FORMER = "former"
    """The version before the current one."""
    UNKNOWN = "unknown"
    """A version that never existed."""


class Side:
    """One of two compared stores, with its observed history."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.history: dict[Place, list[int]] = {}
        """Versions of each key, in the order of the writes."""
        self.incoming: Sequence[ChangedRecord] = ()
        """Records that a follower is to apply next."""
        self.followed = 0
        """Sequence up to which the followers have applied the change log."""
        self.committed: list[tuple[Batch, tuple[int, ...]]] = []
        """Batches in the change log, and the versions that they got."""
        self.open: dict[int, Transaction] = {}
        """Open transactions, by number."""

    # -- versions ---------------------------------------------------------------------

    def version(self, place: Place, age: Age) -> int | None:
        """Return the version to demand of a key; None for any."""
        history = self.history.get(place, [])
        match age:
            case Age.ANY:
                return None
            case Age.NOTHING:
                return 0
            case Age.PRESENT:
                return history[-1] if history else 0
            case Age.FORMER:
                return history[-2] if len(history) > 1 else _UNREACHED
            case Age.UNKNOWN:
                return _UNREACHED

    def checks(self, wanted: Iterable[tuple[Place, Age]]) -> dict[Place, int]:
        """Return the checks of a batch, with this store's versions."""
        found = {place: self.version(place, age) for place, age in wanted}
        return {place: v for place, v in found.items() if v is not None}

    def ordinal(self, place: Place, version: int) -> int | str:
        """Translate a version to the number of the write that made it.

        Two stores give different versions to the same write. Their ordinals are equal.
        """
        if version in {0, _UNREACHED}:
            return version
        history = self.history.get(place, [])
        return history.index(version) + 1 if version in history else "never observed"

    def observe(self, place: Place) -> list[Any]:
        """Read a key, and record its version; a changed version must have grown."""
        name, key = place
        rows = self.store.read(name, [key], deleted=True)
        history = self.history.setdefault(place, [])
        for row in rows.values():
            if row.version not in history[-1:]:
                self._record_version(place, row.version)
        return self.rows(name, rows.values())

    def commit(self, batch: Batch, epoch: int | None) -> list[bool]:
        """Commit a batch; return for each of its operations if it wrote something."""
        versions = self.store.commit(batch, epoch=epoch)
        self._record_commit(batch, versions)
        return [version > 0 for version in versions]

    def _record_commit(self, batch: Batch, versions: tuple[int, ...]) -> None:
        # A commit that wrote nothing has no entry in the log: repeated, it would run again.
        if any(versions):
            self.committed.append((batch, versions))

    def commit_each(self, batches: Sequence[Batch], epoch: int | None) -> list[Any]:
        """Commit each batch; return comparable outcomes in the same order.

        The versions of several writes of one key are recorded here, because a later
        read shows only the last one.
        """
        outcomes = self.store.commit_each(batches, epoch=epoch)
        comparable: list[Any] = []
        done: dict[str, Outcome] = {}
        for batch, outcome in zip(batches, outcomes, strict=True):
            if batch.token in done:
                assert outcome == done[batch.token], "a batch was committed twice"
                continue
            if isinstance(outcome, PendStorageError):
                comparable.append(self.error(outcome))
                continue
            self._record_commit(batch, outcome)
            if any(outcome):
                done[batch.token] = outcome
            comparable.append([version > 0 for version in outcome])
            for operation, version in zip(batch.operations, outcome, strict=True):
                if version:
                    self._record_version((operation.collection, operation.key), version)
        return comparable

    def _record_version(self, place: Place, version: int) -> None:
        history = self.history.setdefault(place, [])
        # Also above tombstones: a version never returns.
        assert version > max(history, default=0), f"{history}, then {version}"
        history.append(version)

    # -- answers, made comparable -----------------------------------------------------

    def rows(self, name: str, rows: Iterable[Row]) -> list[Any]:
        """Make rows comparable: key, ordinal, record."""
        return [
            (row.key, self.ordinal((name, row.key), row.version), row.record)
            for row in rows
        ]

    def everything(self, name: str) -> list[Any]:
        """Return all rows of a collection, tombstones included."""
        return self.rows(name, self.store.scan(name, deleted=True))

    def all_found(self, name: str) -> Any:
        """Return all records of a collection, by a query, and their count."""
        found = self.store.collection(name).find().items
        return found, self.store.collection(name).count()

    def comparable(self, place: Place, found: Versioned[Any] | None) -> Any:
        """Make a record with its version comparable."""
        return found and (found.record, self.ordinal(place, found.version))

    def read_versioned(self, place: Place) -> Any:
        """Read a record with its version, made comparable."""
        name, key = place
        return self.comparable(place, self.store.collection(name).versioned(key))

    def read_inside(self, which: int, place: Place) -> Any:
        """Read a record with its version in a transaction, made comparable."""
        name, key = place
        return self.comparable(
            place, self.inside(which).collection(name).versioned(key)
        )

    def log(self) -> list[ChangedRecord]:
        """Return all records of the change log."""
        return [record for change in self.store.changes() for record in change.records]

    def comparable_log(self) -> list[Any]:
        """Return the change log, made comparable."""
        changes = list(self.store.changes())
        sequences = [change.sequence for change in changes]
        assert sequences == sorted(set(sequences))
        return [
            (
                change.epoch,
                [
                    (r.collection, r.key, self.ordinal(r[:2], r.version), r.record)
                    for r in sorted(change.records, key=lambda r: r[:2])
                ],
            )
            for change in changes
        ]

    def unapplied(self) -> tuple[list[ChangedRecord], int]:
        """Return records that the followers have not applied, and the last sequence."""
        changes = list(self.store.changes(after=self.followed))
        records = [record for change in changes for record in change.records]
        return records, changes[-1].sequence if changes else self.followed

    def would_satisfy_constraints(self) -> bool:
        """Check if applying the incoming records would keep every constraint."""
        after: dict[str, dict[str, Row]] = {
            spec.name: {
                row.key: row for row in self.store.scan(spec.name, deleted=True)
            }
            for spec in self.store.schema
        }
        for item in self.incoming:
            rows = after[item.collection]
            if item.key not in rows or rows[item.key].version < item.version:
                rows[item.key] = Row(item.key, item.version, item.record)
        return all(_satisfies_constraints(spec, after) for spec in self.store.schema)

    # -- transactions -----------------------------------------------------------------

    def inside(self, which: int) -> Transaction:
        """Return an open transaction; begin it at the first call."""
        return self.open.setdefault(which, self.store.transaction())

    def written_inside(self, which: int) -> list[Place]:
        """Return the keys that a transaction is going to write."""
        return list(self.inside(which)._work.written)  # noqa: SLF001 - only it knows

    def end(self, which: int) -> list[Place]:
        """Commit a transaction; return the keys that it reports as written."""
        transaction = self.inside(which)
        del self.open[which]
        transaction.commit()
        return sorted(place for place, v in transaction.versions.items() if v)

    def abandon(self, which: int) -> None:
        """Drop a transaction without committing it."""
        self.open.pop(which, None)

    # -- meta -------------------------------------------------------------------------

    def set_meta(self, name: str, to: Any, was: Any) -> Any:
        """Compare and set a meta entry; ``was`` may be RIGHT, the current value."""
        expected = self.store.meta(name) if was is RIGHT else was
        done = self.store.compare_and_set_meta(name, expected, to)
        return done, self.store.meta(name)

    # -- errors -----------------------------------------------------------------------

    def error(self, error: PendStorageError) -> Any:
        """Return an error's class and attributes, with comparable versions."""
        facts = {
            k: v for k, v in vars(error).items() if k not in {"store", "__notes__"}
        }
        # Versions of two stores differ; the writes that they mean must not.
        if isinstance(error, Conflict):
            place = (error.collection, error.key)
            for name in ("expected", "actual"):
                facts[name] = self.ordinal(place, facts[name])
        return type(error).__name__, facts


def _satisfies_constraints(
    spec: CollectionSpec, after: dict[str, dict[str, Row]]
) -> bool:
    living = [row.record for row in after[spec.name].values() if row.record is not None]
    for name, target in spec.references.items():
        for key in {getattr(record, name) for record in living} - {None}:
            row = after[target].get(key)
            if row is None or row.record is None:
                return False
    for group in spec.unique:
        values = [tuple(getattr(record, name) for name in group) for record in living]
        # As in SQL, a group with a null is never equal to another.
        whole = [value for value in values if None not in value]
        if len(whole) != len(set(whole)):
            return False
    return True


class Pair:
    """Store under test and its model; every action runs on both."""

    def __init__(self, real: Side, model: Side) -> None:
        self.real = real
        self.model = model

    def __iter__(self) -> Iterator[Side]:
        return iter((self.real, self.model))

    def agree(self, action: Callable[[Side], Any]) -> Any:
        """Run an action on both and compare; return the answer, or None for an error.

        Raises:
            AssertionError: answers, or errors, differ.
        """
        found, expected = (_outcome(side, action) for side in self)
        assert _exact(found) == _exact(expected), (
            f"the store: {found}\nthe model: {expected}"
        )
        kind, answer = expected
        return answer if kind == "answer" else None

    def write(self, places: Iterable[Place], action: Callable[[Side], Any]) -> None:
        """Run an action that writes keys, and compare the keys afterwards."""
        self.agree(action)
        for place in sorted(set(places)):
            self.agree(partial(Side.observe, place=place))

    def set_role(self, role: RoleState) -> None:
        """Set the same role on both."""
        for side in self:
            now = side.store.meta(ROLE_META)
            assert side.store.compare_and_set_meta(ROLE_META, now, role.to_meta())

    def close(self) -> None:
        """Close both."""
        for side in self:
            side.store.close()


def _outcome(side: Side, action: Callable[[Side], Any]) -> tuple[str, Any]:
    try:
        return "answer", action(side)
    except PendStorageError as error:
        return "error", side.error(error)


def _exact(value: Any) -> Any:
    """Convert a value so that equality also requires equal types, at every depth."""
    if is_dataclass(value) and not isinstance(value, type):
        names = [each.name for each in fields(value)]
        return type(value), [_exact(getattr(value, name)) for name in names]
    if isinstance(value, dict):
        return dict, {name: _exact(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return list, [_exact(item) for item in value]
    return type(value), value
