"""Writer of the sample: all legacy files of an invented Pend server."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Final, TextIO, TypeAlias

from pend_storage.sample_data.damage import ABSENT, Damage, apply_damage, check_damage
from pend_storage.sample_data.entries import Entry, LegacyFile
from pend_storage.sample_data.explorer_files import EXPLORER_FILES
from pend_storage.sample_data.irregular import (
    IRREGULARITIES,
    ChangeContext,
    Expected,
    Irregularity,
)
from pend_storage.sample_data.server_files import SERVER_FILES
from pend_storage.sample_data.world import World

FILES: Final = SERVER_FILES + EXPLORER_FILES
"""Every file of the server, in the order of writing."""

EVENTS_PER_USER: Final = 4
"""Default length of the transaction log for each user: 556 entries for 139 users."""
OCCURRENCES: Final = 10_000
"""Maximum of irregular records of one file that a report lists one by one."""

_FURTHEST: Final = 3_000
"""Maximum distance, in entries, of the second of two colliding records."""
_TICK: Final = 2_000
"""Entries between two calls of the progress function."""
_BUFFER: Final = 1 << 20

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of entries written, and of all entries."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Position of an irregular record.

    Attributes:
        irregularity: name in the catalogue.
        file: the legacy file.
        position: index in the list or map, from 0.
        key: member name, in a file that is a map.
    """

    irregularity: str
    file: str
    position: int
    key: str | None


@dataclass(frozen=True, slots=True)
class SampleReport:
    """Contents of a written sample.

    Attributes:
        directory: directory of the files.
        records: records by file; 0 for a file that ``damage`` left without any. Records
            that other damage makes unreadable are still counted.
        irregular: uses of each irregularity; absent names were not used.
        occurrences: the first 10,000 irregular records of each file, in order.
        damage: damage to whole files.
    """

    directory: Path
    records: Mapping[str, int]
    irregular: Mapping[str, int]
    occurrences: tuple[Occurrence, ...] = field(repr=False)
    damage: Mapping[str, Damage]

    @property
    def total(self) -> int:
        """Number of records in all files."""
        return sum(self.records.values())

    def expected(self, file: str, outcome: Expected) -> int:
        """Count the irregular records of a file with an expected outcome."""
        return sum(
            count
            for name, count in self.irregular.items()
            if IRREGULARITIES[name].file == file
            and IRREGULARITIES[name].expected is outcome
        )


def generate(
    directory: Path,
    *,
    users: int = 139,
    events: int | None = None,
    irregular: float = 0.01,
    seed: int = 1,
    damage: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> SampleReport:
    """Write the legacy files of a server; the same arguments give the same bytes.

    Memory does not grow with the number of records.

    Args:
        directory: made if it does not exist. It must not hold any of the files yet.
        users: wallets of the server.
        events: entries of the transaction log; four for each user if None. Records
            that collide with an earlier one come on top, here and in other files.
        irregular: share of the records that have one irregularity, 0 to 1.
        seed: another seed gives other hashes, amounts and irregularities.
        damage: kind of damage by file name, see `Damage`.
        progress: called from time to time with the entries written and the total.

    Returns:
        Numbers of records, irregularities and their positions.

    Raises:
        ValueError: a number is out of range, or ``damage`` names an unknown file or
            kind. Nothing was written.
        FileExistsError: one of the files exists already. Nothing was written.
    """
    world = World(seed, users, EVENTS_PER_USER * users if events is None else events)
    _check(world, irregular)
    # Both checks come before the first file, so that a refused call writes nothing.
    harm = check_damage(damage or {}, FILES)
    _refuse_to_overwrite(directory)
    run = _GeneratorRun(directory, world, irregular, harm, progress)
    for file in FILES:
        run.write(file)
    return run.report()


def _check(world: World, irregular: float) -> None:
    if world.users < 0 or world.events < 0:
        raise ValueError("users and events must not be negative")
    if world.events and not world.users:
        raise ValueError("events need users: give at least one user, or no events")
    if not 0 <= irregular <= 1:
        raise ValueError(f"irregular is a share from 0 to 1, not {irregular}")


def _refuse_to_overwrite(directory: Path) -> None:
    for file in FILES:
        path = directory / file.name
        if path.exists():
            raise FileExistsError(
                f"{path} exists; name a directory that holds no Pend files"
            )


class _GeneratorRun:
    """One run of the generator, with its counters."""

    def __init__(
        self,
        directory: Path,
        world: World,
        irregular: float,
        damage: Mapping[str, Damage],
        progress: Progress | None,
    ) -> None:
        self._directory = directory
        self._world = world
        self._share = irregular
        self._damage = damage
        self._progress = progress
        self._todo = sum(
            file.count(world) for file in FILES if damage.get(file.name) not in ABSENT
        )
        self._done = 0
        self._records: dict[str, int] = {}
        self._irregular: Counter[str] = Counter()
        self._occurrences: list[Occurrence] = []
        self._occurrences_left = OCCURRENCES

    def write(self, file: LegacyFile) -> None:
        path = self._directory / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = self._damage.get(file.name)
        self._records[file.name] = 0
        self._occurrences_left = OCCURRENCES
        if kind not in ABSENT:
            with path.open(
                "w", _BUFFER, encoding="utf-8", errors="backslashreplace", newline="\n"
            ) as stream:
                self._fill(stream, file)
        if kind is not None:
            apply_damage(path, kind, file.frame)
        self._emit_progress()

    def _fill(self, stream: TextIO, file: LegacyFile) -> None:
        frame, count = file.frame, 0
        stream.write(frame.opening)
        for entry in self._entries(file):
            stream.write("," * bool(count) + frame.margin + entry.text(frame.margin))
            count += 1
        stream.write(frame.end if count else frame.closing)
        self._records[file.name] = count

    def _entries(self, file: LegacyFile) -> Iterator[Entry]:
        """Yield the entries of a file, irregular ones included, and count them."""
        seed = f"{self._world.seed}/{file.name}"
        # Two generators, so that the share of irregular records does not change the
        # regular ones.
        mixer = _Mixer(file, self._world, self._share, Random(f"{seed}/irregular"))
        for position, (entry, name) in enumerate(mixer.mix(Random(seed))):
            if name is not None:
                self._record(Occurrence(name, file.name, position, entry.key))
            yield entry
            if position % _TICK == 0:
                self._emit_progress(mixer.taken)
        self._done += mixer.taken

    def _record(self, occurrence: Occurrence) -> None:
        self._irregular[occurrence.irregularity] += 1
        # Memory must not grow with the number of records.
        if self._occurrences_left:
            self._occurrences_left -= 1
            self._occurrences.append(occurrence)

    def _emit_progress(self, more: int = 0) -> None:
        if self._progress is not None:
            self._progress(self._done + more, self._todo)

    def report(self) -> SampleReport:
        return SampleReport(
            directory=self._directory,
            records=MappingProxyType(self._records),
            irregular=MappingProxyType(dict(self._irregular)),
            occurrences=tuple(self._occurrences),
            damage=self._damage,
        )


class _Mixer:
    """Iterator over one file's entries that replaces some by irregular ones."""

    def __init__(
        self, file: LegacyFile, world: World, share: float, rng: Random
    ) -> None:
        self.taken = 0
        self._file = file
        self._world = world
        self._share = share
        self._rng = rng
        self._deck = _deck(file, rng)
        self._serial = 0
        self._delayed: list[tuple[int, int, Entry, str]] = []

    def mix(self, rng: Random) -> Iterator[tuple[Entry, str | None]]:
        """Yield each entry with the name of its irregularity, or None."""
        for entry in self._file.entries(self._world, rng):
            self.taken += 1
            if self._rng.random() < self._share:
                yield self._spoil(entry)
            else:
                yield entry, None
            # The second of two colliding records comes after the first, in any file.
            while self._delayed and self._delayed[0][0] <= self.taken:
                yield heappop(self._delayed)[2:]
        while self._delayed:
            yield heappop(self._delayed)[2:]

    def _spoil(self, entry: Entry) -> tuple[Entry, str | None]:
        irregularity = next(self._deck)
        self._serial += 1
        delayed: list[Entry] = []
        context = ChangeContext(self._world, delayed.append, self._serial)
        changed = irregularity.change(entry, context)
        for later in delayed:
            due = self.taken + int(self._rng.random() * _FURTHEST)
            heappush(self._delayed, (due, self._serial, later, irregularity.name))
        return changed, None if delayed else irregularity.name


def _deck(file: LegacyFile, rng: Random) -> Iterator[Irregularity]:
    """Yield the file's irregularities without end, each once before any repeats."""
    cards = [each for each in IRREGULARITIES.values() if each.file == file.name]
    while True:
        # Small samples have as many different irregularities as possible.
        rng.shuffle(cards)
        yield from cards
