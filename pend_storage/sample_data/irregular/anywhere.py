"""Irregular values that a record of any file may have."""

from collections.abc import Iterator
from typing import Final

from pend_storage.sample_data.irregular.changes import (
    Expected,
    Irregularity,
    become,
    put,
    raw,
    repeat_member,
    rows,
)
from pend_storage.sample_data.node_json import Json, Pairs, Raw

M: Final = Expected.MIGRATES
Q: Final = Expected.QUARANTINE

LONG: Final = 20_000
"""Characters of a very long text: far above any varchar or index entry."""
_DEPTH: Final = 40


def anywhere(
    short: str, file: str, *, free: str = "", typed: bool = False
) -> Iterator[Irregularity]:
    """Yield the irregularities that do not depend on the file's contents.

    Args:
        short: the file's name in the names of irregularities.
        file: the legacy file.
        free: dotted path of the nested object that takes unknown members, if any.
        typed: the file's records have a table of their own, so that a value of another
            type in the place of a record cannot be stored.
    """
    inside = f"{free}." if free else ""
    yield from _members(short, file, inside)
    yield from _numbers(short, file, inside + "rate")
    yield from _texts(short, file, inside + "note")
    yield from _impossible(short, file, inside + "note")
    if typed:
        yield from _other_types(short, file)


def _members(short: str, file: str, inside: str) -> Iterator[Irregularity]:
    unknown: Json = {"a": [1, None, True, {"b": "c"}], "source": "older version"}
    odd: Json = {"": 1, "a.b": 2, "two words": 3, '"q"\\': 4, "اسم": 5, "__proto__x": 6}
    empties: Json = {"list": [], "object": {}, "text": "", "zero": 0, "no": False}
    return rows(
        short,
        file,
        (
            "unknown-member",
            M,
            "a member of no document",
            put("legacyNote", unknown),
        ),
        (
            "unknown-nested-member",
            M,
            "the same, one object deeper",
            put(inside + "legacy.note", unknown),
        ),
        (
            "odd-member-names",
            M,
            "names that are empty, dotted, quoted or Arabic",
            put("names", odd),
        ),
        (
            "empty-values",
            M,
            "empty list, object and text, zero and false, all of which are values",
            put("empties", empties),
        ),
        ("null-member", M, "an unknown member that is null", put("nothing", None)),
        ("deep-nesting", M, "forty lists, one inside the other", put("deep", _deep())),
    )


def _deep() -> Json:
    nest: Json = "bottom"
    for _ in range(_DEPTH):
        nest = [nest]
    return nest


def _numbers(short: str, file: str, path: str) -> Iterator[Irregularity]:
    return rows(
        short,
        file,
        (
            "wei-number",
            M,
            "a number above 64 bits",
            raw(path, "1234567890123456789012345678"),
        ),
        ("wei-text", M, "the same as text", put(path, "1234567890123456789012345678")),
        ("uint256-number", M, "the largest 256-bit number", put(path, 2**256 - 1)),
        (
            "unsafe-integer",
            M,
            "an integer that a float cannot hold",
            put(path, 2**53 + 1),
        ),
        ("exponent", M, "a number written as 1e21", raw(path, "1e21")),
        (
            "small-exponent",
            M,
            "a number written as Node writes small ones",
            raw(path, "1e-7"),
        ),
        ("minus-zero", M, "minus zero, which equals zero", raw(path, "-0.0")),
        ("trailing-zero", M, "a number with zeros behind it", raw(path, "1.500")),
        (
            "long-decimal",
            M,
            "a number of thirty-four decimals",
            raw(path, "0.1234567890123456789012345678901234"),
        ),
    )


def _texts(short: str, file: str, path: str) -> Iterator[Irregularity]:
    strange = "عربي 😀 e\u0301 \u2028 \ufffe \x7f \x01 \t \\ / \u202e"
    return rows(
        short,
        file,
        ("empty-string", M, "an empty text", put(path, "")),
        ("long-string", M, "a very long text", put(path, "long " * (LONG // 5))),
        (
            "strange-characters",
            M,
            "every odd character that is legal",
            put(path, strange),
        ),
    )


def _impossible(short: str, file: str, path: str) -> Iterator[Irregularity]:
    numbers: Json = [0.5, Raw("NaN")]
    return rows(
        short,
        file,
        ("nul-in-string", Q, "a text with an escaped NUL", put(path, "a\x00b")),
        ("nul-in-name", Q, "a member name with an escaped NUL", put("a\x00b", "c")),
        (
            "lone-surrogate",
            Q,
            "a text with half a character, the first half",
            put(path, "a\ud800b"),
        ),
        ("lone-low-surrogate", Q, "the same, the second half", put(path, "\udfff")),
        ("lone-surrogate-in-name", Q, "a name with half a character", put("\ud83d", 1)),
        ("member-twice", Q, "the first member comes again at the end", repeat_member),
        (
            "nested-member-twice",
            Q,
            "a member comes twice in an inner object",
            put("inner", Pairs([("a", 1), ("b", 2), ("a", 3)])),
        ),
        ("nan", Q, "NaN, which is not JSON", raw(path, "NaN")),
        ("nested-nan", Q, "NaN inside a list", put("series", numbers)),
        ("infinity", Q, "Infinity, which is not JSON", raw(path, "Infinity")),
        ("minus-infinity", Q, "-Infinity, which is not JSON", raw(path, "-Infinity")),
    )


def _other_types(short: str, file: str) -> Iterator[Irregularity]:
    return rows(
        short,
        file,
        ("null-record", Q, "null where a record is expected", become(None)),
        ("number-record", Q, "a number where a record is expected", become(42)),
        (
            "list-record",
            Q,
            "a list where a record is expected",
            become(["a", {"b": 1}]),
        ),
        ("text-record", Q, "a word where a record is expected", become("undefined")),
        ("boolean-record", Q, "true where a record is expected", become(value=True)),
    )
