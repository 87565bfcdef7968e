"""Values and keys of any size in messages, reports and tables."""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

import pytest
from hypothesis import given
from typing_extensions import override

from pend_storage import errors
from pend_storage._model.diff import Difference, differences
from pend_storage._model.fields import FieldSpec, Kind, Limit
from pend_storage._shown import MOST_SHOWN, bounded, cut, listed, path_text, shown
from pend_storage.cli._output import Output
from pend_storage.codec import value_checker
from pend_storage.errors import InvalidQuery, PendStorageError
from pend_storage.events import Event, log_event
from pend_storage.query import field, make_query
from pend_storage.testing.domain import SCHEMA
from pend_storage.testing.strategies import json_values

LONG = "\N{GRINNING FACE}\x1b" * 1_500_000
MOST_OF_A_MESSAGE = 1_500


@given(json_values())
def test_what_is_shown_is_the_representation_or_its_beginning(value: Any) -> None:
    whole, text = repr(value), shown(value)

    assert len(text) <= MOST_SHOWN + 40
    assert text == whole or text[:150] == whole[:150]
    assert len(whole) > MOST_SHOWN or text == whole


@pytest.mark.parametrize(
    ("value", "end"),
    [
        ("x" * 201, "x'... (201 characters)"),
        (b"x" * 3_000, "x'... (3,000 bytes)"),
        ([0] * 1_000_000, "0... (1,000,000 items)"),
        ({f"{n}": n for n in range(3_000)}, "... (3,000 members)"),
        ({"a": {"b": LONG}}, "... (1 members)"),
        (Decimal("1" * 900), "1..."),
    ],
)
def test_what_is_cut_says_how_large_it_is(value: Any, end: str) -> None:
    assert shown(value).endswith(end)
    assert len(shown(value)) < MOST_SHOWN + 40


def test_no_more_of_a_value_is_printed_than_is_shown() -> None:
    class Unprintable:
        @override
        def __repr__(self) -> str:
            raise AssertionError("printed")

    assert shown([*range(500), Unprintable()]).startswith("[0, 1, 2, ")


@given(json_values())
def test_a_bounded_value_is_the_value_or_a_short_text(value: Any) -> None:
    found = bounded(value)

    assert found == value or (isinstance(found, str) and len(found) < 250)
    assert len(repr(value)) > MOST_SHOWN or found == value


def test_names_and_paths_are_cut() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(map(str, range(30))).endswith("18, 19 and 10 more")
    assert path_text(("a", 3, "b")) == "a.3.b"
    assert len(path_text((LONG, 3, LONG))) < MOST_SHOWN + 40
    assert path_text(tuple(range(100))).endswith("19....")
    assert cut("a" * 99, 40) == "a" * 21 + "... (99 characters)"


def test_a_difference_is_one_line() -> None:
    (found,) = differences({"a": {LONG: LONG}}, {"a": {LONG: LONG + "x"}})

    assert len(str(found)) < 5 * MOST_SHOWN + 100
    bound = Difference(("a", cut(LONG)), cut(LONG), cut(LONG + "x"))
    assert found.bounded() == bound
    told = Difference(("a",), "x" * 3_000, None).bounded()
    assert "... (3,000 characters)' is not None" in str(told)


MESSAGES: dict[str, Callable[[], PendStorageError]] = {
    "InvalidRecord": lambda: errors.InvalidRecord(LONG, collection="c", key=LONG),
    "Conflict": lambda: errors.Conflict(collection="c", key=LONG, expected=1, actual=2),
    "UniqueViolation": lambda: errors.UniqueViolation(
        collection="c", fields=("a",), key=LONG
    ),
    "ReferenceViolation": lambda: errors.ReferenceViolation(
        collection="c", field="a", target="t", value=LONG
    ),
    "UnknownCollection": lambda: errors.UnknownCollection(LONG, known=("a",)),
    "CorruptFile": lambda: errors.CorruptFile(LONG, path="f"),
}


@pytest.mark.parametrize("make", MESSAGES.values(), ids=[*MESSAGES])
def test_no_message_of_an_error_grows_with_what_it_cites(
    make: Callable[[], PendStorageError],
) -> None:
    assert len(str(make())) < MOST_OF_A_MESSAGE


REFUSED = {
    "pattern": (FieldSpec("f", Kind.STR, limit=Limit(pattern="^a$")), LONG),
    "choice": (FieldSpec("f", Kind.CHOICE, choices=("a", "b")), LONG),
    "enum": (SCHEMA["ships"].fields["built_for"], LONG),
    "bound": (SCHEMA["ships"].fields["crew"], 10**3_900),
    "digits": (
        FieldSpec("f", Kind.DECIMAL, limit=Limit(digits=5, places=2)),
        Decimal("1" * 5_000),
    ),
    "places": (
        FieldSpec("f", Kind.DECIMAL, limit=Limit(digits=5, places=2)),
        Decimal("0." + "1" * 5_000),
    ),
    "shape": (FieldSpec("f", Kind.LIST, shape=list[int]), [LONG]),
    "changed": (
        FieldSpec("f", Kind.LIST, shape=list[Annotated[float, Limit()]]),
        [1] * 9_000,
    ),
    "name": (FieldSpec("f", Kind.JSON), {LONG.encode(): 1}),
}


@pytest.mark.parametrize(("spec", "value"), REFUSED.values(), ids=[*REFUSED])
def test_no_refusal_of_a_value_cites_all_of_it(spec: FieldSpec, value: Any) -> None:
    try:
        value_checker(spec)(value)
    except ValueError as error:
        assert len(str(error)) < MOST_OF_A_MESSAGE
    else:
        assert spec.shape is not None


@pytest.mark.parametrize(
    "where",
    [field("crew") == LONG, field("crew", "\0" * 9_999) == 1, field(LONG) == 1],
)
def test_no_refusal_of_a_query_cites_all_of_it(where: Any) -> None:
    with pytest.raises(InvalidQuery) as caught:
        make_query(SCHEMA["ships"], (where,))

    assert len(str(caught.value)) < MOST_OF_A_MESSAGE


def test_a_line_of_the_log_has_an_end(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pend_storage"):
        log_event(Event("too-long", LONG))

    assert len(caplog.records[0].getMessage()) < 5_000


def test_a_long_text_does_not_widen_a_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [("a", "place", "short"), ("b", "k" * 700, "r" * 9_000)]
    Output(as_json=False).table(["id", "place", "reason"], rows)

    head, short, long = capsys.readouterr().out.splitlines()
    assert len(short) < len(head) + 10 < 120
    assert "... (700 characters)" in long
    assert long.endswith("... (9,000 characters)")
    assert len(long) < 700
