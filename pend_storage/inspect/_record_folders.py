"""Folders with one file for each record, recognised by files that are alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

from pend_storage.inspect._directory_walk import Found
from pend_storage.inspect._file_scan import Looked, keyed_of, part_of
from pend_storage.inspect._hazards import hazards_of
from pend_storage.inspect._model import FileReport, Guess, Hazard, Severity, Shape
from pend_storage.inspect._name_heuristics import data_share
from pend_storage.inspect._record_profile import Profile, Record
from pend_storage.inspect._shape_inference import Place, likeness

__all__ = ["folder_name", "gathered", "record_folders"]

_LEAST: Final = 3
_ALIKE: Final = 0.6
_DATA: Final = 0.8
_MANY: Final = 20
_SAMPLE: Final = 500
_NOT_SERVED: Final = (
    "the directory itself has a file for each record, which a store serves in a folder only: "
    "let the server keep them in one. Or have every file declared that is there now: "
    "--set '{}=documents'"
)


def _not_served(name: str) -> Hazard:
    sentence = _NOT_SERVED.format(name)
    return Hazard("file-for-each-record", Severity.FILE, 1, sentence)


def folder_name(file: str) -> str:
    """What the folder of a file is called, if its files are records."""
    folder = file.rpartition("/")[0]
    return f"{folder}/*.json" if folder else "*.json"


def record_folders(
    looked: Sequence[tuple[Found, Looked]],
) -> dict[str, tuple[float, list[tuple[Found, Looked]]]]:
    """Folders whose files are records: how sure that is, and their files.

    In the directory itself the names must look like data as well: there other files of a
    server lie, which may be alike by chance.
    """
    by_folder: dict[str, list[tuple[Found, Looked]]] = {}
    for found, seen in looked:
        path = PurePosixPath(found.name)
        if path.suffix == ".json":
            by_folder.setdefault(path.parent.as_posix(), []).append((found, seen))
    result = {}
    for folder, files in by_folder.items():
        sure = _certainty(folder, files)
        if sure is not None:
            result[folder] = (sure, files)
    return result


def _certainty(folder: str, files: Sequence[tuple[Found, Looked]]) -> float | None:
    sets = [seen.names for _, seen in files if seen.names][:_SAMPLE]
    if len(sets) < _LEAST or len(sets) < 0.8 * len(files[:_SAMPLE]):
        return None
    alike = likeness(sets)
    names = data_share(PurePosixPath(found.name).stem for found, _ in files[:_SAMPLE])
    if alike < _ALIKE or (folder == "." and names < _DATA):
        return None
    return min(0.99, 0.4 + 0.4 * alike + 0.15 * names + 0.1 * (len(files) >= _MANY))


def gathered(sure: float, files: Sequence[tuple[Found, Looked]]) -> Looked:
    """One report for a folder of records."""
    profile = Profile()
    profile.add(_records(found for found, seen in files if _is_read(seen)))
    part = part_of(Place((), Shape.FILES, 0), profile)
    name = folder_name(files[0][0].name)
    hazards = [
        *([] if "/" in name else [_not_served(name)]),
        *hazards_of(profile, part),
        *_of_files(seen for _, seen in files),
    ]
    guesses = [Guess(Shape.FILES, round(sure, 2))]
    if sure < 1.0:
        guesses.append(Guess(Shape.OBJECT, round(1.0 - sure, 2)))
    report = FileReport(
        file=name,
        size=sum(seen.report.size for _, seen in files),
        files=len(files),
        encoding=_encoding({seen.report.encoding for _, seen in files}),
        guesses=tuple(guesses),
        parts=(part,),
        hazards=tuple(hazards),
    )
    return Looked(report, (keyed_of(name, part, profile),))


def _is_read(seen: Looked) -> bool:
    return seen.report.shape is not Shape.BROKEN


def _records(files: Iterable[Found]) -> Iterable[Record]:
    for found in files:
        try:
            text = found.path.read_bytes()
        except OSError:
            continue  # removed since it was looked at
        yield PurePosixPath(found.name).stem, text.removeprefix(b"\xef\xbb\xbf").strip()


def _of_files(looked: Iterable[Looked]) -> list[Hazard]:
    """What is wrong with whole files: there a file is a record."""
    found: dict[str, Hazard] = {}
    counts: dict[str, int] = {}
    for seen in looked:
        for hazard in seen.report.hazards:
            if hazard.severity is Severity.FILE or hazard.code == "written-meanwhile":
                found.setdefault(hazard.code, hazard)
                counts[hazard.code] = counts.get(hazard.code, 0) + 1
    return [
        Hazard(code, hazard.severity, counts[code], _of_one(hazard, counts))
        for code, hazard in found.items()
    ]


def _of_one(hazard: Hazard, counts: Mapping[str, int]) -> str:
    count = counts[hazard.code]
    return f"of {count:,} of its files: {hazard.sentence}"


def _encoding(encodings: set[str]) -> str:
    return encodings.pop() if len(encodings) == 1 else "several"
