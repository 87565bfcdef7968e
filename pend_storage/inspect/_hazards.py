"""Hazards of records and fields, with their sentences, which quote no value of a record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pend_storage._shown import listed, shown
from pend_storage.inspect._model import FieldReport, Hazard, Part, Severity, Shape
from pend_storage.inspect._name_heuristics import name_text
from pend_storage.inspect._record_profile import Profile

__all__ = ["hazards_of"]

_FAULTS: Final = {
    "duplicate-member": "a member stands twice in one object, and parsers disagree which "
    "of them counts: remove one",
    "half-character": "a text holds half a character (a lone surrogate): correct it",
    "nul": "a text holds the character NUL, which PostgreSQL cannot store: remove it",
    "not-a-number": "NaN or Infinity stands where JSON has numbers: write null or a text",
    "number-too-long": "a number has more digits than any store takes: write a text",
    "too-deep": "it is nested too deeply for a parser: flatten it",
    "not-json": "its text is not JSON: correct it",
}
_NOTES: Final = {
    "large-integer": "an integer has more than 64 bits: it is kept exactly here, and "
    "rounded by JavaScript and by most tools",
    "long-decimal": "a number has more digits than a float holds: it is kept exactly here, "
    "and rounded by most parsers",
    "empty-name": "a member has no name, and cannot have a key that is its name: the file "
    "is kept as documents",
    "long-name": "a member name is longer than an index holds: it is found by its hash",
}
_REGULAR: Final = 0.5


def hazards_of(profile: Profile, part: Part) -> list[Hazard]:
    """List the hazards of one part of a file, the worst first."""
    where = f" (in {shown('.'.join(part.path))})" if part.path else ""
    found = [
        Hazard(code, Severity.RECORD, profile.faults[code], f"{sentence}{where}")
        for code, sentence in _FAULTS.items()
        if profile.faults[code]
    ]
    found += _doubles(profile, part, where)
    found += [
        Hazard(code, Severity.NOTE, profile.notes[code], f"{sentence}{where}")
        for code, sentence in _NOTES.items()
        if profile.notes[code]
    ]
    return [*found, *_mixtures(profile, part, where)]


def _doubles(profile: Profile, part: Part, where: str) -> Iterator[Hazard]:
    if part.shape is Shape.MAP and (count := profile.repeated_names()):
        yield Hazard(
            "duplicate-name",
            Severity.RECORD,
            count,
            "a member of the map stands twice, and parsers disagree which of them counts: "
            f"remove one{where}",
        )
    if part.duplicate_keys:
        yield Hazard(
            "duplicate-key",
            Severity.RECORD,
            part.duplicate_keys,
            f"records share their {shown(part.key[0])} with another, which would be the "
            f"key: correct them, or choose another by --key{where}",
        )


def _mixtures(profile: Profile, part: Part, where: str) -> Iterator[Hazard]:
    """Yield the hazards of records and fields of several types."""
    if part.shape is not Shape.OBJECT and len(part.values) > 1:
        odd = sum(
            count
            for kind, count in profile.kinds.items()
            if kind not in {part.values[0][0], "null"}
        )
        if part.values[0][0] == "object" and odd:
            yield Hazard(
                "mixed-records",
                Severity.NOTE,
                odd,
                f"some of the records are no objects: {_shares(part.values)}{where}",
            )
    mixed = [field for field in part.fields if len(field.types) > 1]
    if mixed:
        fields = listed((_with_types(field) for field in mixed), most=5)
        yield Hazard(
            "mixed-types",
            Severity.NOTE,
            len(mixed),
            f"fields have values of several types: {fields}{where}",
        )
    nested = part.more_fields
    if nested:
        yield Hazard(
            "many-names",
            Severity.NOTE,
            nested,
            "more member names than a record has fields: its names may be data, and the "
            f"records maps themselves{where}",
        )


def _with_types(field: FieldReport) -> str:
    return f"{name_text(field.name, 40)} ({_shares(field.types)})"


def _shares(types: tuple[tuple[str, float], ...]) -> str:
    return ", ".join(f"{share:.0%} {kind}" for kind, share in types)
