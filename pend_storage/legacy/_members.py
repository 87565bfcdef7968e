"""Table-driven mappings: members of a legacy object to columns and back, losslessly.

Reading and rendering are each other's inverse *by construction*. Whatever a column would
not restore equal by value is kept beside it in the record's ``extra``: members without a
column, another spelling of a known one, an explicit null, a value that the column cannot
hold. A kept spelling is rendered only as long as it parses to the column's value; else the
column was changed since, and the column wins.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from typing_extensions import override

from pend_storage._model.fields import FieldSpec, fields_of
from pend_storage._shown import shown
from pend_storage.codec import value_checker
from pend_storage.legacy import _notes as notes
from pend_storage.legacy._convert import (
    Parse,
    Render,
    as_is,
    text,
    time,
    time_text,
    usual_time,
)
from pend_storage.legacy._exact_json import UnreadableError, same
from pend_storage.legacy._mapping import RecordMapping, Source

__all__ = ["Member", "ObjectMapping", "inside", "time_member"]


@dataclass(frozen=True, slots=True)
class Member:
    """Member of a legacy object, and its column."""

    name: str
    column: str
    parse: Parse | None = None
    """Converts to the column's value; None: the column is a JSON object, which holds the
    member under its own name."""
    render: Render = as_is
    required: bool = False
    """A record without a value that the column can take cannot be placed."""
    blank: Any = None
    """Column value for which no member is rendered."""
    usual: Callable[[Any], Any] | None = None
    """Fast test: true where a parseable value is spelled as ``render`` would; otherwise
    rendering decides."""
    nullable: bool = False
    """Null is a value of the column, different from a missing member."""


def time_member(name: str, column: str, *, required: bool = False) -> Member:
    """Make a member for a time, usually spelled as by ``Date.toISOString``."""
    return Member(name, column, time, time_text, required, usual=usual_time)


def inside(column: str, *names: str) -> tuple[Member, ...]:
    """Make members that are kept unchanged in a column that holds an object."""
    return tuple(Member(name, column) for name in names)


class ObjectMapping(RecordMapping):
    """Mapping of objects by a table of members; the record type needs a field ``extra``.

    Subclasses set ``record_type`` and ``members``, and implement :meth:`complete`.
    """

    record_type: ClassVar[type[Any]]
    members: ClassVar[tuple[Member, ...]]
    """Table of members, in the usual order of the file."""
    computed: ClassVar[tuple[str, ...]] = ()
    """Columns that :meth:`complete` derives from the file."""

    def __init__(self) -> None:
        specs = {spec.name: spec for spec in fields_of(self.record_type)}
        typed = [member for member in self.members if member.parse is not None]
        self._by_name: Final = {
            m.name: (rank, m.parse is text and m.blank is None, m)
            for rank, m in enumerate(self.members)
        }
        self._typed: Final = {m.name for m in typed}
        self._default: Final = {m.column: _absent(m, specs[m.column]) for m in typed}
        self._check: Final = {m.name: value_checker(specs[m.column]) for m in typed}
        self._defaulted: Final = tuple(
            m.name for m in typed if self._default[m.column] != m.blank
        )
        self._required: Final = tuple(m.name for m in typed if m.required)
        self._shown: Final = {
            m.name: specs[m.column].shown for m in typed if m.required
        }
        self._holders: Final = {
            holder: frozenset(m.name for m in self.members if m.column == holder)
            for holder in {m.column for m in self.members if m.parse is None}
            - {"extra"}
        }
        self._unknown_time: Final = tuple(
            m.column
            for m in typed
            if specs[m.column].default is ... and specs[m.column].optional
        )
        self.told: frozenset[str] = frozenset(
            {m.column for m in self.members} | {"extra", "content_hash", *self.computed}
        )

    @abstractmethod
    def complete(self, columns: dict[str, Any], source: Source) -> None:
        """Add the key and the computed columns.

        Args:
            columns: the columns that were read; changed in place.
            source: the legacy record.
        """

    # -- reading --------------------------------------------------------------------

    @override
    def read(self, source: Source, refused: frozenset[str] = frozenset()) -> Any:
        """Convert a legacy record; see :meth:`RecordMapping.read`."""
        value = source.value
        if type(value) is not dict:
            raise UnreadableError(
                "wrong-type", f"{_json_type(value)} stands where a record is expected"
            )
        columns: dict[str, Any] = {name: {} for name in self._holders}
        extra: dict[str, Any] = {}
        ordered = self._sort_members(value, columns, extra, refused)
        for name in self._required:
            if self._by_name[name][2].column not in columns:
                raise _missing(name, value, self._shown[name])
        absent = self._defaulted and [n for n in self._defaulted if n not in value]
        if absent or source.exact or not ordered or notes.RESERVED in extra:
            own = notes.make(
                absent=absent,
                order=None if ordered else list(value),
                value=value if source.exact else None,
            )
            notes.attach(extra, own)
        for column in self._unknown_time:
            columns.setdefault(column, None)
        columns["extra"] = extra
        columns["legacy_position"] = source.position
        columns["content_hash"] = source.digest
        self.complete(columns, source)
        if refused:
            columns.update(dict.fromkeys(refused.intersection(self.computed)))
        return self.record_type(**columns)

    def _sort_members(
        self,
        value: dict[str, Any],
        columns: dict[str, Any],
        extra: dict[str, Any],
        refused: frozenset[str],
    ) -> bool:
        """Sort members into columns and ``extra``; returns whether in the usual order."""
        last, last_unknown, ordered = -1, "", True
        by_name = self._by_name
        for name, item in value.items():
            found = by_name.get(name)
            if found is None:
                ordered = ordered and name >= last_unknown
                last, last_unknown = _UNKNOWN, name
                extra[name] = item
                continue
            rank, plain, member = found
            ordered = ordered and rank > last
            last = rank
            if plain and type(item) is str and not refused:
                columns[member.column] = item
            elif member.parse is None:
                columns.get(member.column, extra)[name] = item
            elif item is None and member.nullable and member.column not in refused:
                columns[member.column] = None
            elif item is None or member.column in refused:
                extra[name] = item
            else:
                _fill_column(member, item, columns, extra)
        return ordered

    # -- rendering ------------------------------------------------------------------

    @override
    def write(self, record: Any) -> dict[str, Any]:
        """Convert a record to its legacy form; see :meth:`RecordMapping.write`."""
        extra, own = notes.detach(record.extra)
        absent = own.absent
        value: dict[str, Any] = {}
        for member in self.members:
            column = getattr(record, member.column)
            if member.parse is None:
                if isinstance(column, Mapping) and member.name in column:
                    value[member.name] = column[member.name]
            elif member.name in extra and self._is_current(
                member, extra[member.name], column
            ):
                value[member.name] = extra[member.name]
            elif column != member.blank and not (
                member.name in absent and column == self._default[member.column]
            ):
                value[member.name] = None if column is None else member.render(column)
        for name in sorted(extra.keys() - self._typed):
            value.setdefault(name, extra[name])
        return own.finish(value)

    def _is_current(self, member: Member, kept: Any, column: Any) -> bool:
        """Return whether a kept spelling still has the column's value."""
        return same(self._column_value(member, kept), column)

    def _column_value(self, member: Member, kept: Any) -> Any:
        """Return the column's value for a spelling."""
        default = self._default[member.column]
        if kept is None or member.parse is None:
            return default
        try:
            found = member.parse(kept)
            return default if found is None else self._check[member.name](found)
        except (ValueError, TypeError, ArithmeticError):
            return default

    # -- adoption -------------------------------------------------------------------

    @override
    def merge(self, present: Any, read: Any) -> Any:
        """Merge a changed record; members of objects that the table lacks are kept."""
        merged = super().merge(present, read)
        changes = {
            holder: {
                **{k: v for k, v in getattr(present, holder).items() if k not in names},
                **getattr(read, holder),
            }
            for holder, names in self._holders.items()
        }
        return dataclasses.replace(merged, **changes) if changes else merged


_UNKNOWN: Final = 1 << 20
"""Rank of members that no column knows: behind all others, by name."""


def _absent(member: Member, spec: FieldSpec) -> Any:
    """Return the column's value for a missing member."""
    if spec.default is ...:
        return None if spec.optional else member.blank
    return spec.default


def _fill_column(
    member: Member, item: Any, columns: dict[str, Any], extra: dict[str, Any]
) -> None:
    """Fill a column, and keep the spelling where rendering would not restore it."""
    assert member.parse is not None  # noqa: S101 - the caller looked
    try:
        found = member.parse(item)
    except (ValueError, TypeError, ArithmeticError):
        extra[member.name] = item
        return
    if found is None or found == member.blank:
        extra[member.name] = item
    elif _may_be_respelled(member, found, item):
        shown = member.render(found)
        if shown is not item and not _alike(shown, item):
            extra[member.name] = item
    if found is not None:
        columns[member.column] = found


def _may_be_respelled(member: Member, found: Any, item: Any) -> bool:
    """Return whether rendering may differ from the file's spelling."""
    if found is item and member.render is as_is:
        return False
    return member.usual is None or not member.usual(item)


def _alike(shown: Any, item: Any) -> bool:
    kind = type(item)
    if type(shown) is kind and (kind is str or kind is int):
        return bool(shown == item)
    return same(shown, item)


_TYPES: Final = {
    type(None): "null",
    bool: "true or false",
    str: "a text",
    int: "a number",
    float: "a number",
    list: "a list",
}


def _json_type(value: Any) -> str:
    return _TYPES.get(type(value), "a number")


def _missing(
    name: str, value: Mapping[str, Any], value_text: Callable[[Any], str]
) -> UnreadableError:
    if name not in value:
        return UnreadableError("missing-member", f"there is no {shown(name)}")
    if value[name] is None:
        return UnreadableError("missing-member", f"{shown(name)} is null")
    return UnreadableError(
        "bad-value", f"{shown(name)} cannot be read: {value_text(value[name])}"
    )
