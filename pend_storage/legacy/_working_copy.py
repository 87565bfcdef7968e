"""Working copies: conversion of a file's records to one value, and of a value to its text.

The text keeps the style of the present file, and the texts of quarantined records.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pend_storage._model.records import LegacyFile, QuarantinedRecord
from pend_storage._whole_files.three_way_merge import KeptText, same
from pend_storage.codec import check_json
from pend_storage.errors import InvalidRecord
from pend_storage.legacy._exact_json import UnreadableError, normal
from pend_storage.legacy._file_envelope import (
    JSON_LINES,
    LIST,
    MAP,
    NAMED,
    OBJECT,
    SCALAR,
    SINGLE,
    WRAPPED,
    WRAPPED_MAP,
    WRAPPERS,
    FileEnvelope,
)
from pend_storage.legacy._placement import RecordPlacement
from pend_storage.legacy._quarantine import name_of, value_start
from pend_storage.schema import LEGACY_FILES

__all__ = ["content_of", "text_of"]


# -- as a value ---------------------------------------------------------------------------


def content_of(
    layout: RecordPlacement, header: LegacyFile, records: Sequence[Any]
) -> Any:
    """Return the value of a file; see :meth:`pend_storage._layouts.layout.Layout.content`."""
    envelope = FileEnvelope.of(header)
    if not records and envelope.nothing is not None and envelope.nothing.strip():
        return _lenient(envelope.nothing)
    found: Any
    if envelope.shape in NAMED:
        found = {_name(layout, record): _value(layout, record) for record in records}
    else:
        found = [_value(layout, record) for record in records]
    if envelope.shape in SINGLE:
        return found[-1] if found else None
    if envelope.shape in WRAPPERS:
        return {**_members(envelope), str(layout.wrapper): found}
    return found


def _members(envelope: FileEnvelope) -> dict[str, Any]:
    """Return the members beside the records, with an empty container for those."""
    try:
        return envelope.members()
    except UnreadableError:
        found: dict[str, Any] = _lenient(envelope.before + envelope.after)
        return found


def _lenient(text: bytes) -> Any:
    return json.loads(text.decode("utf-8-sig"), strict=False)


def _name(layout: RecordPlacement, record: Any) -> str:
    if isinstance(record, QuarantinedRecord):
        name = name_of(record)
        return record.place if name is None else name
    return layout.mapping.name(record)


def _value(layout: RecordPlacement, record: Any) -> Any:
    if not isinstance(record, QuarantinedRecord):
        return normal(layout.mapping.write(record))
    text = record.raw[value_start(record.raw) :]
    try:
        return KeptText(record.raw, json.loads(text.decode(), strict=False))
    except (ValueError, RecursionError):
        return KeptText(record.raw, text.decode(errors="replace"))


# -- as a text ----------------------------------------------------------------------------


def text_of(
    layout: RecordPlacement, header: LegacyFile, records: Sequence[Any], value: Any
) -> tuple[LegacyFile | None, bytes]:
    """Render a value; see :meth:`pend_storage._layouts.layout.Layout.text_of`."""
    envelope = FileEnvelope.of(header)
    if not records and same(value, content_of(layout, header, records)):
        return header, b"".join(layout.assemble(header, ()))
    shape = _shape_of(layout, value)
    if shape is None:
        # Rendered as one JSON text it would be one line, and so one record.
        if JSON_LINES in layout.shapes:
            reason = f"{layout.file} has a record in each line: save a list"
            raise InvalidRecord(reason, collection=layout.collection)
        return None, json.dumps(_shown(value)).encode()
    is_kept = envelope.shape == shape
    if not is_kept:
        envelope = FileEnvelope.usual(shape, layout.wrapper)
    inner = value
    if shape in WRAPPERS:
        name = str(layout.wrapper)
        inner = value[name]
        beside = {**value, name: type(inner)()}
        if not is_kept or not same(_members(envelope), beside):
            envelope, is_kept = envelope.with_members(_checked(beside), name), False
    if shape in NAMED:
        items = _members_text(layout, envelope, records, inner)
    else:
        listed: Iterable[Any] = (inner,) if shape in SINGLE else inner
        items = (_text(envelope, item) for item in listed)
    styled = header if is_kept else envelope.header(layout.file)
    return header if is_kept else None, b"".join(layout.assemble(styled, items))


def _shape_of(layout: RecordPlacement, value: Any) -> str | None:
    """Return the first allowed shape that fits a value; None where none does."""
    inner = value.get(str(layout.wrapper)) if isinstance(value, dict) else None
    fits = {
        LIST: isinstance(value, list),
        JSON_LINES: isinstance(value, list),
        MAP: isinstance(value, dict),
        WRAPPED: isinstance(inner, list),
        WRAPPED_MAP: isinstance(inner, dict),
        OBJECT: isinstance(value, dict),
        SCALAR: not isinstance(value, dict | list),
    }
    found = [shape for shape in layout.shapes if fits[shape]]
    wrapped = [shape for shape in found if shape in WRAPPERS]
    return next(iter(wrapped + found), None)


def _members_text(
    layout: RecordPlacement,
    envelope: FileEnvelope,
    records: Sequence[Any],
    value: Mapping[str, Any],
) -> Iterator[bytes]:
    """Yield the texts of an object's members, each behind those that it supersedes."""
    texts: dict[str, list[bytes]] = {}
    for record in records:
        waits = isinstance(record, QuarantinedRecord)
        texts.setdefault(_name(layout, record), []).append(record.raw if waits else b"")
    for name, item in value.items():
        yield from filter(None, texts.get(name, ())[:-1])
        yield _text(envelope, item, name)


def _text(envelope: FileEnvelope, item: Any, name: str | None = None) -> bytes:
    """Render one record; a value that is not exact JSON as ``json.dump`` does."""
    if isinstance(item, KeptText):
        return item.raw
    try:
        check_json(item)
        check_json(name or "")
    except (ValueError, RecursionError):
        text = json.dumps(_shown(item)).encode()
        return text if name is None else b"%b: %b" % (json.dumps(name).encode(), text)
    return envelope.text(item, name)


def _checked(members: Mapping[str, Any]) -> dict[str, Any]:
    """Check members beside the records strictly: they have no quarantine."""
    try:
        checked: Any = check_json(_shown(members))
    except ValueError as error:
        raise InvalidRecord(str(error), collection=LEGACY_FILES) from None
    return checked  # type: ignore[no-any-return]


def _shown(value: Any) -> Any:
    if isinstance(value, KeptText):
        return value.shown
    if isinstance(value, dict):
        return {name: _shown(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return value
