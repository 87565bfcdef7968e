"""Every class of SQLSTATE is sorted once: temporary, or what is to be corrected."""

from __future__ import annotations

import pickle

import pytest

from pend_storage.errors import (
    ConfigError,
    InvalidRecord,
    PendStorageError,
    SchemaOutOfDate,
    StoreUnavailable,
)
from pend_storage.stores.postgres._connection.server_errors import (
    ServerRefusal,
    proves_not_executed,
)


def public(code: str, message: str = "so it is") -> PendStorageError:
    return ServerRefusal(code, message, "ck_x").public("the store", "notes")


@pytest.mark.parametrize(
    "code",
    [
        "08006",
        "40003",
        "53100",
        "53300",
        "55P03",
        "55006",
        "57014",
        "57P04",
        "58030",
        "XX000",
        "F0000",
    ],
)
def test_what_may_heal_says_try_again(code: str) -> None:
    error = public(code)

    assert type(error) is StoreUnavailable
    assert "try again" in str(error)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("0A000", ConfigError),
        ("22001", InvalidRecord),
        ("22P05", InvalidRecord),
        ("23514", InvalidRecord),
        ("25006", ConfigError),
        ("26000", ConfigError),
        ("28000", ConfigError),
        ("28P01", ConfigError),
        ("3D000", ConfigError),
        ("3F000", SchemaOutOfDate),
        ("42501", ConfigError),
        ("42702", ConfigError),
        ("42P01", SchemaOutOfDate),
        ("42P10", ConfigError),
        ("42601", ConfigError),
        ("54000", InvalidRecord),
        ("54011", InvalidRecord),
    ],
)
def test_what_does_not_heal_says_what_to_correct(
    code: str, kind: type[PendStorageError]
) -> None:
    error = public(code)

    assert isinstance(error, kind)
    assert "try again" not in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301


@pytest.mark.parametrize("code", ["25006", "28P01", "3D000"])
def test_a_pair_may_go_on_without_a_server_that_must_be_corrected(code: str) -> None:
    error = public(code)

    assert isinstance(error, StoreUnavailable)
    assert error.outcome_known
    assert error.store == "the store"


def test_who_breaks_a_constraint_is_told_its_name() -> None:
    assert "constraint ck_x" in str(public("23514"))


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("canceling statement due to user request", "by an administrator"),
        (
            "canceling statement due to statement timeout",
            "longer than statement_timeout",
        ),
        ("Anweisung wird abgebrochen", "by statement_timeout or by hand"),
    ],
)
def test_a_statement_that_was_cancelled_says_by_whom(message: str, words: str) -> None:
    assert words in str(public("57014", message))


@pytest.mark.parametrize(
    "code", ["57P01", "57P03", "53300", "25P03", "25P04", "57P05", "28000", "3D000"]
)
def test_what_a_server_says_before_it_begins_was_not_done(code: str) -> None:
    assert proves_not_executed(code)


@pytest.mark.parametrize("code", ["", "08P01", "08006", "57P02", "58000", "XX000"])
def test_everything_else_that_ends_a_session_leaves_it_open(code: str) -> None:
    assert not proves_not_executed(code)


@pytest.mark.parametrize("code", ["58000", "XX000", "57P01", "53300", "08P01"])
def test_behind_a_pooler_what_it_may_say_itself_is_no_answer(code: str) -> None:
    assert ServerRefusal(code, "x").may_be_from_pooler(pooled=True)


def test_a_session_that_is_said_to_be_ended_and_is_not_had_somebody_in_between() -> (
    None
):
    assert ServerRefusal("58000", "x", is_fatal=True).may_be_from_pooler(pooled=False)


@pytest.mark.parametrize("code", ["23505", "40001", "53200", "55P03", "PEND1"])
def test_what_only_a_server_can_say_is_an_answer(code: str) -> None:
    assert not ServerRefusal(code, "x").may_be_from_pooler(pooled=True)


def test_a_lock_is_not_waited_for_over_and_over() -> None:
    assert ServerRefusal("55P03", "x", waited=0.1).is_transient
    assert not ServerRefusal("55P03", "x", waited=30.0).is_transient
