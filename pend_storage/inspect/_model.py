"""Inspection report: files, shapes, fields, keys, references, hazards."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "SURE",
    "DirectoryReport",
    "FieldReport",
    "FileReport",
    "Guess",
    "Hazard",
    "Part",
    "Reference",
    "Severity",
    "Shape",
]

SURE = 0.75
"""Confidence below which a guess is doubtful, and should be checked by a person."""


class Shape(StrEnum):
    """Shape of a file: the arrangement of its records."""

    LIST = "list"
    """A list of objects."""
    MAP = "map"
    """An object whose member names are keys, and whose values are records."""
    WRAPPED_LIST = "wrapped-list"
    """An object; one of its members is the list of records."""
    WRAPPED_MAP = "wrapped-map"
    """An object; one of its members is the map of records."""
    COLLECTIONS = "collections"
    """An object; several of its members are lists or maps of records."""
    MAP_OF_MAPS = "map-of-maps"
    """A map whose values are maps of records."""
    JSON_LINES = "json-lines"
    """One record on each line."""
    FILES = "files"
    """A folder with one file for each record."""
    OBJECT = "object"
    """One settings object: its member names are fields."""
    SCALAR = "scalar"
    """One text, number, truth value or null."""
    SCALARS = "scalars"
    """A list of values that are not objects."""
    EMPTY = "empty"
    """An empty list or object: its later content is unknown."""
    DOCUMENTS = "documents"
    """Anything: chosen by ``--set``, never guessed."""
    BROKEN = "broken"
    """Not a JSON file that can be read."""


class Severity(StrEnum):
    """Severity of a hazard: its effect on a migration."""

    FILE = "file"
    """None of the records of the file is served: it cannot be read, as a rule."""
    RECORD = "record"
    """Each record that has it waits in quarantine, and stays at its place in the file."""
    NOTE = "note"
    """No record is affected; the server's developers should know of it."""


@dataclass(frozen=True, slots=True)
class Guess:
    """Guessed shape, with its confidence."""

    shape: Shape
    confidence: float
    """From 0 to 1."""


@dataclass(frozen=True, slots=True)
class Hazard:
    """Hazard for a migration. It never contains a value of a record."""

    code: str
    severity: Severity
    count: int
    sentence: str
    """Finding and remedy, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldReport:
    """Statistics of one member in the records of one part."""

    name: str
    present: int
    """Records that have the member, null or not."""
    nulls: int
    types: tuple[tuple[str, float], ...]
    """JSON types of the values that are not null, with their shares, the commonest first."""
    distinct: int
    """Number of different texts and integers."""
    distinct_is_exact: bool
    low: int | float | None
    """The smallest number; None where there is none, and for sensitive fields."""
    high: int | float | None
    shortest: int | None
    """Characters of the shortest text, or items of the shortest container."""
    longest: int | None
    format: str | None
    """Format of nearly all texts, or unit of the numbers."""
    choices: tuple[str, ...]
    """All texts, where they are few and frequent: perhaps an enumeration."""
    is_sensitive: bool
    """Whether the values may be telephone numbers, mail addresses or secrets."""
    is_unique: bool

    @property
    def kind(self) -> str | None:
        """The only JSON type; None where there are several, or only nulls."""
        return self.types[0][0] if len(self.types) == 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The records of a file, or one collection of several in it."""

    path: tuple[str, ...]
    """Member names from the top of the file to the list or map."""
    shape: Shape
    """Arrangement of the records there: a list, a map, one object or values."""
    records: int
    values: tuple[tuple[str, float], ...]
    """JSON types of the records with their shares, the commonest first."""
    value: FieldReport | None
    """Statistics of the records that are no objects."""
    fields: tuple[FieldReport, ...]
    """Members, in the order of their first occurrence."""
    more_fields: int
    """Number of further member names without statistics, because there were too many."""
    key: tuple[str, ...]
    """Fields that identify a record in a list; empty where none do."""
    keys: tuple[str, ...]
    """All fields that could identify a record."""
    duplicate_keys: int

    @property
    def are_objects(self) -> bool:
        """True where the records are objects, except for a few irregular ones."""
        return bool(self.values) and self.values[0][0] == "object"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """Report on one file, or on one folder with a file for each record."""

    file: str
    """Path relative to the directory, with ``/``; of a folder ``folder/*.json``."""
    size: int
    files: int
    """Number of files."""
    encoding: str
    guesses: tuple[Guess, ...]
    """Guessed shapes, the best first; a shape given by ``--set`` has the confidence 1."""
    parts: tuple[Part, ...]
    hazards: tuple[Hazard, ...]

    @property
    def shape(self) -> Shape:
        """The best guess."""
        return self.guesses[0].shape

    @property
    def confidence(self) -> float:
        """Confidence of the best guess, from 0 to 1."""
        return self.guesses[0].confidence

    @property
    def runner_up(self) -> Guess | None:
        """The second guess; None where there is one guess only."""
        return self.guesses[1] if len(self.guesses) > 1 else None

    @property
    def records(self) -> int:
        """Records in all parts."""
        return sum(part.records for part in self.parts)

    @property
    def is_sure(self) -> bool:
        """True where the shape needs no check by a person."""
        return self.confidence >= SURE

    @property
    def quarantined(self) -> int:
        """Records that cannot be placed, at least."""
        return sum(h.count for h in self.hazards if h.severity is Severity.RECORD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Reference: a field whose values are nearly all keys of another collection."""

    file: str
    path: tuple[str, ...]
    field: str | None
    """Name of the field; None: the member names of the map."""
    target: str
    target_path: tuple[str, ...]
    share: float
    """Share of the different values that are keys of the target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryReport:
    """Report on a directory."""

    directory: str
    files: tuple[FileReport, ...]
    references: tuple[Reference, ...]
    hazards: tuple[Hazard, ...]
    """Hazards of the directory itself: loops of links, folders without permission."""
    seconds: float

    @property
    def has_doubts(self) -> bool:
        """True where a person should decide something before a migration."""
        hazards = [*self.hazards, *(h for f in self.files for h in f.hazards)]
        return (
            not self.files
            or not all(file.is_sure for file in self.files)
            or any(hazard.severity is not Severity.NOTE for hazard in hazards)
        )
