"""Record folders: folders with one file for each record, recognised by similar files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

from pend_storage._files.by_path import read_linked
from pend_storage.errors import ConfigError
from pend_storage.inspect._directory_walk import Found
from pend_storage.inspect._file_scan import ScannedFile, keyed_of, part_of
from pend_storage.inspect._hazards import hazards_of
from pend_storage.inspect._model import FileReport, Guess, Hazard, Severity, Shape
from pend_storage.inspect._name_heuristics import data_share
from pend_storage.inspect._record_profile import Profile, Record
from pend_storage.inspect._shape_inference import Place, likeness

__all__ = ["folder_name", "merged", "record_folders"]

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
    """Return the name of a file's folder in a report: ``folder/*.json``."""
    folder = file.rpartition("/")[0]
    return f"{folder}/*.json" if folder else "*.json"


def record_folders(
    scanned: Sequence[tuple[Found, ScannedFile]],
) -> dict[str, tuple[float, list[tuple[Found, ScannedFile]]]]:
    """Find the folders whose files are records; returns the confidence and their files."""
    by_folder: dict[str, list[tuple[Found, ScannedFile]]] = {}
    for found, file in scanned:
        path = PurePosixPath(found.name)
        if path.suffix == ".json":
            by_folder.setdefault(path.parent.as_posix(), []).append((found, file))
    result = {}
    for folder, files in by_folder.items():
        confidence = _confidence(folder, files)
        if confidence is not None:
            result[folder] = (confidence, files)
    return result


def _confidence(
    folder: str, files: Sequence[tuple[Found, ScannedFile]]
) -> float | None:
    sets = [file.names for _, file in files if file.names][:_SAMPLE]
    if len(sets) < _LEAST or len(sets) < 0.8 * len(files[:_SAMPLE]):
        return None
    alike = likeness(sets)
    names = data_share(PurePosixPath(found.name).stem for found, _ in files[:_SAMPLE])
    # In the directory itself the names must be data as well: other files of the server
    # lie there, which may be similar by chance.
    if alike < _ALIKE or (folder == "." and names < _DATA):
        return None
    return min(0.99, 0.4 + 0.4 * alike + 0.15 * names + 0.1 * (len(files) >= _MANY))


def merged(
    confidence: float, files: Sequence[tuple[Found, ScannedFile]]
) -> ScannedFile:
    """Merge the files of a folder of records into one report."""
    profile = Profile()
    profile.add(_records(found for found, file in files if _is_readable(file)))
    part = part_of(Place((), Shape.FILES, 0), profile)
    name = folder_name(files[0][0].name)
    hazards = [
        *([] if "/" in name else [_not_served(name)]),
        *hazards_of(profile, part),
        *_file_hazards(file for _, file in files),
    ]
    guesses = [Guess(Shape.FILES, round(confidence, 2))]
    if confidence < 1.0:
        guesses.append(Guess(Shape.OBJECT, round(1.0 - confidence, 2)))
    report = FileReport(
        file=name,
        size=sum(file.report.size for _, file in files),
        files=len(files),
        encoding=_encoding({file.report.encoding for _, file in files}),
        guesses=tuple(guesses),
        parts=(part,),
        hazards=tuple(hazards),
    )
    return ScannedFile(report, (keyed_of(name, part, profile),))


def _is_readable(file: ScannedFile) -> bool:
    return file.report.shape is not Shape.BROKEN


def _records(files: Iterable[Found]) -> Iterable[Record]:
    for found in files:
        try:
            text = read_linked(found.path)
        except (OSError, ConfigError):
            continue  # removed or replaced since the scan
        yield PurePosixPath(found.name).stem, text.removeprefix(b"\xef\xbb\xbf").strip()


def _file_hazards(files: Iterable[ScannedFile]) -> list[Hazard]:
    """Collect the hazards of whole files, each of which is one record of the folder."""
    found: dict[str, Hazard] = {}
    counts: dict[str, int] = {}
    for file in files:
        for hazard in file.report.hazards:
            if hazard.severity is Severity.FILE or hazard.code == "written-meanwhile":
                found.setdefault(hazard.code, hazard)
                counts[hazard.code] = counts.get(hazard.code, 0) + 1
    return [
        Hazard(code, hazard.severity, counts[code], _sentence(hazard, counts))
        for code, hazard in found.items()
    ]


def _sentence(hazard: Hazard, counts: Mapping[str, int]) -> str:
    count = counts[hazard.code]
    return f"of {count:,} of its files: {hazard.sentence}"


def _encoding(encodings: set[str]) -> str:
    return encodings.pop() if len(encodings) == 1 else "several"
