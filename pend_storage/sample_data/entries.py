"""What a legacy file is made of: entries inside a frame."""

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
        """Print the entry as it stands in its file."""
        if self.key is None:
            return render(self.value, margin)
        return member(self.key, self.value, margin)


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around the entries of a file."""

    opening: str
    closing: str
    margin: str = "\n" + INDENT

    @classmethod
    def map(cls) -> Self:
        """Entries are the members of the only object."""
        return cls("{", "}")

    @classmethod
    def list(cls) -> Self:
        """Entries are the items of the only list."""
        return cls("[", "]")

    @classmethod
    def wrapped(cls, name: str) -> Self:
        """Entries are the items of a list that is a member of the only object."""
        margin = "\n" + INDENT
        return cls(f'{{{margin}"{name}": [', "]\n}", margin + INDENT)

    @property
    def is_wrapped(self) -> bool:
        """Whether the list is a member of an object."""
        return len(self.margin) > len(INDENT) + 1

    @property
    def end(self) -> str:
        """What follows the last entry of a file that has entries."""
        return self.margin[: -len(INDENT)] + self.closing


Maker: TypeAlias = Callable[[World, Random], Iterator[Entry]]


@dataclass(frozen=True, slots=True)
class LegacyFile:
    """One file of the server.

    Attributes:
        name: Path below the server's data directory.
        frame: What stands around the entries.
        count: How many entries `entries` will give.
        entries: The entries in the order of the file, all of them regular.
    """

    name: str
    frame: Frame
    count: Callable[[World], int] = field(repr=False)
    entries: Maker = field(repr=False)


def listed(
    count: Callable[[World], int], make: Callable[[World, Random, int], Record]
) -> tuple[Callable[[World], int], Maker]:
    """Give what `LegacyFile` needs for a list of ``make(world, rng, 0..count)``."""

    def entries(world: World, rng: Random) -> Iterator[Entry]:
        for number in range(count(world)):
            yield Entry(make(world, rng, number))

    return count, entries


def mapped(
    count: Callable[[World], int],
    key: Callable[[World, int], str],
    make: Callable[[World, Random, int], Json],
) -> tuple[Callable[[World], int], Maker]:
    """Give what `LegacyFile` needs for a map, as `listed` does for a list."""

    def entries(world: World, rng: Random) -> Iterator[Entry]:
        for number in range(count(world)):
            yield Entry(make(world, rng, number), key(world, number))

    return count, entries
