"""Parity: every blocking verb has an awaited twin with the same arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from pend_storage import AsyncCollection, AsyncStore, AsyncTransaction
from pend_storage._transaction import Transaction, TransactionCollection
from pend_storage.aio import AsyncTransactionCollection
from pend_storage.collection import Collection
from pend_storage.dualwrite import DualWriteStore
from pend_storage.store import Store

ELSEWISE = {
    "legacy": "refused, and used by call(): the verbs of a mapping cannot be awaited",
    "listing": "for views, which wait",
    "moment": "for views, which wait",
    "own_log": "is for the audit, which is sealed and verified by commands",
    "rows": "for views, which wait",
    "together": "for views, which wait",
    "commit_each": "is what waiting commits become",
    "hold_log": "is called by a pair, on the stores that it is made of",
    "snapshot": "is for backups, which wait",
    "load_snapshot": "is for restores, which wait",
    "load_changes": "is for restores, which wait",
    "reserve_numbers": "is for restores, which wait",
    "lock": "is what exclusive() is made of",
    "relay": "is for a process of its own",
    "select": "takes a prepared query: it is for views, which wait",
    "write": "takes a prepared operation: it is for views, which wait",
    "after_commit": "is for views, which wait",
    "tell": "waits for nothing: it is for views, which tell the hook of their store",
    "acting": "waits for nothing: a plain with, around what is awaited",
    "phase": "a property cannot be awaited, so it is a method",
}
"""What is not the same, and why."""

TWINS = [
    (Collection, AsyncCollection),
    (Transaction, AsyncTransaction),
    (TransactionCollection, AsyncTransactionCollection),
    (Store, AsyncStore),
    (DualWriteStore, AsyncStore),
]


def verbs(kind: type) -> dict[str, Callable[..., Any]]:
    return {
        name: member
        for name, member in inspect.getmembers(kind, callable)
        if not name.startswith("_")
    }


def arguments(method: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    given = inspect.signature(method).parameters.values()
    return [(one.name, one.kind, one.default) for one in given]


@pytest.mark.parametrize(("waiting", "awaited"), TWINS)
def test_every_verb_is_there_with_the_same_arguments(
    waiting: type, awaited: type
) -> None:
    theirs = verbs(awaited)
    for name, method in verbs(waiting).items():
        if name in ELSEWISE:
            continue
        assert name in theirs, name
        assert arguments(theirs[name]) == arguments(method), name


@pytest.mark.parametrize(("waiting", "awaited"), TWINS)
def test_every_verb_is_awaited(waiting: type, awaited: type) -> None:
    for name in verbs(waiting).keys() - ELSEWISE.keys():
        method = verbs(awaited)[name]
        assert (
            inspect.iscoroutinefunction(method)
            or inspect.isasyncgenfunction(method)
            or name in {"collection", "transaction", "exclusive"}
            or inspect.isasyncgenfunction(inspect.unwrap(method))
        ), name


@pytest.mark.parametrize("name", ELSEWISE)
def test_what_is_excepted_is_there(name: str) -> None:
    kinds = (Store, DualWriteStore, Transaction, TransactionCollection)
    assert any(hasattr(kind, name) for kind in kinds)
