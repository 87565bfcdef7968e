"""Power failure model: the states of a directory that may be left on the disk."""

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
"""Bytes that a disk writes in one piece."""
_LEFT_OUT_SINGLY: Final = 5
"""Pending operations that are left out one by one; of older ones a random part."""

Name: TypeAlias = tuple[int, str]
"""Number of a directory, and a name in it."""


@dataclass(frozen=True, slots=True)
class Names:
    """Atomic change of directory entries: created, renamed or removed names."""

    becomes: tuple[tuple[Name, int | None], ...]

    def objects(self) -> set[int]:
        """Return the files and directories whose sync makes it durable."""
        return {directory for (directory, _), _ in self.becomes}


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes written to a file."""

    file: int
    offset: int
    data: bytes
    time: int
    """Modification time in nanoseconds."""

    def objects(self) -> set[int]:
        """Return the files and directories whose sync makes it durable."""
        return {self.file}


@dataclass(frozen=True, slots=True)
class Length:
    """Truncation of a file to a length."""

    file: int
    length: int

    def objects(self) -> set[int]:
        """Return the files and directories whose sync makes it durable."""
        return {self.file}


@dataclass(frozen=True, slots=True)
class Extent:
    """Minimum length of a file; bytes that were never written read as NUL."""

    file: int
    length: int

    def objects(self) -> set[int]:
        """Return the files and directories whose sync makes it durable."""
        return {self.file}


Operation: TypeAlias = Names | Data | Length | Extent


@dataclass(frozen=True, slots=True)
class Sync:
    """Sync of a file or a directory: its pending operations become durable."""

    object: int


@dataclass(slots=True)
class Tree:
    """State of the disk: directory entries, contents and times, by number."""

    names: dict[int, dict[str, int]] = field(default_factory=dict)
    files: dict[int, bytes] = field(default_factory=dict)
    times: dict[int, int] = field(default_factory=dict)

    def copy(self) -> Tree:
        """Return a copy that can be changed on its own."""
        names = {number: {**names} for number, names in self.names.items()}
        return Tree(names, {**self.files}, {**self.times})

    def apply(self, operation: Operation) -> None:
        """Apply an operation."""
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
        """Write it to disk as a directory; its files keep their inodes."""
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
    """Possible state of a directory after a power failure."""

    where: str
    """Last operation and missing ones, for messages."""
    acknowledged: tuple[Any, ...]
    """Values that were acknowledged before the failure, and must be durable."""
    _tree: Tree
    _root: int
    _inodes: Path

    def build(self, place: Path) -> None:
        """Write the directory to a path that does not exist.

        Its files are the recorded ones, with their inodes and times. So remove the
        directory that another cut has built before: it changes too.
        """
        self._tree.build(place, self._root, self._inodes)

    @property
    def digest(self) -> str:
        """Hash of the content, by which equal states are recognised."""
        digest = hashlib.blake2b(repr(sorted(self._tree.names.items())).encode())
        for number, content in sorted(self._tree.files.items()):
            digest.update(b"%d:%d:" % (number, len(content)) + content)
        return digest.hexdigest()


@dataclass(frozen=True)
class Record:
    """Recorded operations on a directory, with the acknowledgements between them."""

    base: Tree
    operations: Sequence[Operation | Sync]
    acknowledged: Sequence[tuple[int, Any]]
    """Number of operations before an acknowledgement, and its value."""
    root: int
    inodes: Path


def cuts_of(record: Record, samples: int, seed: int) -> Iterator[Cut]:
    """Yield the possible states after a power failure at any point, each only once.

    Args:
        record: recorded operations.
        samples: number of random states at each point, beside the systematic ones.
        seed: of the random states.
    """
    chance = random.Random(seed)  # noqa: S311 - no secret
    durable, pending, seen = record.base.copy(), list[Operation](), set[str]()
    count = len(record.operations)
    for place in range(count + 1):
        acknowledged = tuple(
            what for when, what in record.acknowledged if when <= place
        )
        for what, parts in _possible_subsets(pending, samples, chance):
            tree = durable.copy()
            for part in parts:
                tree.apply(part)
            where = f"after operation {place} of {count}: {what}"
            cut = Cut(where, acknowledged, tree, record.root, record.inodes)
            # Equal states with more acknowledgements demand more.
            key = f"{cut.digest} {len(acknowledged)}"
            if key not in seen:
                seen.add(key)
                yield cut
        if place < count:
            pending = _pending_after(record.operations[place], durable, pending)


def _pending_after(
    operation: Operation | Sync, durable: Tree, pending: list[Operation]
) -> list[Operation]:
    """Apply an operation; a sync moves pending operations to the durable tree.

    Returns:
        The operations that are still pending.
    """
    if not isinstance(operation, Sync):
        return [*pending, operation]
    left: list[Operation] = []
    for one in pending:
        if operation.object in one.objects():
            durable.apply(one)
        else:
            left.append(one)
    return left


def _possible_subsets(
    pending: Sequence[Operation], samples: int, chance: random.Random
) -> Iterator[tuple[str, list[Operation]]]:
    """Yield subsets of the pending operations that may be on the disk.

    A disk may write pending operations in any order, and only in part.
    """
    everything = list(pending)
    yield "nothing unsynced is there", []
    yield "all is there", everything
    # The latest operations are the likeliest to be missing, and all subsets of
    # the rest would be too many.
    for place in range(max(0, len(everything) - _LEFT_OUT_SINGLY), len(everything)):
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
    """Yield partial writes: blocks that never came to the disk, cut off or NUL."""
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
