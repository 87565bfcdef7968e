"""What a schema module declares for each file: records of a type, or documents.

The declarations never refuse what the server may write tomorrow. A member that was always
there becomes a field with a default, others become optional; a value of another type than
its field's stays beside it; a file of doubtful or uneven records is kept as documents, which
take anything.
"""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from pend_storage._model.storable_text import is_storable
from pend_storage.inspect._model import (
    DirectoryReport,
    FieldReport,
    FileReport,
    Part,
    Reference,
    Shape,
)
from pend_storage.inspect._name_heuristics import class_name, snake, tells_amount

__all__ = [
    "DocumentFile",
    "Field",
    "Plan",
    "RecordFile",
    "is_regular",
    "meaning",
    "plan_of",
]

_RECORD_SHAPES: Final = frozenset(
    {
        Shape.LIST,
        Shape.MAP,
        Shape.WRAPPED_LIST,
        Shape.WRAPPED_MAP,
        Shape.JSON_LINES,
        Shape.COLLECTIONS,
        Shape.FILES,
    }
)
_PLAIN: Final = frozenset({"text", "integer", "number", "bool"})
_UNREADABLE: Final = frozenset({"json5", "no-permission", "too-large"})
"""Hazards of broken files that no store should claim: it would have them repaired."""
_TAKEN_FIELDS: Final = frozenset(
    {"extra", "legacy_position", "content_hash", "occurrence", "key", "record_key"}
    | {"bool", "date", "datetime", "dict", "field", "float", "int", "list", "ps", "str"}
)
"""Names of what the library keeps beside the fields; and names that a class body uses,
where a field of the same name would stand in their way."""
_TAKEN_CLASSES: Final = frozenset(
    {"Annotated", "BigInt", "Decimal", "TypeAlias", *dir(builtins)}
)
_TAKEN_COLLECTIONS: Final = frozenset(
    {"changes", "documents", "legacy_files", "meta", "quarantine"}
)
_MOST_FIELDS: Final = 60
_RARE: Final = 0.01
"""Of many fields, those in fewer records than this are not declared."""
_REGULAR: Final = 0.95
"""Share of the values that must have the type of their field."""
_LONGEST: Final = 60
_LONGEST_MEMBER: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a record type."""

    name: str
    member: str
    report: FieldReport
    is_optional: bool
    is_key: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFile:
    """A file whose records are of a type."""

    file: FileReport
    part: Part
    collection: str
    type_name: str
    fields: tuple[Field, ...]
    key: tuple[str, ...]
    """Names of fields; empty where the member name is the key, and where none is."""
    is_named: bool
    is_plain: bool
    """Whether the records are no objects, but the values of the only field."""
    undeclared: int
    """Members that are left to what is kept beside the fields."""
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class DocumentFile:
    """A file that is kept as documents."""

    file: FileReport
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a module declares."""

    records: tuple[RecordFile, ...]
    documents: tuple[DocumentFile, ...]
    left_out: tuple[DocumentFile, ...]
    """Files that cannot be declared, and why."""


def plan_of(report: DirectoryReport) -> Plan:
    """What a schema module for a directory declares."""
    records: list[RecordFile] = []
    documents: list[DocumentFile] = []
    left_out: list[DocumentFile] = []
    taken = _Taken(set(_TAKEN_COLLECTIONS), set(_TAKEN_CLASSES))
    for file in report.files:
        codes = {hazard.code for hazard in file.hazards}
        reason = _reason_against(file)
        if file.shape is Shape.BROKEN and codes & _UNREADABLE:
            left_out.append(DocumentFile(file, "it cannot be read"))
        elif file.shape is Shape.FILES and (reason is not None or _is_top(file)):
            left_out.append(DocumentFile(file, reason or "beside other files"))
        elif reason is not None:
            documents.append(DocumentFile(file, reason))
        else:
            about = [r for r in report.references if r.file == file.file]
            records += [
                _record_file(file, part, about, taken)
                for part in file.parts
                if _reason_of_part(file, part) is None or _is_loose(file, part)
            ]
    return Plan(tuple(records), tuple(documents), tuple(left_out))


def _is_top(file: FileReport) -> bool:
    """Whether the records are files of the directory itself."""
    return "/" not in file.file


@dataclass(frozen=True, slots=True)
class _Taken:
    """Names that are in use."""

    collections: set[str]
    classes: set[str]


def _reason_against(file: FileReport) -> str | None:
    """Why the records of a file are not of a type; None where some are."""
    if file.shape is Shape.BROKEN:
        return (
            f"it cannot be read ({file.hazards[0].code}): in quarantine till repaired"
        )
    if file.shape is Shape.DOCUMENTS:
        return "kept as documents, as --set said"
    if not file.is_sure:
        other = file.runner_up
        perhaps = "" if other is None else f" or {other.shape.value}"
        return f"{file.shape.value}{perhaps}: nobody can tell"
    if file.shape not in _RECORD_SHAPES or not file.parts:
        return file.shape.value
    reasons = [_reason_of_part(file, part) for part in file.parts]
    if None in reasons or any(_is_loose(file, part) for part in file.parts):
        return None
    return reasons[0]


def _is_loose(file: FileReport, part: Part) -> bool:
    """Whether records are kept whole, each as one value of any JSON.

    Documents would be the members of the file, of which one has all these records.
    """
    if not part.path or not part.records or not _may_be_noted(part.path[-1]):
        return False
    is_unnamed = any(hazard.code == "empty-name" for hazard in file.hazards)
    return _reason_of_part(file, part) is not None and not is_unnamed


def _reason_of_part(file: FileReport, part: Part) -> str | None:
    what = file.shape.value
    if not part.values or any(h.code == "empty-name" for h in file.hazards):
        return f"{what} {'with an empty name' if part.values else 'without records'}"
    if part.path and not _may_be_noted(part.path[-1]):
        return f"{what} whose records stand under an odd name"
    if len(part.values) > 1:
        return f"{what} whose records are of several types"
    if not part.are_objects:
        kind = part.values[0][0]
        is_plain = part.shape is Shape.MAP and kind in _PLAIN
        return None if is_plain else f"{what} of {kind} values"
    if part.more_fields:
        return f"{what} of records whose member names are data"
    return None if part.fields else f"{what} of empty objects"


def _key_of(part: Part) -> tuple[str, ...]:
    """The members that identify the records of a list; empty where none do in all."""
    named = {field.name: field for field in part.fields}
    is_list = part.shape not in {Shape.MAP, Shape.FILES}
    if is_list and all(_is_whole(named[name], part) for name in part.key):
        return part.key
    return ()


def _is_whole(field: FieldReport, part: Part) -> bool:
    return (
        field.kind in {"text", "integer"}
        and field.present == part.records
        and not field.nulls
        and field.shortest != 0
    )


def _record_file(
    file: FileReport, part: Part, references: Iterable[Reference], taken: _Taken
) -> RecordFile:
    stem = part.path[-1] if part.path else PurePosixPath(file.file).stem
    if part.shape is Shape.FILES:
        stem = PurePosixPath(file.file).parent.name
    if part.path == ("_default",):  # as TinyDB calls its only table
        stem = PurePosixPath(file.file).stem
    collection = _free(snake(stem), taken.collections)
    is_named = part.shape in {Shape.MAP, Shape.FILES}
    is_loose = _is_loose(file, part)
    declared = [_whole(part)] if is_loose else [*_declared(part)]
    names = {"id"} if is_named else set()
    key = () if is_loose else _key_of(part)
    fields = [*_fields(part, declared, key, names)]
    by_member = {field.member: field.name for field in fields}
    return RecordFile(
        file=file,
        part=part,
        collection=collection,
        type_name=_type_name(stem, taken.classes),
        fields=tuple(fields),
        key=tuple(by_member[name] for name in key),
        is_named=is_named,
        is_plain=is_loose or not part.are_objects,
        undeclared=0 if is_loose else max(0, len(part.fields) - len(declared)),
        references=tuple(r for r in references if r.path == part.path),
    )


def _whole(part: Part) -> FieldReport:
    """A field for records of any kind."""
    return FieldReport(
        name="body",
        present=part.records,
        nulls=0,
        types=(),
        distinct=0,
        distinct_is_exact=False,
        low=None,
        high=None,
        shortest=None,
        longest=None,
        format=None,
        choices=(),
        is_sensitive=False,
        is_unique=False,
    )


def _declared(part: Part) -> Iterator[FieldReport]:
    """The fields that are worth a column: all, unless there are very many."""
    if not part.are_objects:
        assert part.value is not None  # noqa: S101 - of plain values
        yield part.value
        return
    many = len(part.fields) > _MOST_FIELDS
    for number, field in enumerate(part.fields):
        is_rare = field.present < _RARE * part.records or number >= 2 * _MOST_FIELDS
        if field.name in part.key or (
            _may_be_noted(field.name) and not (many and is_rare)
        ):
            yield field


def _may_be_noted(member: str) -> bool:
    """Whether a store may note the name of a member, as it does where it is absent."""
    return len(member) <= _LONGEST_MEMBER and is_storable(member)


def _fields(
    part: Part, declared: Sequence[FieldReport], key: Sequence[str], names: set[str]
) -> Iterator[Field]:
    for report in declared:
        everywhere = report.present == part.records and not report.nulls
        yield Field(
            name=_field_name(report.name, names),
            member=report.name,
            report=report,
            is_optional=not (everywhere and is_regular(report)),
            is_key=report.name in key,
        )


def is_regular(field: FieldReport) -> bool:
    """Whether nearly all values of a field have one type."""
    return bool(field.types) and field.types[0][1] >= _REGULAR


def meaning(field: FieldReport) -> str:
    """What the values of a field mean: ``any`` where they are of several types."""
    if not is_regular(field):
        return "any"
    kind = field.types[0][0]
    if kind in {"integer", "number"} and not field.format and tells_amount(field.name):
        return "decimal"  # whole numbers today, and perhaps not tomorrow
    if kind == "integer":
        low, high = field.low or 0, field.high or 0
        is_large = not -(2**63) <= low <= high < 2**63
        return field.format or ("large" if is_large else kind)
    if kind == "text" and field.format in {"time", "date", "amount"}:
        return field.format
    return kind


def _field_name(member: str, names: set[str]) -> str:
    name = snake(member, _LONGEST)
    if name in _TAKEN_FIELDS or keyword.iskeyword(name) or keyword.issoftkeyword(name):
        name = f"{name}_"
    return _free(name, names)


def _type_name(stem: str, taken: set[str]) -> str:
    name = class_name(stem)
    return _free(
        f"{name}Record" if name in _TAKEN_CLASSES else name, taken, separator=""
    )


def _free(name: str, taken: set[str], separator: str = "_") -> str:
    """The name, or the next one that nothing is called; it is taken then."""
    found, number = name, 2
    while found in taken:
        found, number = f"{name}{separator}{number}", number + 1
    taken.add(found)
    return found
