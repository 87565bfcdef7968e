"""Catalogue entries, and the changes to a regular record that make it irregular."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeAlias

from pend_storage.sample_data.entries import Entry
from pend_storage.sample_data.node_json import Json, Pairs, Raw, Record
from pend_storage.sample_data.world import World


class Expected(Enum):
    """Expected outcome of the migration of an irregular record."""

    MIGRATES = "migrates"
    """Every value is stored, if necessary in its own spelling beside the columns."""
    QUARANTINE = "quarantine"
    """The record cannot be placed and is quarantined whole; others are not affected."""


@dataclass(frozen=True, slots=True)
class ChangeContext:
    """Context of a change: the world, later entries, a serial number.

    Attributes:
        world: server that the files belong to.
        later: inserts one more entry into the file, further down.
        serial: different for each change, so that invented values are never repeated.
    """

    world: World
    later: Callable[[Entry], None]
    serial: int


Change: TypeAlias = Callable[[Entry, ChangeContext], Entry]


@dataclass(frozen=True, slots=True)
class Irregularity:
    """One way in which a record of a legacy file may differ from a regular one.

    Attributes:
        name: unique; begins with the file's short name and a slash.
        file: legacy file in which it occurs.
        sentence: description of the irregular record.
        expected: expected outcome, by our reading of the documents. Where a change adds
            a second record, it is that one's: the first is regular.
        change: turns a regular entry into the irregular one.
    """

    name: str
    file: str
    sentence: str
    expected: Expected
    change: Change = field(repr=False)


Row: TypeAlias = tuple[str, Expected, str, Change]


def rows(short: str, file: str, *table: Row) -> Iterator[Irregularity]:
    """Build irregularities from the rows of one file's table."""
    for slug, expected, sentence, change in table:
        yield Irregularity(f"{short}/{slug}", file, sentence, expected, change)


def opened(entry: Entry) -> Record:
    """Return the record of an entry; a bare address or figure is wrapped in one."""
    value = entry.value
    if isinstance(value, dict):
        return value
    is_hex = isinstance(value, str) and value.startswith("0x")
    return {"address" if is_hex else "value": value}


def _reach(record: Record, path: str) -> tuple[Record, str]:
    """Resolve a dotted path to its innermost object, made if absent, and last name."""
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

    def change(entry: Entry, _: ChangeContext) -> Entry:
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

    def change(entry: Entry, _: ChangeContext) -> Entry:
        return replace(entry, value=opened(entry) | members)

    return change


def drop(path: str) -> Change:
    """Remove a member."""

    def change(entry: Entry, _: ChangeContext) -> Entry:
        record = opened(entry)
        holder, name = _reach(record, path)
        holder.pop(name, None)
        return replace(entry, value=record)

    return change


def edit(path: str, how: Callable[[str], Json]) -> Change:
    """Respell a member that is text; what is absent is made up first."""

    def change(entry: Entry, context: ChangeContext) -> Entry:
        record = opened(entry)
        holder, name = _reach(record, path)
        old = holder.get(name)
        make = context.world.hash if "Hash" in name else context.world.address
        text = old if isinstance(old, str) else make("absent", context.serial)
        holder[name] = how(text)
        return replace(entry, value=record)

    return change


def rename(**names: str) -> Change:
    """Rename members to the spellings of another part of the server."""

    def change(entry: Entry, _: ChangeContext) -> Entry:
        record = opened(entry)
        return replace(entry, value={names.get(n, n): v for n, v in record.items()})

    return change


def become(value: Json) -> Change:
    """Replace the whole record by another value."""
    return lambda entry, _: replace(entry, value=value)


def respell(how: Callable[[str], Json]) -> Change:
    """Change a whole value that is a text, such as an address in ``wallet-db.json``."""
    return lambda entry, _: replace(entry, value=how(str(entry.value)))


def rekey(how: Callable[[str], str]) -> Change:
    """Change the member name of the record."""
    return lambda entry, _: replace(entry, key=how(entry.key or ""))


def twin(how: Change) -> Change:
    """Keep the entry, and add a changed copy of it further down."""

    def change(entry: Entry, context: ChangeContext) -> Entry:
        context.later(how(deepcopy(entry), context))
        return entry

    return change


def both(*changes: Change) -> Change:
    """Apply several changes, one after the other."""

    def change(entry: Entry, context: ChangeContext) -> Entry:
        for each in changes:
            entry = each(entry, context)
        return entry

    return change


def fresh(path: str, *, what: str = "hash") -> Change:
    """Set a member to a hash or address that occurs nowhere else."""

    def change(entry: Entry, context: ChangeContext) -> Entry:
        make = context.world.hash if what == "hash" else context.world.address
        return put(path, make("fresh " + path, context.serial))(entry, context)

    return change


def fresh_number(path: str) -> Change:
    """Set a member to a number that occurs nowhere else."""
    return lambda entry, context: put(path, 1_000 + context.serial)(entry, context)


def fresh_key(entry: Entry, context: ChangeContext) -> Entry:
    """Move the record to the hash of a user who does not exist."""
    return replace(entry, key=context.world.hash("stranger", context.serial))


def fresh_address(entry: Entry, context: ChangeContext) -> Entry:
    """Replace an entry's address by a fresh one."""
    return replace(entry, value=context.world.address("stranger", context.serial))


def repeat_member(entry: Entry, _: ChangeContext) -> Entry:
    """Repeat the first member of the record, with another value."""
    members = list(opened(entry).items())
    return replace(entry, value=Pairs([*members, (members[0][0], "again")]))


# --- spellings


def bare(text: str) -> str:
    """Return hex without its ``0x``."""
    return text.removeprefix("0x")


def upper(text: str) -> str:
    """Return hex with capital letters behind a small ``0x``."""
    return "0x" + bare(text).upper()


def upper_all(text: str) -> str:
    """Return hex with capital letters and a capital prefix."""
    return text.upper()


def lower(text: str) -> str:
    """Return hex with small letters."""
    return text.lower()


def padded(text: str) -> str:
    """Return text with spaces around it."""
    return f" {text} "


def clipped(text: str) -> str:
    """Return a hash shortened for display."""
    return f"{text[:6]}...{text[-4:]}"


def starred(text: str) -> str:
    """Return a hash redacted for a log."""
    return text[:10] + "****"
