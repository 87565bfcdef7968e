from __future__ import annotations

import pickle
from typing import Any

import pytest

from pend_storage import errors

ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "PendStorageError": (("broken",), {}),
    "InvalidRecord": (("too long",), {"collection": "ships", "field": "name"}),
    "InvalidQuery": (("no such field",), {}),
    "Conflict": ((), {"collection": "c", "key": "k", "expected": 1, "actual": 2}),
    "MergeConflict": ((), {"file": "a.json", "member": ("users", "ann", 3)}),
    "UniqueViolation": ((), {"collection": "c", "fields": ("a", "b"), "key": "k"}),
    "ReferenceViolation": (
        (),
        {"collection": "c", "field": "f", "target": "t", "value": "v"},
    ),
    "AppendOnly": ((), {"collection": "audit", "key": "k"}),
    "UnknownCollection": (("c",), {"known": ("a", "b")}),
    "ConfigError": (("wrong",), {}),
    "SchemaOutOfDate": (("too old",), {}),
    "StoreUnavailable": (
        ("refused",),
        {"store": "s", "outcome_known": False, "token": None},
    ),
    "StaleEpoch": ((), {"store": "s", "role": "fenced", "epoch": 3}),
    "StalePosition": ((), {"store": "s", "name": "mark"}),
    "SwitchRefused": (((("lag", "it lags"),),), {}),
    "SwitchTimeout": (("too slow",), {}),
    "ChangesExpired": ((), {"store": "s", "after": 3, "oldest": 5}),
    "CorruptFile": (("torn",), {"path": "a.json", "offset": 7}),
    "JobCancelled": (
        (),
        {"kind": "k", "job": "j", "by": "b", "reason": "r", "again": "Again."},
    ),
    "LockTimeout": ((), {"path": "a.lock", "seconds": 1.5}),
}


def make(name: str) -> errors.PendStorageError:
    positional, named = ARGUMENTS[name]
    error: errors.PendStorageError = getattr(errors, name)(*positional, **named)
    return error


def test_every_error_is_public() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }

    assert defined == set(errors.__all__) == set(ARGUMENTS)


def test_the_tree_in_the_docstring_names_every_error() -> None:
    assert errors.__doc__ is not None
    assert all(name in errors.__doc__ for name in errors.__all__)


@pytest.mark.parametrize("name", errors.__all__)
def test_an_error_survives_pickling(name: str) -> None:
    error = make(name)
    error.add_note("seen at sea")

    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own

    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("name", errors.__all__)
def test_an_error_keeps_its_facts_as_attributes(name: str) -> None:
    error = make(name)

    assert isinstance(error, errors.PendStorageError)
    for attribute, value in ARGUMENTS[name][1].items():
        if attribute != "known":
            assert getattr(error, attribute) == value


@pytest.mark.parametrize(
    ("name", "builtin"),
    [("InvalidQuery", ValueError), ("UnknownCollection", LookupError)],
)
def test_some_errors_are_builtin_ones_too(name: str, builtin: type[Exception]) -> None:
    assert isinstance(make(name), builtin)


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (make("InvalidRecord"), ["ships.name", "too long", "write again"]),
        (
            errors.InvalidRecord("odd", collection="ships"),
            ["ships: odd", "Correct"],
        ),
        (make("Conflict"), ["c['k']", "version 1", "version 2", "store.run()"]),
        (
            errors.Conflict(collection="c", key="k", expected=0, actual=4),
            ["expected no record", "found version 4"],
        ),
        (
            errors.Conflict(collection="c", key="k", expected=4, actual=0),
            ["expected version 4", "found no record"],
        ),
        (
            errors.Conflict(collection="c", key="k", expected=0, actual=0),
            ["expected no record", "found one that this transaction wrote"],
        ),
        (
            make("MergeConflict"),
            ["a.json: 'users.ann.3' was changed by another writer", "store.update()"],
        ),
        (make("UniqueViolation"), ["c['k']", "a, b", "another value"]),
        (make("ReferenceViolation"), ["c.f", "t['v']", "first"]),
        (make("UnknownCollection"), ["'c'", "a, b"]),
        (make("StoreUnavailable"), ["s: refused.", "read before repeating"]),
        (
            errors.StoreUnavailable("r", store="s", outcome_known=False, token="0f"),  # noqa: S106 - of a commit
            ["s: r.", "store.find_commit('0f')"],
        ),
        (make("StalePosition"), ["s: the position 'mark'", "Read it again"]),
        (
            errors.StoreUnavailable("away.", store="s"),
            ["s: away. Nothing was changed", "try again"],
        ),
        (make("StaleEpoch"), ["fenced", "epoch 3", "Read the roles"]),
        (make("SwitchRefused"), ["lag: it lags", "accept"]),
        (make("ChangesExpired"), ["after 3", "after 5", "Copy the whole store"]),
        (make("CorruptFile"), ["a.json, byte 7", "torn.", "backup"]),
        (errors.CorruptFile("torn", path="a.json"), ["a.json: torn."]),
        (make("LockTimeout"), ["a.lock", "1.5 s"]),
    ],
)
def test_a_message_says_what_where_and_what_to_do(
    error: errors.PendStorageError, parts: list[str]
) -> None:
    for part in parts:
        assert part in str(error)
