"""Changes of a schema: how a declared one differs from the one a store has. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, Final

from pend_storage._model.evolving import Evolve
from pend_storage._model.fields import Kind
from pend_storage._schema_note import CollectionShape, Description, FieldShape
from pend_storage._shown import cut
from pend_storage.schema import Schema

__all__ = [
    "ChangeNeed",
    "Evolution",
    "SchemaChange",
    "changes_between",
    "former_names",
    "in_words",
    "only_added",
    "unmet",
]

_MOST_SHOWN: Final = 12
"""Changes that a message names."""
_OF_ANY_SIZE: Final = frozenset({Kind.STR, Kind.BYTES, Kind.INT, Kind.DECIMAL})
_WIDER: Final = frozenset(
    {
        (Kind.INT, Kind.DECIMAL),
        (Kind.OBJECT, Kind.JSON),
        (Kind.LIST, Kind.JSON),
        (Kind.CHOICE, Kind.STR),
        (Kind.CHOICE, Kind.INT),
    }
)
"""Kinds that take every value of another one as it is."""
_MAY_FIT: Final = frozenset(
    {
        (Kind.JSON, Kind.OBJECT),
        (Kind.JSON, Kind.LIST),
        (Kind.STR, Kind.CHOICE),
        (Kind.INT, Kind.CHOICE),
    }
)


class ChangeNeed(StrEnum):
    """Requirement of a change of a schema, the least first."""

    NOTHING = "nothing"
    """It is an addition that older programs need not know."""
    MIGRATION = "migration"
    """All stored records fit, but older programs would not understand new ones."""
    DATA = "data"
    """The stored records must fit, and are checked."""
    CONSENT = "consent"
    """Stored data would be deleted."""
    CONVERSION = "conversion"
    """A function must convert the stored values."""
    HAND = "hand"
    """No command makes the change."""


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """Difference between the schema that a store has noted and a declared one."""

    collection: str
    field: str | None
    """None where the collection is meant."""
    need: ChangeNeed
    words: str
    was: str | None = None
    """The former name of a renamed field."""
    has_function: bool = False
    """True if the function that it needs is declared."""
    is_new: bool = False
    """It adds the collection or the field."""
    is_index: bool = False
    """The field is in an index now, which takes values up to a size only."""

    @property
    def place(self) -> str:
        """Collection and field."""
        return (
            self.collection if self.field is None else f"{self.collection}.{self.field}"
        )


@dataclass(frozen=True, slots=True)
class Evolution:
    """Result of a migration, or of its trial."""

    store: str
    changes: tuple[SchemaChange, ...]
    records: Mapping[str, int]
    """How many records of each collection were changed or deleted."""
    statements: tuple[str, ...] = ()
    """Of a database: what was run, where only that was asked for."""


def changes_between(
    former: Description, wanted: Description, schema: Schema
) -> tuple[SchemaChange, ...]:
    """Compare two schemas.

    Args:
        former: noted in the store.
        wanted: noted of the declared schema.
        schema: the declared schema, which says what was renamed and how to convert.
    """
    return tuple(_changes(former, wanted, schema))


def _changes(
    former: Description, wanted: Description, schema: Schema
) -> Iterator[SchemaChange]:
    for name, new in wanted.collections.items():
        old = former.collections.get(name)
        if old is None:
            words = f"the collection {name} is added"
            yield SchemaChange(name, None, ChangeNeed.NOTHING, words, is_new=True)
        elif old != new:
            yield from _collection_changes(name, old, new, schema[name].evolve)
    for name in former.collections.keys() - wanted.collections.keys():
        words = f"the collection {name} is removed"
        yield SchemaChange(name, None, ChangeNeed.CONSENT, words)


def _collection_changes(
    name: str, old: CollectionShape, new: CollectionShape, evolve: Evolve
) -> Iterator[SchemaChange]:
    names = former_names(old, new, evolve)
    for field, shape in new.fields.items():
        was = names.get(field)
        if was is None:
            yield _added(name, field, shape, evolve)
            continue
        if was != field:
            words = f"{name}.{was} is called {field} now"
            yield SchemaChange(name, field, ChangeNeed.MIGRATION, words, was)
        yield from _field_changes(name, field, old.fields[was], shape, evolve)
    for field in old.fields.keys() - set(names.values()):
        words = f"{name}.{field} is removed"
        yield SchemaChange(name, field, ChangeNeed.CONSENT, words)
    if names.get(new.key) != old.key:
        words = f"the key of {name} changes from {old.key} to {new.key}"
        yield SchemaChange(name, new.key, ChangeNeed.HAND, words)
    yield from _rule_changes(name, old, new, names)


def former_names(
    old: CollectionShape, new: CollectionShape, evolve: Evolve
) -> dict[str, str]:
    """Return the former name of each field of the new shape that was there before."""
    names = {}
    for field in new.fields:
        was = evolve.renamed_from.get(field)
        if field in old.fields:
            names[field] = field
        elif was in old.fields and was not in new.fields:
            names[field] = was
    return names


def _added(name: str, field: str, shape: FieldShape, evolve: Evolve) -> SchemaChange:
    words = f"{name}.{field} is added"
    if field in evolve.convert:
        return SchemaChange(
            name, field, ChangeNeed.CONVERSION, words, has_function=True, is_new=True
        )
    if shape.has_default:
        return SchemaChange(name, field, ChangeNeed.NOTHING, words, is_new=True)
    words += " without a default"
    need = ChangeNeed.MIGRATION if shape.optional else ChangeNeed.CONVERSION
    return SchemaChange(name, field, need, words, is_new=True)


def _field_changes(
    name: str, field: str, old: FieldShape, new: FieldShape, evolve: Evolve
) -> Iterator[SchemaChange]:
    found = [(need, words) for need, words in _differences(old, new) if words]
    worst = max((need for need, _ in found), key=_rank, default=ChangeNeed.NOTHING)
    if _rank(worst) >= _rank(ChangeNeed.DATA) and field in evolve.convert:
        said = "; ".join(f"{name}.{field} {words}" for _, words in found)
        yield SchemaChange(name, field, ChangeNeed.CONVERSION, said, has_function=True)
        return
    for need, words in found:
        yield SchemaChange(name, field, need, f"{name}.{field} {words}")
    if new.indexed and not old.indexed and Kind(new.kind) in _OF_ANY_SIZE:
        words = f"{name}.{field} is indexed now"
        yield SchemaChange(name, field, ChangeNeed.NOTHING, words, is_index=True)


def _rank(need: ChangeNeed) -> int:
    return [*ChangeNeed].index(need)


def _differences(old: FieldShape, new: FieldShape) -> Iterator[tuple[ChangeNeed, str]]:
    if old.kind != new.kind:
        yield _kind_change(old, new), f"changes from {old.kind} to {new.kind}"
    elif old.choices != new.choices:
        fits = all(choice in new.choices for choice in old.choices)
        need = ChangeNeed.MIGRATION if fits else ChangeNeed.DATA
        yield need, f"takes {_listed(new.choices)} instead of {_listed(old.choices)}"
    if old.optional != new.optional:
        need = ChangeNeed.MIGRATION if new.optional else ChangeNeed.DATA
        yield need, "may be null now" if new.optional else "must not be null any more"
    if old.limit != new.limit:
        is_narrower = any(_narrows(n, old.limit, new.limit) for n in _BOUNDS)
        need = ChangeNeed.DATA if is_narrower else ChangeNeed.MIGRATION
        yield need, f"is limited to {_limits(new)} instead of {_limits(old)}"
    if old.shape != new.shape and old.kind == new.kind:
        yield ChangeNeed.DATA, f"holds {new.shape or 'any JSON'} now"
    if (old.has_default, old.default) != (new.has_default, new.default):
        yield ChangeNeed.MIGRATION, "has another default"


def _kind_change(old: FieldShape, new: FieldShape) -> ChangeNeed:
    before, after = Kind(old.kind), Kind(new.kind)
    if before is Kind.CHOICE and _is_text(old.choices) != (after is Kind.STR):
        return ChangeNeed.CONVERSION
    if after is Kind.CHOICE and _is_text(new.choices) != (before is Kind.STR):
        return ChangeNeed.CONVERSION
    if (before, after) in _WIDER:
        return ChangeNeed.MIGRATION
    return ChangeNeed.DATA if (before, after) in _MAY_FIT else ChangeNeed.CONVERSION


def _is_text(choices: list[Any]) -> bool:
    return bool(choices) and isinstance(choices[0], str)


def _listed(values: list[Any]) -> str:
    return cut(", ".join(map(repr, values)), 200)


def _limits(shape: FieldShape) -> str:
    return (
        ", ".join(f"{name} {value}" for name, value in shape.limit.items()) or "nothing"
    )


_BOUNDS: Final = {
    "ge": 1,
    "gt": 1,
    "min_length": 1,
    "le": -1,
    "lt": -1,
    "max_length": -1,
    "digits": -1,
    "places": -1,
    "pattern": 0,
}
"""Each limit, and whether more of it takes fewer values."""


def _narrows(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    before, after = old.get(name), new.get(name)
    if after is None or before == after:
        return False
    if before is None or not _BOUNDS[name]:
        return True
    if name == "places" and "digits" in new:
        return True  # more of them leave fewer before the point
    try:
        difference = Decimal(str(after)) - Decimal(str(before))
    except InvalidOperation:  # times, which order as their texts do
        difference = Decimal(1 if str(after) > str(before) else -1)
    return difference * _BOUNDS[name] > 0


def _rule_changes(
    name: str, old: CollectionShape, new: CollectionShape, names: Mapping[str, str]
) -> Iterator[SchemaChange]:
    """Compare uniqueness, references and indexes, by the present names of fields."""
    now = {was: field for field, was in names.items()}
    before = {tuple(now.get(f, f) for f in group) for group in old.unique}
    wanted = {tuple(group) for group in new.unique}
    for group in sorted(wanted - before):
        words = f"{name}: {' with '.join(group)} must be unique"
        yield SchemaChange(name, group[0], ChangeNeed.DATA, words)
    for group in sorted(before - wanted):
        words = f"{name}: {' with '.join(group)} need not be unique any more"
        yield SchemaChange(name, group[0], ChangeNeed.MIGRATION, words)
    targets = {now.get(f, f): target for f, target in old.references.items()}
    for field, target in new.references.items():
        if targets.get(field) != target:
            words = f"{name}.{field} refers to {target} now"
            yield SchemaChange(name, field, ChangeNeed.DATA, words)
    for field in sorted(targets.keys() - new.references.keys()):
        words = f"{name}.{field} does not refer to {targets[field]} any more"
        yield SchemaChange(name, field, ChangeNeed.MIGRATION, words)
    if (old.indexes, old.search) != (new.indexes, new.search):
        words = f"{name} has other indexes"
        yield SchemaChange(name, None, ChangeNeed.NOTHING, words)


def only_added(changes: Iterable[SchemaChange]) -> bool:
    """Return whether changes are additions only: older programs can go on with them."""
    return all(change.need is ChangeNeed.NOTHING for change in changes)


def in_words(changes: Iterable[SchemaChange]) -> str:
    """Describe changes for a message; the first of them, and the number of the rest."""
    found = [change.words for change in changes]
    more = len(found) - _MOST_SHOWN
    said = "; ".join(found[:_MOST_SHOWN])
    return f"{said}; and {more} more" if more > 0 else said or "nothing"


def unmet(
    changes: Iterable[SchemaChange], *, drop: bool, filled: Collection[str]
) -> list[str]:
    """List the unmet needs of changes, each as a sentence with its remedy.

    Args:
        changes: of the schema.
        drop: whether the data of removed fields and collections may be deleted.
        filled: collections that have records: others have nothing to convert.
    """
    found = []
    for change in changes:
        match change.need:
            case ChangeNeed.CONSENT if not drop:
                found.append(
                    f"{change.words}: agree by --drop (drop=True) to what is stored in it "
                    "being deleted, or name what it has become by "
                    "evolve=ps.Evolve(renamed_from=...)"
                )
            case ChangeNeed.CONVERSION if (
                not change.has_function and change.collection in filled
            ):
                found.append(
                    f"{change.words}: say what becomes of the stored values by "
                    f"evolve=ps.Evolve(convert={{{change.field!r}: ...}})"
                )
            case ChangeNeed.HAND:
                found.append(
                    f"{change.words}: declare a new collection, and copy the records"
                )
            case _:
                pass
    return found
