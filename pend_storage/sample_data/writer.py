"""Write all files of an invented Pend server."""

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
    Expected,
    Hand,
    Irregularity,
)
from pend_storage.sample_data.server_files import SERVER_FILES
from pend_storage.sample_data.world import World

FILES: Final = SERVER_FILES + EXPLORER_FILES
"""Every file of the server, in the order in which they are written."""

EVENTS_PER_USER: Final = 4
"""How long the transaction log is when nobody says: 556 entries for 139 users."""
OCCURRENCES: Final = 10_000
"""How many irregular records of one file a report names one by one."""

_FURTHEST: Final = 3_000
"""How many entries later the second of two colliding records may come."""
_TICK: Final = 2_000
_BUFFER: Final = 1 << 20

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the entries written and the entries to write."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Where an irregular record is.

    Attributes:
        irregularity: Its name in the catalogue.
        file: The legacy file.
        position: Its place in the list or map, from 0.
        key: Its name, in a file that is a map.
    """

    irregularity: str
    file: str
    position: int
    key: str | None


@dataclass(frozen=True, slots=True)
class SampleReport:
    """What was written.

    Attributes:
        directory: Where.
        records: Records by file; 0 for a file that `damage` left without any. What
            other damage makes unreadable is still counted.
        irregular: How often each irregularity was used; absent names were not.
        occurrences: The first 10,000 irregular records of each file, in order.
        damage: What was done to whole files.
    """

    directory: Path
    records: Mapping[str, int]
    irregular: Mapping[str, int]
    occurrences: tuple[Occurrence, ...] = field(repr=False)
    damage: Mapping[str, Damage]

    @property
    def total(self) -> int:
        """Records in all files."""
        return sum(self.records.values())

    def expected(self, file: str, outcome: Expected) -> int:
        """Count the irregular records of a file that should end like this."""
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
    """Write the files of a server; the same arguments give the same bytes.

    Memory does not grow with the number of records.

    Args:
        directory: Made if need be. It must not hold any of the files yet.
        users: Wallets of the server.
        events: Entries of the transaction log; four for each user if None. Records
            that collide with an earlier one come on top, here and in other files.
        irregular: Share of the records that carry one irregularity, 0 to 1.
        seed: Another seed gives other hashes, amounts and irregularities.
        damage: What to do to whole files, by file name: see `Damage`.
        progress: Told from time to time how far the work is.

    Raises:
        ValueError: A number is out of range, or `damage` names an unknown file or
            kind. Nothing was written.
        FileExistsError: One of the files is there already. Nothing was written.
    """
    world = World(seed, users, EVENTS_PER_USER * users if events is None else events)
    _check(world, irregular)
    harm = check_damage(damage or {}, FILES)
    _refuse_to_overwrite(directory)
    work = _Work(directory, world, irregular, harm, progress)
    for file in FILES:
        work.write(file)
    return work.report()


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


class _Work:
    """One run: what is counted while the files are written."""

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
        self._room = OCCURRENCES

    def write(self, file: LegacyFile) -> None:
        path = self._directory / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = self._damage.get(file.name)
        self._records[file.name] = 0
        self._room = OCCURRENCES
        if kind not in ABSENT:
            with path.open(
                "w", _BUFFER, encoding="utf-8", errors="backslashreplace", newline="\n"
            ) as stream:
                self._fill(stream, file)
        if kind is not None:
            apply_damage(path, kind, file.frame)
        self._tell()

    def _fill(self, stream: TextIO, file: LegacyFile) -> None:
        frame, count = file.frame, 0
        stream.write(frame.opening)
        for entry in self._entries(file):
            stream.write("," * bool(count) + frame.margin + entry.text(frame.margin))
            count += 1
        stream.write(frame.end if count else frame.closing)
        self._records[file.name] = count

    def _entries(self, file: LegacyFile) -> Iterator[Entry]:
        """Give the entries of a file, the irregular ones among them."""
        seed = f"{self._world.seed}/{file.name}"
        mixer = _Mixer(file, self._world, self._share, Random(f"{seed}/irregular"))
        for position, (entry, name) in enumerate(mixer.mix(Random(seed))):
            if name is not None:
                self._note(Occurrence(name, file.name, position, entry.key))
            yield entry
            if position % _TICK == 0:
                self._tell(mixer.taken)
        self._done += mixer.taken

    def _note(self, occurrence: Occurrence) -> None:
        self._irregular[occurrence.irregularity] += 1
        if self._room:
            self._room -= 1
            self._occurrences.append(occurrence)

    def _tell(self, more: int = 0) -> None:
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
    """The entries of one file with irregular ones mixed in."""

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
        self._waiting: list[tuple[int, int, Entry, str]] = []

    def mix(self, rng: Random) -> Iterator[tuple[Entry, str | None]]:
        """Give each entry with the name of the irregularity it carries, if any."""
        for entry in self._file.entries(self._world, rng):
            self.taken += 1
            if self._rng.random() < self._share:
                yield self._spoil(entry)
            else:
                yield entry, None
            while self._waiting and self._waiting[0][0] <= self.taken:
                yield heappop(self._waiting)[2:]
        while self._waiting:
            yield heappop(self._waiting)[2:]

    def _spoil(self, entry: Entry) -> tuple[Entry, str | None]:
        irregularity = next(self._deck)
        self._serial += 1
        delayed: list[Entry] = []
        hand = Hand(self._world, delayed.append, self._serial)
        changed = irregularity.change(entry, hand)
        for later in delayed:
            due = self.taken + int(self._rng.random() * _FURTHEST)
            heappush(self._waiting, (due, self._serial, later, irregularity.name))
        return changed, None if delayed else irregularity.name


def _deck(file: LegacyFile, rng: Random) -> Iterator[Irregularity]:
    """Deal the file's irregularities without end, each once before any again."""
    cards = [each for each in IRREGULARITIES.values() if each.file == file.name]
    while True:
        rng.shuffle(cards)
        yield from cards
