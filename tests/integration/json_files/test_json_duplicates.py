"""Files in which one member name stands twice: the last counts, for new code as for old."""

from __future__ import annotations

import contextlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pend_storage.errors import InvalidRecord
from pend_storage.operations.quarantine import accept, retry
from pend_storage.pend import LAYOUTS, SCHEMA, Document
from pend_storage.query import field
from pend_storage.records import QuarantinedRecord
from pend_storage.stores.json import JsonStore
from pend_storage.validation.render import render_check

from .conftest import Editor

WALLETS = "wallet-db.json"
TIERS = "admin-pool-tiers.json"
LOGS = "admin-logs.json"

NAMES = {'"a"': "a", r'"\u0061"': "a", '"b"': "b", '""': "", r'"\ud800"': "\ud800"}
"""Spelling and name."""
TEXTS = ("1", "2", '"x"', "[]", '{"i": 1, "i": 2}', "NaN")
"""Of values; the last two cannot be placed."""
members = st.lists(
    st.tuples(st.sampled_from(list(NAMES)), st.sampled_from(TEXTS)), max_size=6
)
steps = st.one_of(
    st.tuples(st.just("set"), st.sampled_from(["a", "b", ""]), st.integers(3, 9)),
    st.tuples(st.just("pop"), st.sampled_from(["a", "b", "", "\ud800"])),
    st.tuples(st.just("delete"), st.sampled_from(["a", "b"])),
    st.tuples(st.just("edit"), members),
    st.tuples(st.sampled_from(["dump", "retry", "accept", "reopen"])),
)


def text_of(pairs: list[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{name}: {value}" for name, value in pairs) + "}"


class Run:
    """A store over one file, and what an old program reads in it."""

    def __init__(self, directory: Path, text: str) -> None:
        self.directory = directory
        self.old = Editor(directory)
        self.old.put(TIERS, text)
        self.model: dict[str, Any] = self.old.load(TIERS)
        self.store = self._open()

    def _open(self) -> JsonStore:
        return JsonStore(
            SCHEMA,
            self.directory,
            layouts=LAYOUTS,
            checkpoint_interval=None,
            hook=lambda _: None,
        )

    def do(self, step: str, *given: Any) -> None:
        view = self.store.legacy(TIERS)
        match step:
            case "set":
                with contextlib.suppress(InvalidRecord):  # in quarantine
                    view[given[0]] = given[1]
                    self.model[given[0]] = given[1]
            case "pop":
                with contextlib.suppress(InvalidRecord):
                    found, expected = view.pop(*given, None), self.model.get(*given)
                    assert repr(found) == repr(expected)
                    self.model.pop(given[0], None)
            case "delete":
                documents = self.store.collection(Document)
                for each in documents.find(field("key") == given[0]).items:
                    documents.delete(each.id)
                    del self.model[given[0]]
            case "edit":
                self.old.put(TIERS, text_of(given[0]))
                self.model = self.old.load(TIERS)
            case "dump":
                self.old.save(TIERS, self.model)
            case "reopen":
                self.store.close()
                self.store = self._open()
            case _:
                for record in self.store.collection(QuarantinedRecord).scan():
                    if step == "retry":
                        retry(self.store, record)
                    else:
                        accept(self.store, record, "may stay")

    def judge(self) -> None:
        """Old code, a view and a file made again from the rows all say the same."""
        self.store.checkpoint()
        model, view = repr_of(self.model), self.store.legacy(TIERS)
        assert repr_of(self.old.load(TIERS)) == model
        assert repr_of(dict(view)) == repr_of(view.snapshot()) == model
        assert len(view) == len(self.model)
        assert all(name in view for name in self.model)
        if self.model:
            (check,) = render_check(self.store, self.directory)
            assert check.result != "different", check.differences


def repr_of(value: dict[str, Any]) -> list[str]:
    """Compares members: NaN is NaN here, and the order does not count."""
    return sorted(map(repr, value.items()))


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(first=members, then=st.lists(steps, max_size=6))
def test_an_old_program_reads_what_new_code_wrote_whatever_stood_there_twice(
    first: list[tuple[str, str]], then: list[tuple[Any, ...]]
) -> None:
    with TemporaryDirectory() as directory:
        run = Run(Path(directory), text_of(first))
        try:
            run.judge()
            for step in then:
                run.do(*step)
                run.judge()
        finally:
            run.store.close()
