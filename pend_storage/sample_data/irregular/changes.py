"""Irregularities, and the small changes to a regular entry that make them."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeAlias

from pend_storage.sample_data.entries import Entry
from pend_storage.sample_data.node_json import Json, Pairs, Raw, Record
from pend_storage.sample_data.world import World


class Expected(Enum):
    """What a migration should do with an irregular record."""

    MIGRATES = "migrates"
    """Every value can be held, if need be in its own spelling beside the columns."""
    QUARANTINE = "quarantine"
    """It cannot be placed, so it waits whole; its neighbours are not touched."""


@dataclass(frozen=True, slots=True)
class Hand:
    """What a change may use besides its entry.

    Attributes:
        world: The server that the files belong to.
        later: Puts one more entry into the file, somewhere further down.
        serial: Differs for each change, so that what is made up is never made twice.
    """

    world: World
    later: Callable[[Entry], None]
    serial: int


Change: TypeAlias = Callable[[Entry, Hand], Entry]


@dataclass(frozen=True, slots=True)
class Irregularity:
    """One way in which a record of a legacy file may differ from the usual.

    Attributes:
        name: Unique; begins with the file's short name and a slash.
        file: The legacy file in which it occurs.
        sentence: What is unusual about the record.
        expected: Our reading of what should become of the record. Where a change adds
            a second record, it is that one: the first is regular.
        change: Turns a regular entry into the irregular one.
    """

    name: str
    file: str
    sentence: str
    expected: Expected
    change: Change = field(repr=False)


Row: TypeAlias = tuple[str, Expected, str, Change]


def rows(short: str, file: str, *table: Row) -> Iterator[Irregularity]:
    """Name the rows of one file's table."""
    for slug, expected, sentence, change in table:
        yield Irregularity(f"{short}/{slug}", file, sentence, expected, change)


def opened(entry: Entry) -> Record:
    """Give the record of an entry; a bare address or figure becomes one."""
    value = entry.value
    if isinstance(value, dict):
        return value
    is_hex = isinstance(value, str) and value.startswith("0x")
    return {"address" if is_hex else "value": value}


def _reach(record: Record, path: str) -> tuple[Record, str]:
    """Find the object that holds the last name of a dotted path, made if absent."""
    *way, name = path.split(".")
    for step in way:
        inner = record.get(step)
        if not isinstance(inner, dict):
            inner = {}
            record[step] = inner
        record = inner
    return record, name


def put(path: str, value: Json) -> Change:
    """Set a member, given by a dotted path."""

    def change(entry: Entry, _: Hand) -> Entry:
        record = opened(entry)
        holder, name = _reach(record, path)
        holder[name] = value
        return replace(entry, value=record)

    return change


def raw(path: str, text: str) -> Change:
    """Set a member to a number with a spelling of its own."""
    return put(path, Raw(text))


def merge(**members: Json) -> Change:
    """Set several members."""

    def change(entry: Entry, _: Hand) -> Entry:
        return replace(entry, value=opened(entry) | members)

    return change


def drop(path: str) -> Change:
    """Remove a member."""

    def change(entry: Entry, _: Hand) -> Entry:
        record = opened(entry)
        holder, name = _reach(record, path)
        holder.pop(name, None)
        return replace(entry, value=record)

    return change


def edit(path: str, how: Callable[[str], Json]) -> Change:
    """Respell a member that is text; what is absent is made up first."""

    def change(entry: Entry, hand: Hand) -> Entry:
        record = opened(entry)
        holder, name = _reach(record, path)
        old = holder.get(name)
        make = hand.world.hash if "Hash" in name else hand.world.address
        text = old if isinstance(old, str) else make("absent", hand.serial)
        holder[name] = how(text)
        return replace(entry, value=record)

    return change


def rename(**names: str) -> Change:
    """Give members other names, as another part of the server spells them."""

    def change(entry: Entry, _: Hand) -> Entry:
        record = opened(entry)
        return replace(entry, value={names.get(n, n): v for n, v in record.items()})

    return change


def become(value: Json) -> Change:
    """Put something else where the record should be."""
    return lambda entry, _: replace(entry, value=value)


def respell(how: Callable[[str], Json]) -> Change:
    """Change a whole value that is text, such as an address in ``wallet-db.json``."""
    return lambda entry, _: replace(entry, value=how(str(entry.value)))


def rekey(how: Callable[[str], str]) -> Change:
    """Change the name under which the record stands."""
    return lambda entry, _: replace(entry, key=how(entry.key or ""))


def twin(how: Change) -> Change:
    """Leave the entry alone, and add a changed copy of it further down."""

    def change(entry: Entry, hand: Hand) -> Entry:
        hand.later(how(deepcopy(entry), hand))
        return entry

    return change


def both(*changes: Change) -> Change:
    """Make several changes, one after the other."""

    def change(entry: Entry, hand: Hand) -> Entry:
        for each in changes:
            entry = each(entry, hand)
        return entry

    return change


def fresh(path: str, *, what: str = "hash") -> Change:
    """Set a member to a hash or address that occurs nowhere else."""

    def change(entry: Entry, hand: Hand) -> Entry:
        make = hand.world.hash if what == "hash" else hand.world.address
        return put(path, make("fresh " + path, hand.serial))(entry, hand)

    return change


def fresh_number(path: str) -> Change:
    """Set a member to a number that occurs nowhere else."""
    return lambda entry, hand: put(path, 1_000 + hand.serial)(entry, hand)


def fresh_key(entry: Entry, hand: Hand) -> Entry:
    """Put the record under the hash of a user who is not there."""
    return replace(entry, key=hand.world.hash("stranger", hand.serial))


def fresh_address(entry: Entry, hand: Hand) -> Entry:
    """Give an entry whose value is an address another one."""
    return replace(entry, value=hand.world.address("stranger", hand.serial))


def repeat_member(entry: Entry, _: Hand) -> Entry:
    """Give the first member of the record a second time, with another value."""
    members = list(opened(entry).items())
    return replace(entry, value=Pairs([*members, (members[0][0], "again")]))


# --- spellings


def bare(text: str) -> str:
    """Hex without its ``0x``."""
    return text.removeprefix("0x")


def upper(text: str) -> str:
    """Hex with capital letters behind a small ``0x``."""
    return "0x" + bare(text).upper()


def upper_all(text: str) -> str:
    """Hex with capital letters and a capital prefix."""
    return text.upper()


def lower(text: str) -> str:
    """Hex with small letters."""
    return text.lower()


def padded(text: str) -> str:
    """Text with spaces around it."""
    return f" {text} "


def clipped(text: str) -> str:
    """A hash shortened for show."""
    return f"{text[:6]}...{text[-4:]}"


def starred(text: str) -> str:
    """A hash hidden for a log."""
    return text[:10] + "****"
