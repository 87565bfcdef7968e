"""Tokens of commits that the JSON store has forgotten in memory, and of those that wait."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pend_storage._model.attribution import new_token
from pend_storage.records import Batch
from pend_storage.stores.json import JsonStore
from pend_storage.stores.json._journal import (
    commit_tokens,
    history_reader,
    replica_state,
)
from pend_storage.testing.domain import SCHEMA, Log, a_log


def batch(key: str) -> Batch:
    """A commit of one record that must be new."""
    return SCHEMA.batch([SCHEMA.put(Log, a_log(key))], {("logs", key): 0})


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens for which the journal was walked along."""
    walked: list[str] = []
    entry_of: Callable[..., Any] = history_reader.entry_of

    def watched(directory: Path, token: str, *rest: Any) -> Any:
        walked.append(token)
        return entry_of(directory, token, *rest)

    monkeypatch.setattr(replica_state, "entry_of", watched)
    return walked


@pytest.mark.parametrize("compacted", [False, True])
def test_a_forgotten_commit_is_found_in_the_journal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, compacted: bool
) -> None:
    monkeypatch.setattr(commit_tokens, "_MOST", 3)
    with JsonStore(SCHEMA, tmp_path, checkpoint_interval=None) as store:
        batches = [batch(f"{n}") for n in range(20)]
        versions = [store.commit(each) for each in batches[:10]]
        if compacted:
            store.compact()
        versions += [store.commit(each) for each in batches[10:]]

        assert [store.commit(each) for each in batches] == versions
        assert len(list(store.changes())) == 20
        assert store.find_commit(new_token()) is None
        assert store.find_commit("0" * 32) is None


def test_what_waits_behind_many_bytes_walks_along_no_journal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, walks: list[str]
) -> None:
    monkeypatch.setattr(replica_state, "_HISTORY_BYTES", 2_000)
    with JsonStore(SCHEMA, tmp_path, checkpoint_interval=None) as store:
        store.commit_each([batch(f"{n}") for n in range(200)])
        for each in [batch(f"later-{n}") for n in range(50)]:
            store.commit(each)

        assert walks == []


def test_a_commit_whose_entry_is_forgotten_is_given_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, walks: list[str]
) -> None:
    monkeypatch.setattr(replica_state, "_HISTORY_BYTES", 2_000)
    with JsonStore(SCHEMA, tmp_path, checkpoint_interval=None) as store:
        batches = [batch(f"{n}") for n in range(50)]
        versions = [store.commit(each) for each in batches]

        assert store.commit(batches[0]) == versions[0]
        assert walks == [batches[0].token]
        assert store.commit(batches[-1]) == versions[-1]
        assert len(walks) == 1
