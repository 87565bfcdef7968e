"""File scan: shape, records and hazards of one file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pend_storage.inspect._directory_walk import Found
from pend_storage.inspect._file_reader import Text, broken, changed_since, read_text
from pend_storage.inspect._hazards import hazards_of
from pend_storage.inspect._key_inference import Keyed, key_candidates, key_duplicates
from pend_storage.inspect._model import (
    FileReport,
    Guess,
    Hazard,
    Part,
    Severity,
    Shape,
)
from pend_storage.inspect._outline import Outline, outline
from pend_storage.inspect._record_profile import Profile, Record, members, one
from pend_storage.inspect._shape_inference import Place, guesses_of, places_of
from pend_storage.legacy._scan import BrokenFileError, each, value_start

__all__ = ["ScannedFile", "is_lines", "part_of", "scan_file"]

_LINE_ENDINGS: Final = (".jsonl", ".ndjson")
_OPENING: Final = b"[{"
_SPACE: Final = b" \t\r\n"
_LINES: Final = 0.5
"""Share of the lines that must be objects, so that a file is JSON lines."""


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """Result of the scan of one file, or of a folder of records."""

    report: FileReport
    keyed: tuple[Keyed, ...] = ()
    names: frozenset[str] = frozenset()
    """Member names of a file that is one object: folders are recognised by them."""


def scan_file(
    found: Found, *, shape: Shape | None = None, key: Sequence[str] = ()
) -> ScannedFile:
    """Scan one file.

    Args:
        found: the file.
        shape: the shape that the user gives; guessed if None.
        key: the fields that identify its records, by the user; guessed if empty.
    """
    text = read_text(found.path)
    if isinstance(text, Hazard):
        return _unread(found, text)
    try:
        scanned = _scan_text(found, text, shape, key)
    except BrokenFileError as error:
        return _unread(found, broken(text, error), text.encoding)
    # The report is right for the content that was read, so the change is only a note.
    meanwhile = changed_since(found.path, text)
    if meanwhile is not None:
        report = scanned.report
        report = replace(report, hazards=(*report.hazards, meanwhile))
        scanned = replace(scanned, report=report)
    return scanned


def _unread(found: Found, hazard: Hazard, encoding: str = "unknown") -> ScannedFile:
    return ScannedFile(
        FileReport(
            file=found.name,
            size=found.size,
            files=1,
            encoding=encoding,
            guesses=(Guess(Shape.BROKEN, 1.0),),
            parts=(),
            hazards=(hazard,),
        )
    )


def _scan_text(
    found: Found, text: Text, shape: Shape | None, key: Sequence[str]
) -> ScannedFile:
    raw, start = text.raw, value_start(text.raw)
    if start == len(raw):
        raise BrokenFileError("half-written", "there is nothing but white space")
    if shape is Shape.JSON_LINES or is_lines(found.name, raw, start):
        return _lines(found, text, key)
    if raw[start] not in _OPENING:
        return _scalar(found, text, start)
    top = outline(raw, start)
    if raw[top.end :].strip(_SPACE):
        raise BrokenFileError("not-json", "something stands behind the end")
    guesses = guesses_of(top)
    if shape is not None:
        guesses = [Guess(shape, 1.0), *(g for g in guesses if g.shape is not shape)]
    profiles = [
        _profiled(raw, place, top) for place in places_of(top, guesses[0].shape)
    ]
    scanned = _result(found, text, guesses, profiles, key)
    is_object = not top.is_list and top.count
    return replace(scanned, names=frozenset(top.names())) if is_object else scanned


def _profiled(raw: bytes, place: Place, top: Outline) -> tuple[Place, Profile]:
    profile = Profile()
    if place.shape is Shape.OBJECT:
        profile.add(one(raw[top.start : top.end]))
        if profile.faults["not-json"]:
            raise BrokenFileError("not-json", "a value in it is not JSON")
    elif place.shape is Shape.MAP_OF_MAPS:
        profile.add(_inner_members(raw, place.start))
    else:
        profile.add(members(raw, place.start))
    return place, profile


def _inner_members(raw: bytes, start: int) -> Iterator[Record]:
    for _, value, end in each(raw, start):
        if raw[value : value + 1] == b"{":
            yield from members(raw, value)
        else:
            yield None, raw[value:end]


def _result(
    found: Found,
    text: Text,
    guesses: Sequence[Guess],
    profiles: Sequence[tuple[Place, Profile]],
    key: Sequence[str],
) -> ScannedFile:
    parts = [part_of(place, profile, key) for place, profile in profiles]
    hazards = [
        hazard
        for part, (_, profile) in zip(parts, profiles, strict=True)
        for hazard in hazards_of(profile, part)
    ]
    if text.encoding == "UTF-8 with BOM":
        hazards.append(
            Hazard(
                "bom",
                Severity.NOTE,
                1,
                "it begins with a byte order mark, which is kept, and which some parsers "
                "refuse",
            )
        )
    report = FileReport(
        file=found.name,
        size=len(text.raw),
        files=1,
        encoding=text.encoding,
        guesses=tuple(guesses),
        parts=tuple(parts),
        hazards=tuple(hazards),
    )
    keyed = tuple(
        keyed_of(found.name, part, profile)
        for part, (_, profile) in zip(parts, profiles, strict=True)
    )
    return ScannedFile(report, keyed)


def keyed_of(file: str, part: Part, profile: Profile) -> Keyed:
    """Combine a part with the values of its columns, to find references."""
    tracked = {name: column.tracked for name, column in profile.columns.items()}
    return Keyed(file, part, tracked, profile.names)


def part_of(place: Place, profile: Profile, key: Sequence[str] = ()) -> Part:
    """Report on the records at one place of a file, by their profile."""
    fields = profile.fields()
    is_list = place.shape in {Shape.LIST, Shape.JSON_LINES}
    keys = key_candidates(fields, profile.records) if is_list else ()
    known = {field.name for field in fields}
    chosen = tuple(key) if key and known.issuperset(key) else keys[:1]
    return Part(
        path=place.path,
        shape=place.shape,
        records=profile.records,
        values=profile.types(),
        value=profile.values.report() if profile.values.present else None,
        fields=fields,
        more_fields=len(profile.more_fields),
        key=chosen,
        keys=keys,
        duplicate_keys=key_duplicates(fields, chosen) if is_list else 0,
    )


# -- other shapes -------------------------------------------------------------------------


def is_lines(name: str, raw: bytes, start: int) -> bool:
    """Return whether a file has one JSON value on each line."""
    if name.lower().endswith(_LINE_ENDINGS):
        return True
    if raw[start : start + 1] != b"{":
        return False
    # A pretty-printed object has its first line break inside of the braces; of JSON lines,
    # the first line ends with a brace, and the next one begins with a brace.
    first = raw.find(b"\n", start)
    if first < 0 or raw[start:first].rstrip()[-1:] != b"}":
        return False
    rest = raw[first:].lstrip(_SPACE)[:1]
    return rest == b"{"


def _lines(found: Found, text: Text, key: Sequence[str]) -> ScannedFile:
    profile = Profile()
    profile.add(_each_line(text.raw))
    objects = profile.kinds["object"] / max(profile.records, 1)
    guesses = [Guess(Shape.JSON_LINES, 1.0)]
    if profile.records and objects < _LINES and not profile.faults:
        guesses = [Guess(Shape.JSON_LINES, 0.7), Guess(Shape.SCALARS, 0.3)]
    if profile.faults["not-json"] == profile.records > 0:
        raise BrokenFileError("not-json", "no line is JSON")
    place = Place((), Shape.JSON_LINES, 0)
    return _result(found, text, guesses, [(place, profile)], key)


def _each_line(raw: bytes) -> Iterator[Record]:
    place = value_start(raw)
    while place < len(raw):
        end = raw.find(b"\n", place)
        end = len(raw) if end < 0 else end
        line = raw[place:end].strip(_SPACE)
        if line:
            yield None, line
        place = end + 1


def _scalar(found: Found, text: Text, start: int) -> ScannedFile:
    profile = Profile()
    profile.add(one(text.raw[start:].strip(_SPACE)))
    if profile.faults["not-json"]:
        raise BrokenFileError("not-json", "it is no JSON value")
    guesses = [Guess(Shape.SCALAR, 1.0)]
    place = Place((), Shape.SCALAR, start)
    return _result(found, text, guesses, [(place, profile)], ())
