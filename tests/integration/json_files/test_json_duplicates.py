"""Files in which one member name stands twice: the last counts, for new code as for old."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pend_storage.errors import InvalidRecord
from pend_storage.events import Event
from pend_storage.legacy._quarantine import make
from pend_storage.operations.quarantine import accept, retry
from pend_storage.pend import LAYOUTS, SCHEMA, Document, User, UserProfile
from pend_storage.phases import Role
from pend_storage.query import field
from pend_storage.records import ChangedRecord, QuarantinedRecord
from pend_storage.stores.json import JsonStore
from pend_storage.testing.contract._harness import become
from pend_storage.validation._render_check import render_check

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
        self.events: list[Event] = []
        self.store = self._open()

    def _open(self) -> JsonStore:
        return JsonStore(
            SCHEMA,
            self.directory,
            layouts=LAYOUTS,
            checkpoint_interval=None,
            hook=self.events.append,
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
        self.events.clear()
        self.store.checkpoint()
        if any(event.name == "stale-copy" for event in self.events):
            self.model = self.old.load(TIERS)  # the edit has undone nothing
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
    max_examples=max(25, settings().max_examples // 8),
    deadline=None,
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


# -- one by one ---------------------------------------------------------------------------


def aside(store: JsonStore, file: str) -> list[tuple[bytes, str]]:
    found = store.collection(QuarantinedRecord).find(field("file") == file).items
    return sorted((record.raw, record.code) for record in found)


def test_a_superseded_text_that_left_its_file_stays_in_quarantine_alone(
    open_store: Callable[..., JsonStore], old: Editor
) -> None:
    old.put(TIERS, '{"a": 1, "b": 2, "a": 3}')
    store = open_store()
    store.legacy(TIERS).pop("a")
    (old.directory / "expected").mkdir()
    (old.directory / "expected" / TIERS).write_text('{"b": 2}')
    made = {c.file: c for c in render_check(store, old.directory / "expected")}
    assert made[TIERS].result == "identical"
    store.checkpoint()
    assert (old.directory / TIERS).read_text() == '{"b": 2}'

    old.put(TIERS, '{"b": 2, "a": 4}')
    store.checkpoint()
    store.legacy(TIERS)["b"] = 5
    store.checkpoint()

    assert (old.directory / TIERS).read_text() == '{"b": 5, "a": 4}'
    assert aside(store, TIERS) == [(b'"a": 1', "superseded")]
    (record,) = store.collection(QuarantinedRecord).find(field("file") == TIERS).items
    assert not retry(store, record).placed
    assert store.legacy(TIERS).snapshot() == {"b": 5, "a": 4}


def test_a_wallet_that_stands_twice_is_changed_and_deleted_for_old_code_too(
    open_store: Callable[..., JsonStore], old: Editor
) -> None:
    name, other = f"0x{1:064x}", f"0x{2:064x}"
    first, second, third = (f"0x{n:040x}" for n in (21, 22, 23))
    escaped = name.replace("x", "\\u0078")
    old.put(
        WALLETS,
        f'{{"{name}": "{first}", "{other}": "{third}", "{escaped}": "{second}"}}',
    )
    store = open_store()
    users = store.collection(User)
    user = users.get_by("phone_hash", name)

    assert user is not None
    assert store.legacy(WALLETS)[name] == user.blockchain_address == second
    # Not through the view, and without the position: it stands behind all others then.
    users.put(User(id=user.id, phone_hash=name, blockchain_address=first))
    store.checkpoint()
    assert old.load(WALLETS)[name] == first
    profiles = store.collection(UserProfile)
    with store.transaction() as tx:
        for profile in profiles.find(field("user_id") == user.id).items:
            tx.collection(UserProfile).delete(profile.user_id)
        tx.collection(User).delete(user.id)
    store.checkpoint()
    assert old.load(WALLETS) == {other: third} == store.legacy(WALLETS).snapshot()


def test_what_stands_twice_beside_a_list_of_records(
    open_store: Callable[..., JsonStore], old: Editor
) -> None:
    entry = '{"action": "A", "timestamp": "2025-06-19T07:58:56.380Z"}'
    raw = f'{{"logs": [1], "v": 1, "logs": [{entry}], "v": 2}}'
    old.put(LOGS, raw)
    store = open_store()
    logs = store.legacy(LOGS)
    dead = [(b'"logs": [1]', "superseded"), (b'"v": 1', "superseded")]

    assert logs.snapshot() == old.load(LOGS)
    assert aside(store, LOGS) == dead
    logs["logs"].append(json.loads(entry))
    store.checkpoint()
    text = (old.directory / LOGS).read_text()
    assert text.startswith('{"logs": [1], "v": 1, "logs": [')
    assert old.load(LOGS)["logs"] == [json.loads(entry)] * 2
    assert aside(store, LOGS) == dead

    # A commit and an edit at once, of different members; each of them stands twice.
    logs["w"] = 7
    old.put(LOGS, text.replace('"v": 2}', '"v": 3, "v": 4}'))
    store.checkpoint()
    assert old.load(LOGS) == logs.snapshot()
    assert (logs["v"], logs["w"]) == (4, 7)
    old.save(LOGS, old.load(LOGS))
    store.checkpoint()
    assert aside(store, LOGS) == []


def test_of_rows_for_which_the_first_counted_the_last_does_not_live_again(
    open_store: Callable[..., JsonStore], old: Editor
) -> None:
    """As an earlier version left them: the last member in quarantine."""
    old.put(TIERS, '{"a": 1, "b": 2, "c": 3}')
    store = open_store()
    (last,) = store.collection(Document).find(field("key") == "c").items
    store.collection(Document).delete(last.id)
    late = make(
        TIERS, "a", b'"a": 3', position=2, occurrence=0, code="key-taken", reason="-"
    )
    store.collection(QuarantinedRecord).put(late)
    store.legacy(TIERS)["a"] = 9
    store.checkpoint()

    assert old.load(TIERS) == {"a": 9, "b": 2} == store.legacy(TIERS).snapshot()
    del store.legacy(TIERS)["a"]
    store.checkpoint()
    assert old.load(TIERS) == {"b": 2} == store.legacy(TIERS).snapshot()


def test_a_secondary_writes_a_superseded_text_only_in_front_of_what_counts(
    open_store: Callable[..., JsonStore], old: Editor
) -> None:
    """Rows arrive in any order: the superseded one, what counts, and its tombstone."""
    store = open_store()
    dead = make(
        TIERS, "a", b'"a": 1', position=0, occurrence=0, code="superseded", reason="-"
    )
    live = Document(file=TIERS, key="a", body=3, legacy_position=0)
    become(store, Role.SECONDARY, 1)

    texts = []
    for number, (name, key, record) in enumerate(
        [
            ("documents", "b", Document(id="b", file=TIERS, key="b", body=2)),
            ("quarantine", dead.id, dead),
            ("documents", live.id, live),
            ("documents", live.id, None),
        ]
    ):
        store.apply([ChangedRecord(name, key, 100 + number, record)])
        store.checkpoint()
        texts.append("".join((old.directory / TIERS).read_text().split()))

    assert texts == ['{"b":2}', '{"b":2}', '{"a":1,"a":3,"b":2}', '{"b":2}']


@pytest.mark.parametrize("file", [WALLETS, TIERS, LOGS, "uploads/kyc/metadata.json"])
def test_a_name_that_cannot_be_stored_is_looked_for_as_in_a_dict(
    file: str, open_store: Callable[..., JsonStore], old: Editor
) -> None:
    (old.directory / file).parent.mkdir(parents=True, exist_ok=True)
    names = ["a\0b", "\ud800"]
    old.save(file, {"logs": []} if file == LOGS else {names[0]: 2, names[1]: [3]})
    store, like = open_store(), old.load(file)
    view = store.legacy(file)

    assert dict(view.snapshot()) == like
    assert (list(view), len(view)) == (list(like), len(like))
    for name in (*names, "zz\0", "\udfff", 5, None):
        assert view.get(name, 7) == like.get(name, 7)
        assert (name in view) is (name in like)
        if name not in like:
            assert view.pop(name, 8) == 8
            for look in (view.__getitem__, view.pop, view.__delitem__):
                with pytest.raises(KeyError):
                    look(name)
    strict = store.legacy(file, strict=True)
    for change in (strict.setdefault, lambda n, v: strict.update({n: v})):
        with pytest.raises(InvalidRecord):
            change("zz\0", f"0x{77:040x}")
    if file != LOGS:
        view["zz\0"] = like["zz\0"] = 5
        store.checkpoint()
        assert view.snapshot() == old.load(file) == like
    assert file == LOGS or view.setdefault(names[0], 9) == 2
