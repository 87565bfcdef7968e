"""Entries and frame of a legacy file, as the generator composes it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Self, TypeAlias

from pend_storage.sample_data.node_json import INDENT, Json, Record, member, render
from pend_storage.sample_data.world import World


@dataclass(frozen=True, slots=True)
class Entry:
    """One record: a list item when it has no key, else a member of a map."""

    value: Json
    key: str | None = None

    def text(self, margin: str) -> str:
        """Render the entry as it is written to its file."""
        if self.key is None:
            return render(self.value, margin)
        return member(self.key, self.value, margin)


@dataclass(frozen=True, slots=True)
class Frame:
    """Text around the entries of a file: an object, a list, or a list in an object."""

    opening: str
    closing: str
    margin: str = "\n" + INDENT

    @classmethod
    def map(cls) -> Self:
        """Return the frame of a file whose entries are the members of one object."""
        return cls("{", "}")

    @classmethod
    def list(cls) -> Self:
        """Return the frame of a file whose entries are the items of one list."""
        return cls("[", "]")

    @classmethod
    def wrapped(cls, name: str) -> Self:
        """Return the frame of a file whose list is a member of one object."""
        margin = "\n" + INDENT
        return cls(f'{{{margin}"{name}": [', "]\n}", margin + INDENT)

    @property
    def is_wrapped(self) -> bool:
        """Return True if the list is a member of an object."""
        return len(self.margin) > len(INDENT) + 1

    @property
    def end(self) -> str:
        """Return the text after the last entry; ``closing`` is for empty files."""
        return self.margin[: -len(INDENT)] + self.closing


Maker: TypeAlias = Callable[[World, Random], Iterator[Entry]]


@dataclass(frozen=True, slots=True)
class LegacyFile:
    """Generator of one legacy file of the server.

    Attributes:
        name: path below the server's data directory.
        frame: text around the entries.
        count: returns the number of entries that ``entries`` yields.
        entries: yields the entries in the order of the file, all of them regular.
    """

    name: str
    frame: Frame
    count: Callable[[World], int] = field(repr=False)
    entries: Maker = field(repr=False)


def listed(
    count: Callable[[World], int], make: Callable[[World, Random, int], Record]
) -> tuple[Callable[[World], int], Maker]:
    """Build count and entries of a `LegacyFile` for ``make(world, rng, 0..count)``."""

    def entries(world: World, rng: Random) -> Iterator[Entry]:
        for number in range(count(world)):
            yield Entry(make(world, rng, number))

    return count, entries


def mapped(
    count: Callable[[World], int],
    key: Callable[[World, int], str],
    make: Callable[[World, Random, int], Json],
) -> tuple[Callable[[World], int], Maker]:
    """Build count and entries of a `LegacyFile` that is a map."""

    def entries(world: World, rng: Random) -> Iterator[Entry]:
        for number in range(count(world)):
            yield Entry(make(world, rng, number), key(world, number))

    return count, entries
