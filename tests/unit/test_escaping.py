"""Escaping: what a terminal obeys and what a reader cannot see is written out."""

from __future__ import annotations

import json
import pickle
import time
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from pend_storage import errors
from pend_storage._escaping import escaped, escaped_json, escaped_lines, formula_free
from pend_storage._shown import (
    MOST_OF_A_MESSAGE,
    MOST_SHOWN,
    did_you_mean,
    listed,
    message_text,
    moment,
    one_line,
    outline,
    path_text,
    shortened,
    shown,
)
from pend_storage.events import Event

HIDDEN = {
    "NUL": ("\0", r"\x00"),
    "BEL": ("\a", r"\x07"),
    "backspace": ("\b", r"\x08"),
    "tab": ("\t", r"\t"),
    "line feed": ("\n", r"\n"),
    "vertical tab": ("\v", r"\x0b"),
    "carriage return": ("\r", r"\r"),
    "escape": ("\x1b", r"\x1b"),
    "unit separator": ("\x1f", r"\x1f"),
    "DEL": ("\x7f", r"\x7f"),
    "next line": ("\x85", r"\x85"),
    "CSI of one character": ("\x9b", r"\x9b"),
    "OSC of one character": ("\x9d", r"\x9d"),
    "soft hyphen": ("\xad", r"\xad"),
    "Arabic letter mark": ("\u061c", r"\u061c"),
    "Hangul filler": ("\u3164", r"\u3164"),
    "zero width space": ("\u200b", r"\u200b"),
    "zero width joiner": ("\u200d", r"\u200d"),
    "left-to-right mark": ("\u200e", r"\u200e"),
    "right-to-left mark": ("\u200f", r"\u200f"),
    "line separator": ("\u2028", r"\u2028"),
    "paragraph separator": ("\u2029", r"\u2029"),
    "embedding": ("\u202a", r"\u202a"),
    "override": ("\u202e", r"\u202e"),
    "word joiner": ("\u2060", r"\u2060"),
    "isolate": ("\u2066", r"\u2066"),
    "end of isolate": ("\u2069", r"\u2069"),
    "variation selector": ("\ufe01", r"\ufe01"),
    "byte order mark": ("\ufeff", r"\ufeff"),
    "annotation": ("\ufff9", r"\ufff9"),
    "lone surrogate": ("\udcff", r"\udcff"),
    "no character": ("\ufffe", r"\ufffe"),
    "private": ("\ue000", r"\ue000"),
    "tag": ("\U000e0041", r"\U000e0041"),
    "further variation selector": ("\U000e0100", r"\U000e0100"),
    "unassigned": ("\U000e0fff", r"\U000e0fff"),
}
ORDINARY = (
    "wallet-db.json",
    "C:\\data\\my files\\50% [red]=1",
    "محفظة المستخدمين.json",
    "می\u200cخواهم",  # noqa: RUF001 - Persian needs the joiner that hides between other letters
    "用户数据 2026\u3000年.json",
    "Ελληνικά, Русский, עברית, ภาษาไทย, 한국어",
    "क\u094d\u200dष",
    "e\u0301t\u00e9 \u00a0 \N{EURO SIGN}",
    "\N{GRINNING FACE}\N{HEAVY BLACK HEART}\ufe0f \N{WOMAN}\u200d\N{ROCKET}",
)
HIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
any_text = st.text(
    st.characters() | st.sampled_from([character for character, _ in HIDDEN.values()])
)


def hidden_in(text: str) -> list[str]:
    """List the characters that a reader would not see."""
    stripped = text.replace("\u200c", "").replace("\u200d", "")
    return [c for c in stripped if unicodedata.category(c) in HIDDEN_CATEGORIES]


@pytest.mark.parametrize(("character", "form"), HIDDEN.values(), ids=[*HIDDEN])
def test_a_hidden_character_is_written_out(character: str, form: str) -> None:
    assert escaped(f"a{character}b") == f"a{form}b"
    assert one_line(f"a{character}b") == f"a{form}b"
    assert form in shown(f"a{character}b")
    assert character not in shown({"n": [f"a{character}b"]})
    assert character not in listed([f"a{character}b"])
    assert character not in path_text((f"a{character}b", 1))
    assert character not in moment(f"a{character}b")


@pytest.mark.parametrize("text", ORDINARY)
def test_the_writing_of_all_languages_stays(text: str) -> None:
    assert escaped(text) == one_line(text) == escaped_lines(text) == text


@given(any_text)
def test_a_text_becomes_one_visible_line(text: str) -> None:
    line = escaped(text)

    assert hidden_in(line) == []
    assert len(line.splitlines()) <= 1
    assert escaped(line) == line
    assert hidden_in(escaped_lines(text).replace("\n", "")) == []


@given(any_text)
def test_a_text_that_is_cut_has_the_length_it_may_have(text: str) -> None:
    for most in (60, MOST_SHOWN):
        line = one_line(text * 9, most)
        assert len(line) <= most
        assert hidden_in(line) == []
        assert len(message_text(text * 300)) <= MOST_OF_A_MESSAGE
    assert hidden_in(shown(text)) == []


@given(st.dictionaries(any_text, any_text))
def test_a_document_keeps_its_value_without_hidden_characters(
    value: dict[str, str],
) -> None:
    try:
        text = json.dumps(value, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        return
    document = escaped_json(text)

    assert hidden_in(document) == []
    assert json.loads(document) == value


def test_only_the_ends_of_lines_stay_in_a_text_of_several_lines() -> None:
    assert escaped_lines("a\x1b\nb\r\n\tc") == "a\\x1b\nb\\r\n\\tc"
    assert escaped_json('{"a":"\x9b"}\n{"b":1}\n') == '{"a":"\\u009b"}\n{"b":1}\n'


@pytest.mark.parametrize("text", ["=1+1", "+2", "-2", "@a", "\t=1", "\r=1", "＝1"])  # noqa: RUF001
def test_a_formula_becomes_a_text(text: str) -> None:
    assert formula_free(text) == f"'{text}"
    assert formula_free(f"a{text}") == f"a{text}"
    assert formula_free("") == ""


def test_a_long_message_keeps_its_beginning_and_what_to_do() -> None:
    text = message_text("the file " + "x" * 5_000_000 + ". Correct it.")

    assert text.startswith("the file xxx")
    assert text.endswith("x. Correct it.")
    assert "(5,000,022 characters)" in text
    assert len(text) == MOST_OF_A_MESSAGE


@pytest.mark.parametrize("character", ["x", "\x1b", "\u202e", "é"])
def test_a_message_is_made_of_a_huge_text_in_no_time(character: str) -> None:
    huge = character * 5_000_000
    began = time.process_time()

    for make in (one_line, shown, message_text, moment):
        assert len(make(huge)) < 2_500
    assert listed([huge] * 100).endswith(" more")
    assert did_you_mean(huge, [huge, "a"]) == did_you_mean("a", [huge] * 9) == "."
    assert path_text((huge, 1)) != ""
    assert time.process_time() - began < 5  # a pass over all of it takes a minute


def test_a_huge_word_is_compared_with_nothing() -> None:
    def compared(name: str) -> str:
        raise AssertionError(name)

    assert did_you_mean("x" * 101, map(compared, ["a"])) == "."
    assert did_you_mean("statsu", ["status"]) == "; did you mean 'status'?"


def test_what_cannot_be_printed_has_a_form_too() -> None:
    class Unprintable:
        @override
        def __repr__(self) -> str:
            raise LookupError("no")

    nested: list[object] = []
    for _ in range(5_000):
        nested = [nested]

    assert shown(Unprintable()) == "<Unprintable>"
    assert shown(10**5_000) == "<int of 16,610 bits>"
    assert shown(nested).startswith("[[[[")


def test_a_hidden_value_shows_type_and_size() -> None:
    assert outline("+201234567890") == "<str of length 13>"
    assert outline(7) == "<int>"
    assert shortened("0x" + "ab" * 32) == "'0xabab'..."
    assert shortened("a") == "'a'"


FOREIGN = "a\x1b]0;t\a\n0 wait\u202e" + "x" * 9_999
MADE: dict[str, Callable[[], errors.PendStorageError]] = {
    "ConfigError": lambda: errors.ConfigError(FOREIGN),
    "InvalidQuery": lambda: errors.InvalidQuery(FOREIGN),
    "InvalidRecord": lambda: errors.InvalidRecord(FOREIGN, collection="c", key=FOREIGN),
    "MergeConflict": lambda: errors.MergeConflict(file=FOREIGN, member=(FOREIGN,)),
    "StoreUnavailable": lambda: errors.StoreUnavailable(FOREIGN, store=FOREIGN),
    "StalePosition": lambda: errors.StalePosition(store=FOREIGN, name=FOREIGN),
    "SwitchRefused": lambda: errors.SwitchRefused(((FOREIGN, FOREIGN),)),
    "CorruptFile": lambda: errors.CorruptFile(FOREIGN, path=FOREIGN, offset=1),
    "LockTimeout": lambda: errors.LockTimeout(path=FOREIGN, seconds=1, holder=FOREIGN),
}


@pytest.mark.parametrize("make", MADE.values(), ids=[*MADE])
def test_an_error_is_one_visible_line(
    make: Callable[[], errors.PendStorageError],
) -> None:
    error = make()
    if type(error) is not errors.MergeConflict:
        assert len(error.args[0]) <= MOST_OF_A_MESSAGE  # the text itself is not kept
    late = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    late.args = (FOREIGN,)

    for text in (str(error), str(late), getattr(error, "reason", "")):
        assert hidden_in(text) == []
        assert len(text) <= MOST_OF_A_MESSAGE


def test_the_message_of_an_event_is_one_visible_line() -> None:
    event = Event("odd", FOREIGN, fields={"text": FOREIGN})

    assert hidden_in(event.message) == []
    assert len(event.message) <= MOST_OF_A_MESSAGE
    assert event.fields["text"] == FOREIGN  # machines get the fact as it is
