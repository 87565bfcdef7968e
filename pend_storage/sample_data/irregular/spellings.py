"""Irregular spellings of times, amounts, hashes, addresses and phone numbers."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from pend_storage.sample_data.irregular.anywhere import M, Q
from pend_storage.sample_data.irregular.changes import (
    Irregularity,
    bare,
    clipped,
    drop,
    edit,
    lower,
    put,
    raw,
    rows,
    upper,
    upper_all,
)
from pend_storage.sample_data.world import checksum_case

PHONES: Final = {
    "full": "+201000000042",
    "four-digits": "+1234****",
    "seven-digits": "+2010000****",
    "eight-digits": "+20100000****",
    "letters": "+201XXXXXXXX",
    "letters-and-stars": "+201XXXX****",
    "last-four": "****7890",
    "country-and-last-four": "+20***7890",
    "spaces": "+20 100 000 0042",
    "no-plus": "201000000042",
    "empty": "",
}
"""Documented forms of phone numbers, with numbers that are not assigned."""


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def _milliseconds(text: str) -> int:
    return _seconds(text) * 1000 + int(text[20:23])


def times(
    short: str, file: str, path: str, *, required: bool = False
) -> Iterator[Irregularity]:
    """Yield the spellings of a time that regular records always have.

    Args:
        short: the file's name in the names of irregularities.
        file: the legacy file.
        path: dotted path of the time.
        required: the time's column must be filled, so that a record without a readable
            one cannot be placed.
    """
    name = path.rsplit(".", 1)[-1]
    unreadable = Q if required else M
    table = (
        ("no-milliseconds", M, "without milliseconds", lambda t: t[:19] + "Z"),
        ("epoch-seconds", M, "in seconds since 1970", _seconds),
        ("epoch-milliseconds", M, "in milliseconds since 1970", _milliseconds),
        (
            "epoch-text",
            M,
            "in milliseconds since 1970, as text",
            lambda t: str(_milliseconds(t)),
        ),
        ("offset", M, "with an offset", lambda t: t[:-1] + "+02:00"),
        ("microseconds", M, "with microseconds", lambda t: t[:-1] + "456Z"),
        ("nanoseconds", M, "with nanoseconds", lambda t: t[:-1] + "456789Z"),
        ("word", unreadable, "given by a word", lambda _: "yesterday"),
        ("null", unreadable, "null", lambda _: None),
        ("empty", unreadable, "an empty text", lambda _: ""),
    )
    for slug, expected, words, how in table:
        row = (f"{name}-{slug}", expected, f"{path} is {words}", edit(path, how))
        yield from rows(short, file, row)
    absent = (f"{name}-missing", unreadable, f"{path} is not there", drop(path))
    yield from rows(short, file, absent)


def amounts(short: str, file: str, path: str) -> Iterator[Irregularity]:
    """Yield the spellings of an amount of money."""
    name = path.rsplit(".", 1)[-1]
    texts = {
        "seven-decimals": "12.3456789",
        "trailing-zero": "100.0",
        "five-decimals": "95170.00004",
        "nineteen-decimals": "0.1234567890123456789",
        "wei-text": "1000000000000000000000",
        "thirty-digits": "123456789012345678901234567890",
        "thousands-commas": "1,250,000.50",
        "with-currency": "EGP 1,000",
        "exponent-text": "1e21",
        "negative": "-5",
        "plus-sign": "+5",
        "leading-zeros": "0005.00",
        "no-whole-part": ".5",
        "spaces": " 250 ",
        "word": "pending",
        "empty": "",
    }
    numbers = {
        "number": "250",
        "number-seven-decimals": "12.3456789",
        "number-wei": "1000000000000000000000",
        "number-exponent": "1e21",
        "number-minus-zero": "-0.0",
        "number-long-decimal": "0.1234567890123456789012345678901234",
    }
    for slug, text in texts.items():
        row = (f"{name}-{slug}", M, f'{path} is "{text}"', put(path, text))
        yield from rows(short, file, row)
    for slug, text in numbers.items():
        words = f"{path} is the number {text}"
        yield from rows(short, file, (f"{name}-{slug}", M, words, raw(path, text)))
    yield from rows(
        short,
        file,
        (f"{name}-null", M, f"{path} is null", put(path, None)),
        (f"{name}-missing", M, f"{path} is not there", drop(path)),
        (f"{name}-nan", Q, f"{path} is NaN", raw(path, "NaN")),
    )


def hashes(short: str, file: str, path: str) -> Iterator[Irregularity]:
    """Yield the spellings of a hash or address that a record refers to."""
    name = path.rsplit(".", 1)[-1]
    for slug, words, how in (
        ("without-0x", "has no 0x", bare),
        ("upper-case", "has capital letters", upper),
        ("upper-case-0x", "has capital letters, in 0X too", upper_all),
        ("lower-case", "has small letters", lower),
        ("mixed-case", "is spelled like a checksum", checksum_case),
        ("clipped", "is shortened with dots", clipped),
    ):
        yield from rows(
            short, file, (f"{name}-{slug}", M, f"{path} {words}", edit(path, how))
        )
    yield from rows(
        short,
        file,
        (f"{name}-null", M, f"{path} is null", put(path, None)),
        (f"{name}-missing", M, f"{path} is not there", drop(path)),
        (f"{name}-empty", M, f"{path} is an empty text", put(path, "")),
    )


def phones(short: str, file: str, path: str) -> Iterator[Irregularity]:
    """Yield the forms in which a phone number is stored."""
    name = path.rsplit(".", 1)[-1]
    for slug, text in PHONES.items():
        row = (f"{name}-{slug}", M, f'{path} is "{text}"', put(path, text))
        yield from rows(short, file, row)
    yield from rows(
        short, file, (f"{name}-null", M, f"{path} is null", put(path, None))
    )


def words(short: str, file: str, path: str, *options: str) -> Iterator[Irregularity]:
    """Yield words outside of a closed vocabulary, with null and absence."""
    name = path.rsplit(".", 1)[-1]
    for option in options:
        slug = option.lower().replace(" ", "-") or "empty"
        spelled = (
            f"{name}-{slug}" if option == option.lower() else f"{name}-label-{slug}"
        )
        row = (spelled, M, f'{path} is "{option}"', put(path, option))
        yield from rows(short, file, row)
    yield from rows(
        short,
        file,
        (f"{name}-null", M, f"{path} is null", put(path, None)),
        (f"{name}-missing", M, f"{path} is not there", drop(path)),
    )
