"""Two stores driven together: what each answered, and whether that is the same."""

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
"""Collection and key."""

RIGHT = "what is there"
"""Stands for the value that a meta entry has."""
_FAR = 2**62
"""A version that no store has reached."""


class Age(Enum):
    """Which version to demand of a key; each store knows its own number for it."""

    ANY = "any"
    NOTHING = "nothing"
    """That there is no record."""
    PRESENT = "present"
    """What is there, or was there last."""
    FORMER = "former"
    """What was there before."""
    UNKNOWN = "unknown"
    """What never was there."""


class Side:
    """One of the two stores, and what it was seen to do."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.history: dict[Place, list[int]] = {}
        """The versions that each key has had, in the order of the writes."""
        self.incoming: Sequence[ChangedRecord] = ()
        """What a follower is to apply next."""
        self.followed = 0
        """How far its followers are."""
        self.committed: list[tuple[Batch, tuple[int, ...]]] = []
        """Batches that are in the change log, and the versions that they got."""
        self.open: dict[int, Transaction] = {}
        """The transactions under way, several at once."""

    # -- versions ---------------------------------------------------------------------

    def version(self, place: Place, age: Age) -> int | None:
        """The version to demand."""
        history = self.history.get(place, [])
        match age:
            case Age.ANY:
                return None
            case Age.NOTHING:
                return 0
            case Age.PRESENT:
                return history[-1] if history else 0
            case Age.FORMER:
                return history[-2] if len(history) > 1 else _FAR
            case Age.UNKNOWN:
                return _FAR

    def checks(self, wanted: Iterable[tuple[Place, Age]]) -> dict[Place, int]:
        """The checks of a batch."""
        found = {place: self.version(place, age) for place, age in wanted}
        return {place: v for place, v in found.items() if v is not None}

    def ordinal(self, place: Place, version: int) -> int | str:
        """What a version means: which write of the key it came from."""
        if version in {0, _FAR}:
            return version
        history = self.history.get(place, [])
        return history.index(version) + 1 if version in history else "not seen before"

    def learn(self, place: Place) -> list[Any]:
        """What a key holds now; if its version is another, it must have grown."""
        name, key = place
        rows = self.store.read(name, [key], deleted=True)
        history = self.history.setdefault(place, [])
        for row in rows.values():
            if row.version not in history[-1:]:
                self._note(place, row.version)
        return self.rows(name, rows.values())

    def commit(self, batch: Batch, epoch: int | None) -> list[bool]:
        """Commit a batch; gives which of its operations wrote something."""
        versions = self.store.commit(batch, epoch=epoch)
        self._remember(batch, versions)
        return [version > 0 for version in versions]

    def _remember(self, batch: Batch, versions: tuple[int, ...]) -> None:
        if any(versions):  # else it has no entry, and would be done again
            self.committed.append((batch, versions))

    def answers(self, batches: Sequence[Batch], epoch: int | None) -> list[Any]:
        """Commit each; what was written, and what was refused, in the same order.

        The versions of several writes of one key are learned here: nobody could see the
        earlier ones afterwards.
        """
        outcomes = self.store.commit_each(batches, epoch=epoch)
        shown: list[Any] = []
        done: dict[str, Outcome] = {}
        for batch, outcome in zip(batches, outcomes, strict=True):
            if batch.token in done:
                assert outcome == done[batch.token], "it was committed twice"
                continue
            if isinstance(outcome, PendStorageError):
                shown.append(self.error(outcome))
                continue
            self._remember(batch, outcome)
            if any(outcome):
                done[batch.token] = outcome
            shown.append([version > 0 for version in outcome])
            for operation, version in zip(batch.operations, outcome, strict=True):
                if version:
                    self._note((operation.collection, operation.key), version)
        return shown

    def _note(self, place: Place, version: int) -> None:
        history = self.history.setdefault(place, [])
        assert version > max(history, default=0), f"{history}, then {version}"
        history.append(version)

    # -- answers, made comparable -----------------------------------------------------

    def rows(self, name: str, rows: Iterable[Row]) -> list[Any]:
        """Rows with their versions made comparable."""
        return [
            (row.key, self.ordinal((name, row.key), row.version), row.record)
            for row in rows
        ]

    def everything(self, name: str) -> list[Any]:
        """All rows of a collection, tombstones too."""
        return self.rows(name, self.store.scan(name, deleted=True))

    def all_found(self, name: str) -> Any:
        """All records of a collection, by a query."""
        found = self.store.collection(name).find().items
        return found, self.store.collection(name).count()

    def shown(self, place: Place, found: Versioned[Any] | None) -> Any:
        """A record with its version made comparable."""
        return found and (found.record, self.ordinal(place, found.version))

    def seen(self, place: Place) -> Any:
        """What is under a key, with its version."""
        name, key = place
        return self.shown(place, self.store.collection(name).versioned(key))

    def seen_inside(self, which: int, place: Place) -> Any:
        """What a transaction sees under a key."""
        name, key = place
        return self.shown(place, self.inside(which).collection(name).versioned(key))

    def log(self) -> list[ChangedRecord]:
        """The whole change log."""
        return [record for change in self.store.changes() for record in change.records]

    def shown_log(self) -> list[Any]:
        """The whole change log, made comparable."""
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

    def news(self) -> tuple[list[ChangedRecord], int]:
        """What the followers have not got yet, and how far it reaches."""
        changes = list(self.store.changes(after=self.followed))
        records = [record for change in changes for record in change.records]
        return records, changes[-1].sequence if changes else self.followed

    def would_keep_rules(self) -> bool:
        """Whether what is to be applied would leave no reference or unique value wrong."""
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
        return all(_keeps_rules(spec, after) for spec in self.store.schema)

    # -- transactions -----------------------------------------------------------------

    def inside(self, which: int) -> Transaction:
        """A transaction, opened when it is first asked for."""
        return self.open.setdefault(which, self.store.transaction())

    def written_inside(self, which: int) -> list[Place]:
        """The keys that a transaction is going to write."""
        return list(self.inside(which)._work.written)  # noqa: SLF001 - only it knows

    def end(self, which: int) -> list[Place]:
        """Commit a transaction; gives what it says to have written."""
        transaction = self.inside(which)
        del self.open[which]
        transaction.commit()
        return sorted(place for place, v in transaction.versions.items() if v)

    def abandon(self, which: int) -> None:
        """Leave a transaction without committing it."""
        self.open.pop(which, None)

    # -- meta -------------------------------------------------------------------------

    def set_meta(self, name: str, to: Any, was: Any) -> Any:
        """Compare and set; ``was`` may be RIGHT, which is what is there."""
        expected = self.store.meta(name) if was is RIGHT else was
        done = self.store.compare_and_set_meta(name, expected, to)
        return done, self.store.meta(name)

    # -- errors -----------------------------------------------------------------------

    def error(self, error: PendStorageError) -> Any:
        """An error's class and attributes, versions made comparable."""
        facts = {
            k: v for k, v in vars(error).items() if k not in {"store", "__notes__"}
        }
        if isinstance(error, Conflict):
            place = (error.collection, error.key)
            for name in ("expected", "actual"):
                facts[name] = self.ordinal(place, facts[name])
        return type(error).__name__, facts


def _keeps_rules(spec: CollectionSpec, after: dict[str, dict[str, Row]]) -> bool:
    living = [row.record for row in after[spec.name].values() if row.record is not None]
    for name, target in spec.references.items():
        for key in {getattr(record, name) for record in living} - {None}:
            row = after[target].get(key)
            if row is None or row.record is None:
                return False
    for group in spec.unique:
        values = [tuple(getattr(record, name) for name in group) for record in living]
        whole = [value for value in values if None not in value]
        if len(whole) != len(set(whole)):
            return False
    return True


class Pair:
    """A store and its model; every action is done on both."""

    def __init__(self, real: Side, model: Side) -> None:
        self.real = real
        self.model = model

    def __iter__(self) -> Iterator[Side]:
        return iter((self.real, self.model))

    def agree(self, action: Callable[[Side], Any]) -> Any:
        """Do something on both, and compare; gives the answer, None for an error."""
        found, expected = (_outcome(side, action) for side in self)
        assert _exact(found) == _exact(expected), (
            f"the store: {found}\nthe model: {expected}"
        )
        kind, answer = expected
        return answer if kind == "answer" else None

    def write(self, places: Iterable[Place], action: Callable[[Side], Any]) -> None:
        """Do something that writes these keys, and look what became of them."""
        self.agree(action)
        for place in sorted(set(places)):
            self.agree(partial(Side.learn, place=place))

    def set_role(self, role: RoleState) -> None:
        """Give both the same role."""
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
    """A value that is equal to another one only if all types in it are the same too."""
    if is_dataclass(value) and not isinstance(value, type):
        names = [each.name for each in fields(value)]
        return type(value), [_exact(getattr(value, name)) for name in names]
    if isinstance(value, dict):
        return dict, {name: _exact(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return list, [_exact(item) for item in value]
    return type(value), value
