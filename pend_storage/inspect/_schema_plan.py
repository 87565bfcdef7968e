"""Schema plan: the declaration of each file, as records of a type or as documents.

The declarations never refuse what the server may write later. A member that was present in
every record becomes a field with a default, others become optional; a value of another
type than its field's is kept beside it; a file of doubtful or uneven records is kept as
documents, which accept any JSON.
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
from pend_storage.inspect._name_heuristics import class_name, is_amount_name, snake

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
"""Hazards of broken files that no layout should claim: a store would ask for a repair."""
_RESERVED_FIELDS: Final = frozenset(
    {"extra", "legacy_position", "content_hash", "occurrence", "key", "record_key"}
    | {"bool", "date", "datetime", "dict", "field", "float", "int", "list", "ps", "str"}
)
"""Names of values that the library keeps beside the fields; and names that a class body
uses, which a field of the same name would shadow."""
_RESERVED_CLASSES: Final = frozenset(
    {"Annotated", "BigInt", "Decimal", "TypeAlias", *dir(builtins)}
)
_RESERVED_COLLECTIONS: Final = frozenset(
    {"changes", "documents", "legacy_files", "meta", "quarantine"}
)
_MOST_FIELDS: Final = 60
_RARE: Final = 0.01
"""Share of the records below which a field is not declared, where there are many."""
_REGULAR: Final = 0.95
"""Share of the values that must have the type of their field."""
_LONGEST: Final = 60
_LONGEST_MEMBER: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Field of a record type."""

    name: str
    member: str
    report: FieldReport
    is_optional: bool
    is_key: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFile:
    """File whose records are of a type."""

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
    """Number of members that are kept beside the fields."""
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class DocumentFile:
    """File that is kept as documents, with the reason."""

    file: FileReport
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Declarations of a schema module."""

    records: tuple[RecordFile, ...]
    documents: tuple[DocumentFile, ...]
    left_out: tuple[DocumentFile, ...]
    """Files that cannot be declared, with the reasons."""


def plan_of(report: DirectoryReport) -> Plan:
    """Plan the declarations of a schema module for a directory."""
    records: list[RecordFile] = []
    documents: list[DocumentFile] = []
    left_out: list[DocumentFile] = []
    used = _UsedNames(set(_RESERVED_COLLECTIONS), set(_RESERVED_CLASSES))
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
                _record_file(file, part, about, used)
                for part in file.parts
                if _reason_of_part(file, part) is None or _is_untyped(file, part)
            ]
    return Plan(tuple(records), tuple(documents), tuple(left_out))


def _is_top(file: FileReport) -> bool:
    """Return whether the records are files of the directory itself."""
    return "/" not in file.file


@dataclass(frozen=True, slots=True)
class _UsedNames:
    """Names that are reserved or used already."""

    collections: set[str]
    classes: set[str]


def _reason_against(file: FileReport) -> str | None:
    """Return the reason why a file cannot be declared as records, or None."""
    if file.shape is Shape.BROKEN:
        return (
            f"it cannot be read ({file.hazards[0].code}): in quarantine till repaired"
        )
    if file.shape is Shape.DOCUMENTS:
        return "kept as documents, as --set said"
    if not file.is_sure:
        other = file.runner_up
        perhaps = "" if other is None else f" or {other.shape.value}"
        return f"{file.shape.value}{perhaps}: the shape is uncertain"
    if file.shape not in _RECORD_SHAPES or not file.parts:
        return file.shape.value
    reasons = [_reason_of_part(file, part) for part in file.parts]
    if None in reasons or any(_is_untyped(file, part) for part in file.parts):
        return None
    return reasons[0]


def _is_untyped(file: FileReport, part: Part) -> bool:
    """Return whether records are declared untyped, each as one value of any JSON."""
    # As documents, all these records would be one: the member of the file that has them.
    if not part.path or not part.records or not _is_storable_name(part.path[-1]):
        return False
    is_unnamed = any(hazard.code == "empty-name" for hazard in file.hazards)
    return _reason_of_part(file, part) is not None and not is_unnamed


def _reason_of_part(file: FileReport, part: Part) -> str | None:
    what = file.shape.value
    if not part.values or any(h.code == "empty-name" for h in file.hazards):
        return f"{what} {'with an empty name' if part.values else 'without records'}"
    if part.path and not _is_storable_name(part.path[-1]):
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
    """Return the members that identify all records of a list; empty where none do."""
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
    file: FileReport, part: Part, references: Iterable[Reference], used: _UsedNames
) -> RecordFile:
    stem = part.path[-1] if part.path else PurePosixPath(file.file).stem
    if part.shape is Shape.FILES:
        stem = PurePosixPath(file.file).parent.name
    if part.path == ("_default",):  # TinyDB's name of its default table
        stem = PurePosixPath(file.file).stem
    collection = _unused(snake(stem), used.collections)
    is_named = part.shape in {Shape.MAP, Shape.FILES}
    is_untyped = _is_untyped(file, part)
    declared = [_untyped_field(part)] if is_untyped else [*_declared(part)]
    names = {"id"} if is_named else set()
    key = () if is_untyped else _key_of(part)
    fields = [*_fields(part, declared, key, names)]
    by_member = {field.member: field.name for field in fields}
    return RecordFile(
        file=file,
        part=part,
        collection=collection,
        type_name=_type_name(stem, used.classes),
        fields=tuple(fields),
        key=tuple(by_member[name] for name in key),
        is_named=is_named,
        is_plain=is_untyped or not part.are_objects,
        undeclared=0 if is_untyped else max(0, len(part.fields) - len(declared)),
        references=tuple(r for r in references if r.path == part.path),
    )


def _untyped_field(part: Part) -> FieldReport:
    """Return the only field of an untyped record."""
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
    """Yield the fields to declare: all of them, unless there are very many."""
    if not part.are_objects:
        assert part.value is not None  # noqa: S101 - of plain values
        yield part.value
        return
    # A table of hundreds of columns is unwieldy; undeclared members are kept in ``extra``.
    many = len(part.fields) > _MOST_FIELDS
    for number, field in enumerate(part.fields):
        is_rare = field.present < _RARE * part.records or number >= 2 * _MOST_FIELDS
        if field.name in part.key or (
            _is_storable_name(field.name) and not (many and is_rare)
        ):
            yield field


def _is_storable_name(member: str) -> bool:
    """Return whether a store can record a member's name, as it does for an absent one."""
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
    """Return whether nearly all values of a field have one type."""
    return bool(field.types) and field.types[0][1] >= _REGULAR


def meaning(field: FieldReport) -> str:
    """Infer the meaning of a field's values; ``any`` where they are of several types."""
    if not is_regular(field):
        return "any"
    kind = field.types[0][0]
    is_number = kind in {"integer", "number"} and not field.format
    if is_number and is_amount_name(field.name):
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
    is_keyword = keyword.iskeyword(name) or keyword.issoftkeyword(name)
    if is_keyword or name in _RESERVED_FIELDS:
        name = f"{name}_"
    return _unused(name, names)


def _type_name(stem: str, used: set[str]) -> str:
    name = class_name(stem)
    return _unused(
        f"{name}Record" if name in _RESERVED_CLASSES else name, used, separator=""
    )


def _unused(name: str, used: set[str], separator: str = "_") -> str:
    """Return the name, or the first numbered one that is unused, and mark it as used."""
    found, number = name, 2
    while found in used:
        found, number = f"{name}{separator}{number}", number + 1
    used.add(found)
    return found
