"""What an inspection finds: files, shapes, fields, keys, references, hazards."""

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
"""A guess below this confidence is a doubt: somebody should look at it."""


class Shape(StrEnum):
    """How the records stand in a file."""

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
    """An empty list or object: it does not tell what will be in it."""
    DOCUMENTS = "documents"
    """Anything: chosen by ``--set``, never guessed."""
    BROKEN = "broken"
    """Not a JSON file that can be read."""


class Severity(StrEnum):
    """What a hazard means for a migration."""

    FILE = "file"
    """None of the records of the file is served: it cannot be read, as a rule."""
    RECORD = "record"
    """Each record that has it waits in quarantine, in its place in the file."""
    NOTE = "note"
    """Nothing is lost; somebody should know."""


@dataclass(frozen=True, slots=True)
class Guess:
    """A shape, and how sure it is."""

    shape: Shape
    confidence: float
    """From 0 to 1."""


@dataclass(frozen=True, slots=True)
class Hazard:
    """Something about a file that deserves a look. It never holds a value of a record."""

    code: str
    severity: Severity
    count: int
    sentence: str
    """What was found, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldReport:
    """What the records of one part say under one member name."""

    name: str
    present: int
    """Records that have the member, null or not."""
    nulls: int
    types: tuple[tuple[str, float], ...]
    """JSON types of what is not null, the commonest first, with their shares."""
    distinct: int
    """Different texts and integers."""
    distinct_is_exact: bool
    low: int | float | None
    """The smallest number; None where there is none, and for sensitive fields."""
    high: int | float | None
    shortest: int | None
    """Characters of the shortest text, or items of the shortest container."""
    longest: int | None
    format: str | None
    """What nearly all texts look like, or what the numbers count."""
    choices: tuple[str, ...]
    """All texts, where they are few and stand often: perhaps an enumeration."""
    is_sensitive: bool
    """Looks like a telephone number, an address of mail or a secret."""
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
    """How the records stand there: a list, a map, one object or values."""
    records: int
    values: tuple[tuple[str, float], ...]
    """JSON types of the records with their shares, the commonest first."""
    value: FieldReport | None
    """What the records hold that are no objects."""
    fields: tuple[FieldReport, ...]
    """In the order in which they were first seen."""
    more_fields: int
    """Member names that were counted and not looked at, because there were too many."""
    key: tuple[str, ...]
    """The fields that identify a record in a list; empty where none do."""
    keys: tuple[str, ...]
    """All fields that could."""
    duplicate_keys: int

    @property
    def are_objects(self) -> bool:
        """Whether the records are objects, but for a few that are irregular."""
        return bool(self.values) and self.values[0][0] == "object"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """One file, or one folder with a file for each record."""

    file: str
    """Relative to the directory, with ``/``; a folder of records as ``folder/*.json``."""
    size: int
    files: int
    """How many files it is."""
    encoding: str
    guesses: tuple[Guess, ...]
    """The best first; a shape given by ``--set`` has the confidence 1."""
    parts: tuple[Part, ...]
    hazards: tuple[Hazard, ...]

    @property
    def shape(self) -> Shape:
        """The best guess."""
        return self.guesses[0].shape

    @property
    def confidence(self) -> float:
        """How sure the best guess is."""
        return self.guesses[0].confidence

    @property
    def runner_up(self) -> Guess | None:
        """The guess that would be next."""
        return self.guesses[1] if len(self.guesses) > 1 else None

    @property
    def records(self) -> int:
        """Records in all parts."""
        return sum(part.records for part in self.parts)

    @property
    def is_sure(self) -> bool:
        """Whether the shape needs nobody's look."""
        return self.confidence >= SURE

    @property
    def quarantined(self) -> int:
        """Records that cannot be placed, at least."""
        return sum(h.count for h in self.hazards if h.severity is Severity.RECORD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A field whose values are nearly all keys of another collection."""

    file: str
    path: tuple[str, ...]
    field: str | None
    """None: the member names of the map."""
    target: str
    target_path: tuple[str, ...]
    share: float
    """Of the different values, those that are keys there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryReport:
    """All that was found in a directory."""

    directory: str
    files: tuple[FileReport, ...]
    references: tuple[Reference, ...]
    hazards: tuple[Hazard, ...]
    """Of the directory itself: loops of links, folders that may not be read."""
    seconds: float

    @property
    def has_doubts(self) -> bool:
        """Whether somebody should look before anything is migrated."""
        hazards = [*self.hazards, *(h for f in self.files for h in f.hazards)]
        return (
            not self.files
            or not all(file.is_sure for file in self.files)
            or any(hazard.severity is not Severity.NOTE for hazard in hazards)
        )
