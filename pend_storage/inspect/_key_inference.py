"""Key inference: fields that identify a record, and fields that refer to another file."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pend_storage.inspect._model import FieldReport, Part, Reference, Shape
from pend_storage.inspect._name_heuristics import singular, words

__all__ = ["Keyed", "key_candidates", "key_duplicates", "references"]

_NEARLY_ALL: Final = 0.98
_INCLUDED: Final = 0.99
_FEW: Final = 3
_NAMED: Final = ("id", "_id", "uuid", "guid", "key", "_key", "uid", "pk")
_GOOD_FORMATS: Final = frozenset({"uuid", "hash"})
_NO_KEYS: Final = frozenset({"time", "date", "amount", "seconds", "milliseconds"})
_TELLING: Final = frozenset({"slug", "email", "code", "username", "login"})
_LONGEST: Final = 160
"""Characters of a key: an index holds 640 bytes."""


def key_candidates(fields: Sequence[FieldReport], records: int) -> tuple[str, ...]:
    """List the fields that may identify the records of a list, the best first.

    A field with the name of a key may have a few duplicates: they are mistakes. Other
    fields must be unique, and have the format of an identity.
    """
    ranked = [
        (rank, place, field.name)
        for place, field in enumerate(fields)
        if (rank := _rank(field, place, records)) is not None
    ]
    return tuple(name for _, _, name in sorted(ranked))


def _rank(field: FieldReport, place: int, records: int) -> int | None:
    """Rank a field as a key; 0 is the best, None where it cannot be one."""
    filled = field.present - field.nulls
    if not _may_identify(field, filled, records):
        return None
    last = (words(field.name) or [""])[-1]
    if field.name.lower() in _NAMED:
        return 0
    if last in {"id", "uuid", "key", "hash"}:
        return 1 if place == 0 else 2
    if not field.is_unique or records < _FEW:
        return None
    if field.format in _GOOD_FORMATS or last in _TELLING:
        return 3
    return 5 if place == 0 and last in {"number", "no", "nr"} else None


def _may_identify(field: FieldReport, filled: int, records: int) -> bool:
    """Return whether nearly all records have a unique value in a field."""
    if not field.types or field.format in _NO_KEYS:
        return False
    kind, share = field.types[0]
    return (
        kind in {"text", "integer"}
        and share >= _NEARLY_ALL
        and filled >= max(_NEARLY_ALL * records, 1)
        and field.distinct >= _NEARLY_ALL * filled
        and field.shortest != 0  # a key is never empty
        and (field.longest or 0) <= _LONGEST
    )


def key_duplicates(fields: Sequence[FieldReport], key: Sequence[str]) -> int:
    """Count the records that share the value of the key with another, at least."""
    if len(key) != 1:
        return 0
    field = next(field for field in fields if field.name == key[0])
    return max(0, field.present - field.nulls - field.distinct)


@dataclass(frozen=True, slots=True)
class Keyed:
    """Part of a file, with the values of its columns as numbers."""

    file: str
    part: Part
    tracked: Mapping[str, array[int]]
    """Values of each column as numbers; see ``Column.tracked``."""
    names: array[int]
    """Hashes of the member names of a map."""

    def keys(self) -> array[int] | None:
        """Return the values that identify its records; None where none do."""
        if self.part.shape in {Shape.MAP, Shape.FILES}:
            return self.names
        return self.tracked.get(self.part.key[0]) if len(self.part.key) == 1 else None


def references(parts: Sequence[Keyed]) -> tuple[Reference, ...]:
    """Find the fields of which nearly all values are keys of another part."""
    found: list[Reference] = []
    for target in parts:
        keys = target.keys()
        if keys is None or len(keys) < _FEW:
            continue
        known = set(keys)
        for part in parts:
            found.extend(_into(target, known, part))
    return tuple(sorted(found, key=lambda r: (r.file, r.path, r.field or "", r.target)))


def _into(target: Keyed, known: set[int], part: Keyed) -> Iterator[Reference]:
    same = part is target
    if part.part.shape is Shape.OBJECT:
        return
    for field in part.part.fields:
        values = part.tracked.get(field.name)
        is_own_key = same and (field.name,) == part.part.key
        if not values or is_own_key or not _may_refer(field, target):
            continue
        share = _share(values, known)
        # A map often repeats its member names in a field: that refers to nothing.
        if share >= _INCLUDED and not (same and _is_copy_of_name(part, field)):
            yield Reference(
                file=part.file,
                path=part.part.path,
                field=field.name,
                target=target.file,
                target_path=target.part.path,
                share=share,
            )
    if not same and part.part.shape is Shape.MAP and len(part.names) >= _FEW:
        share = _share(part.names, known)
        if share >= _INCLUDED:
            yield Reference(
                file=part.file,
                path=part.part.path,
                field=None,
                target=target.file,
                target_path=target.part.path,
                share=share,
            )


def _is_copy_of_name(part: Keyed, field: FieldReport) -> bool:
    """Return whether a field of a map repeats the member name."""
    return part.part.shape is Shape.MAP and field.is_unique


def _share(values: array[int], known: set[int]) -> float:
    if values[0] not in known and values[-1] not in known:
        return (
            0.0  # nearly every pair of columns ends here, without a set of its values
        )
    distinct = set(values)
    return len(distinct & known) / len(distinct)


def _may_refer(field: FieldReport, target: Keyed) -> bool:
    """Return whether a field may refer to a target, by its type, format and name."""
    if field.kind not in {"text", "integer"} or field.format in {"seconds", "time"}:
        return False
    if field.kind == "text" and field.distinct >= _FEW:
        return True
    # Small numbers are among any keys, so the name must mention the target as well.
    called = {singular(word) for word in words(target.file.split("/")[-1])} | {
        singular(word) for name in target.part.path for word in words(name)
    }
    found = {singular(word) for word in words(field.name)}
    return not called.isdisjoint(found - {"json", "id"})
