"""What may be left of a directory when the power fails: the model behind the recorder."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

__all__ = [
    "Cut",
    "Data",
    "Length",
    "Name",
    "Names",
    "Operation",
    "Record",
    "Sync",
    "Tree",
    "cuts_of",
]

_BLOCK: Final = 512
_LATEST: Final = 5
"""Pending operations that are left out one by one; of the others some, at random."""

Name: TypeAlias = tuple[int, str]
"""A directory, by number, and a name in it."""


@dataclass(frozen=True, slots=True)
class Names:
    """Names that come to stand for something else, all in one step."""

    becomes: tuple[tuple[Name, int | None], ...]

    def objects(self) -> set[int]:
        """The files and directories whose sync keeps it."""
        return {directory for (directory, _), _ in self.becomes}


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of a file."""

    file: int
    offset: int
    data: bytes
    time: int
    """When the file was changed, in nanoseconds."""

    def objects(self) -> set[int]:
        """The files and directories whose sync keeps it."""
        return {self.file}


@dataclass(frozen=True, slots=True)
class Length:
    """The length of a file."""

    file: int
    length: int

    def objects(self) -> set[int]:
        """The files and directories whose sync keeps it."""
        return {self.file}


@dataclass(frozen=True, slots=True)
class Extent:
    """A file is that long at least; what was never written there reads as NUL bytes."""

    file: int
    length: int

    def objects(self) -> set[int]:
        """The files and directories whose sync keeps it."""
        return {self.file}


Operation: TypeAlias = Names | Data | Length | Extent


@dataclass(frozen=True, slots=True)
class Sync:
    """What was done to a file or a directory is kept."""

    object: int


@dataclass(slots=True)
class Tree:
    """Directories and files, by number."""

    names: dict[int, dict[str, int]] = field(default_factory=dict)
    files: dict[int, bytes] = field(default_factory=dict)
    times: dict[int, int] = field(default_factory=dict)

    def copy(self) -> Tree:
        """One that is changed by itself."""
        names = {number: {**names} for number, names in self.names.items()}
        return Tree(names, {**self.files}, {**self.times})

    def apply(self, operation: Operation) -> None:
        """Change it as an operation does."""
        match operation:
            case Names(becomes):
                for (directory, name), what in becomes:
                    if what is None:
                        self.names.setdefault(directory, {}).pop(name, None)
                    else:
                        self.names.setdefault(directory, {})[name] = what
            case Data(file, offset, data, time):
                self.times[file] = time
                old = self.files.get(file, b"").ljust(offset, b"\0")
                self.files[file] = old[:offset] + data + old[offset + len(data) :]
            case Length(file, length):
                old = self.files.get(file, b"")
                self.files[file] = old[:length].ljust(length, b"\0")
            case Extent(file, length):
                self.files[file] = self.files.get(file, b"").ljust(length, b"\0")

    def build(self, place: Path, directory: int, inodes: Path) -> None:
        """Make a directory of it, of files that keep their inodes."""
        place.mkdir(mode=0o700)
        for name, what in self.names.get(directory, {}).items():
            inode = inodes / str(what)
            if not inode.exists():
                self.build(place / name, what, inodes)
                continue
            inode.write_bytes(self.files.get(what, b""))
            time = self.times.get(what, 0)
            os.utime(inode, ns=(time, time))
            os.link(inode, place / name)


@dataclass(frozen=True)
class Cut:
    """One directory that may be found after the power failed."""

    where: str
    """Which operation was the last, and what is missing; for messages."""
    acknowledged: tuple[Any, ...]
    _tree: Tree
    _root: int
    _inodes: Path

    def build(self, place: Path) -> None:
        """Make the directory, at a place where nothing is.

        Its files are the recorded ones, with their inodes and times. So what was built
        before has to be thrown away: it changes too.
        """
        self._tree.build(place, self._root, self._inodes)

    @property
    def digest(self) -> str:
        """By which cuts that leave the same are recognised."""
        digest = hashlib.blake2b(repr(sorted(self._tree.names.items())).encode())
        for number, content in sorted(self._tree.files.items()):
            digest.update(b"%d:%d:" % (number, len(content)) + content)
        return digest.hexdigest()


@dataclass(frozen=True)
class Record:
    """What was done to a directory, and when who was told what."""

    base: Tree
    operations: Sequence[Operation | Sync]
    acknowledged: Sequence[tuple[int, Any]]
    root: int
    inodes: Path


def cuts_of(record: Record, samples: int, seed: int) -> Iterator[Cut]:
    """The directories that may be found, each only once."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    kept, pending, seen = record.base.copy(), list[Operation](), set[str]()
    count = len(record.operations)
    for place in range(count + 1):
        told = tuple(what for when, what in record.acknowledged if when <= place)
        for what, parts in _left(pending, samples, chance):
            tree = kept.copy()
            for part in parts:
                tree.apply(part)
            where = f"after operation {place} of {count}: {what}"
            cut = Cut(where, told, tree, record.root, record.inodes)
            key = f"{cut.digest} {len(told)}"
            if key not in seen:
                seen.add(key)
                yield cut
        if place < count:
            pending = _passed(record.operations[place], kept, pending)


def _passed(
    operation: Operation | Sync, kept: Tree, pending: list[Operation]
) -> list[Operation]:
    """What is pending after an operation; what it has kept is in the tree."""
    if not isinstance(operation, Sync):
        return [*pending, operation]
    left: list[Operation] = []
    for one in pending:
        if operation.object in one.objects():
            kept.apply(one)
        else:
            left.append(one)
    return left


def _left(
    pending: Sequence[Operation], samples: int, chance: random.Random
) -> Iterator[tuple[str, list[Operation]]]:
    """What may be there of the pending operations."""
    everything = list(pending)
    yield "nothing unsynced is there", []
    yield "all is there", everything
    for place in range(max(0, len(everything) - _LATEST), len(everything)):
        one, before = everything[place], everything[:place]
        yield f"{one} is missing", [*before, *everything[place + 1 :]]
        yield f"only {one} is there", [one]
        yield f"all before {one} is there", before
        for torn in _torn(one):
            yield f"{one} is torn", [*before, *torn, *everything[place + 1 :]]
            yield f"{one} is torn, and nothing else is there", torn
    for _ in range(samples if len(everything) > 1 else 0):
        yield "some of it is there", [o for o in everything if chance.random() < 0.5]


def _torn(operation: Operation) -> Iterator[list[Operation]]:
    """Blocks of a write that never came to the disk: cut off, or read as NUL bytes."""
    if not isinstance(operation, Data):
        return
    file, offset = operation.file, operation.offset
    data, time = operation.data, operation.time
    whole = Extent(file, offset + len(data))
    yield [whole]
    edge = _BLOCK - offset % _BLOCK
    if edge < len(data):
        first, rest = Data(file, offset, data[:edge], time), data[edge:]
        yield [first]
        yield [first, whole]
        yield [Data(file, offset + edge, rest, time)]
