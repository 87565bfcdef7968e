"""Quarantine of new records that a save cannot place, or that the store refuses."""

from __future__ import annotations

from dataclasses import replace as altered
from datetime import UTC, datetime

from pend_storage._model.records import Put
from pend_storage._shown import shown
from pend_storage._unit_of_work import Place
from pend_storage._whole_files.serialization import WritePlan
from pend_storage.errors import InvalidRecord, UniqueViolation
from pend_storage.schema import QUARANTINE, Schema

__all__ = ["quarantine_refused", "refuse_quarantine"]


def quarantine_refused(schema: Schema, made: WritePlan, error: UniqueViolation) -> bool:
    """Quarantine a new record whose unique value is taken.

    Returns:
        False where the plan has no such new record: the caller raises the error.
    """
    layout, place = made.state.layout, (error.collection, error.key)
    operation = made.wanted.get(place)
    if error.collection != layout.collection or not isinstance(operation, Put):
        return False
    if place in made.state.rows:
        return False  # a stored record is changed: its former value has no other place
    record = operation.record
    aside = layout.set_aside(schema, made.header, record, str(error))
    seen = altered(aside.record, seen_at=datetime.now(UTC))
    del made.wanted[place]
    _drop_derived(schema, made, place)
    made.wanted[QUARANTINE, aside.key] = schema.put(QUARANTINE, seen)
    made.aside.append(seen)
    return True


def _drop_derived(schema: Schema, made: WritePlan, gone: Place) -> None:
    """Drop references of a plan to a record that is not written after all."""
    target, key = gone
    for spec, name in schema.referrers(target):
        for place, operation in list(made.wanted.items()):
            if place[0] != spec.name or not isinstance(operation, Put):
                continue
            if getattr(operation.record, name) != key:
                continue
            if spec.fields[name].optional:
                freed = altered(operation.record, **{name: None})
                made.wanted[place] = schema.put(spec.name, freed)
            else:
                del made.wanted[place]


def refuse_quarantine(made: WritePlan, *, strict: bool) -> None:
    """Raise for the first newly quarantined record of a strict write.

    Raises:
        InvalidRecord: a record cannot be placed, and the write is strict.
    """
    layout = made.state.layout
    for record in made.aside if strict else ():
        raise InvalidRecord(
            f"{record.reason} (at {shown(record.place)} of {layout.file})",
            collection=layout.collection,
            code=record.code,
        )
