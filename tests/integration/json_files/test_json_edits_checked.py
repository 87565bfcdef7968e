"""Edits of legacy files that race with commits to their derived records."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pend_storage._transaction import Transaction
from pend_storage.errors import Conflict
from pend_storage.events import Event
from pend_storage.pend import AdminLog, KycApplication, User, UserProfile
from pend_storage.pend._identity import user_id_of
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.records import LegacyFile, QuarantinedRecord
from pend_storage.schema import Schema, collection
from pend_storage.stores.json import JsonStore
from pend_storage.stores.json._legacy_sync import external_edits
from tests.ages import age
from tests.checked_reads import watch_edits
from tests.integration.json_files.conftest import Editor

WALLETS = "wallet-db.json"
KYC = "uploads/kyc/metadata.json"
LOGS = "admin-logs.json"
TIERS = "admin-pool-tiers.json"
DIRECTORY = "explorer-data/wallets-directory.json"
PHONE = f"0x{1:064x}"
USER = user_id_of(PHONE)
UPDATED = "2026-01-01T00:00:00.000Z"


def application(status: str) -> dict[str, Any]:
    return {PHONE: {"verificationStatus": status, "lastUpdated": UPDATED}}


def log(number: int) -> dict[str, Any]:
    return {"id": str(number), "action": "look", "timestamp": UPDATED}


@pytest.fixture
def directory(directory: Path, old: Any) -> Path:
    """The KYC file and a wrapped file are there too."""
    (directory / KYC).parent.mkdir(parents=True)
    old.save(KYC, application("pending_review"))
    old.save(LOGS, {"logs": [log(1)], "version": 1})
    return directory


@pytest.fixture
def old(tmp_path: Path) -> Any:
    return Editor(tmp_path)


@pytest.fixture
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others wait as long as it takes, so that a busy machine spoils no test."""
    monkeypatch.setattr(external_edits, "_LONGEST_HOLD", 60.0)


def profile(store: JsonStore) -> UserProfile:
    found = store.collection(UserProfile).get(USER)
    assert found is not None
    return found


def kyc(store: JsonStore) -> KycApplication:
    (found,) = store.collection(KycApplication).find().items
    return found


def log_in(tx: Transaction) -> None:
    found = tx.collection(UserProfile).get(USER)
    assert found is not None
    tx.collection(UserProfile).put(replace(found, login_count=found.login_count + 1))


@contextmanager
def before_the_commit(
    store: JsonStore, change: Callable[[], object], *, times: int = 1
) -> Iterator[None]:
    """Do something between what an edit reads and its commit, so many times."""
    engine = store._opened()
    real, pending = engine.submit, [change] * times
    busy: list[bool] = []

    def submit(job: Any) -> Any:
        if pending and not busy:
            busy.append(True)
            pending.pop()()
            busy.clear()
        return real(job)

    engine.submit = submit  # type: ignore[method-assign]
    try:
        yield
    finally:
        engine.submit = real  # type: ignore[method-assign]
    assert not pending


# -- one commit in between --------------------------------------------------------------


def test_a_commit_to_a_derived_record_is_not_undone_by_an_edit(
    store: JsonStore, old: Any
) -> None:
    old.save(KYC, application("verified"))

    with before_the_commit(store, lambda: store.run(log_in)):
        store.checkpoint()

    assert profile(store).login_count == 1
    assert profile(store).kyc_status == "verified"


def test_a_derived_record_that_is_written_in_between_is_added_to(
    store: JsonStore, old: Any
) -> None:
    profiles = store.collection(UserProfile)
    profiles.delete(USER)
    old.save(KYC, application("verified"))

    mine = UserProfile(user_id=USER, login_count=7)
    with before_the_commit(store, lambda: profiles.put(mine)):
        store.checkpoint()

    assert (profile(store).login_count, profile(store).kyc_status) == (7, "verified")


def test_a_commit_to_who_referred_to_a_deleted_record_is_not_undone(
    store: JsonStore, old: Any
) -> None:
    store.collection(UserProfile).delete(USER)
    store.checkpoint()
    wallets = old.load(WALLETS)
    del wallets[PHONE]
    old.save(WALLETS, wallets)

    def approve() -> None:
        found = kyc(store)
        store.collection(KycApplication).put(replace(found, status="verified"))

    with before_the_commit(store, approve):
        store.checkpoint()

    assert store.collection(User).get(USER) is None
    assert (kyc(store).user_id, kyc(store).status) == (None, "verified")


def test_a_record_that_comes_to_refer_to_a_deleted_one_lets_go_as_well(
    store: JsonStore, old: Any, events: list[Event]
) -> None:
    store.collection(UserProfile).delete(USER)
    store.checkpoint()
    wallets = old.load(WALLETS)
    del wallets[PHONE]
    old.save(WALLETS, wallets)

    late = KycApplication(user_id=USER, phone_hash=f"0x{99:064x}")
    with before_the_commit(store, lambda: store.collection(KycApplication).put(late)):
        store.checkpoint()

    assert store.collection(User).get(USER) is None
    found = store.collection(KycApplication).get(late.id)
    assert found is not None
    assert found.user_id is None
    assert "outside-edit-refused" not in [event.name for event in events]


@dataclass(frozen=True)
class Node:
    id: str
    parent: str | None = None
    label: str = ""


def test_records_that_refer_to_each_other_are_deleted_together_or_let_go(
    tmp_path: Path,
) -> None:
    nodes = collection("nodes", Node, key="id", references={"parent": "nodes"})
    with JsonStore(Schema([nodes]), tmp_path / "own", checkpoint_interval=None) as own:
        for number in range(9):
            parent = f"n{number - 1}" if number else None
            own.collection(Node).put(Node(f"n{number}", parent))
        own.checkpoint()
        file = tmp_path / "own/nodes.json"
        kept = {n: v for n, v in json.loads(file.read_text()).items() if n > "n4"}
        kept["n6"]["label"] = "changed"
        del kept["n7"]
        file.write_text(json.dumps(kept))
        age(file)
        own.checkpoint()

        left = [Node("n5"), Node("n6", "n5", "changed"), Node("n8")]
        assert list(own.collection(Node).scan()) == left
        assert set(json.loads(file.read_text())) == {"n5", "n6", "n8"}


def test_a_reference_that_leads_somewhere_by_now_is_followed(
    store: JsonStore, old: Any
) -> None:
    phone = f"0x{77:064x}"
    entry = {"verificationStatus": "verified", "lastUpdated": UPDATED}
    old.save(KYC, {**old.load(KYC), phone: entry})
    user = User(
        id=user_id_of(phone), phone_hash=phone, blockchain_address=f"0x{77:040x}"
    )

    with before_the_commit(store, lambda: store.collection(User).put(user)):
        store.checkpoint()

    applications = store.collection(KycApplication).find().items
    assert user.id in {found.user_id for found in applications}
    found = store.collection(UserProfile).get(user.id)
    assert found is not None
    assert found.kyc_status == "verified"


def test_a_reference_that_leads_nowhere_by_now_is_given_up(
    store: JsonStore, old: Any, events: list[Event]
) -> None:
    phone = f"0x{77:064x}"
    user = User(
        id=user_id_of(phone), phone_hash=phone, blockchain_address=f"0x{77:040x}"
    )
    store.collection(User).put(user)
    store.checkpoint()
    entry = {"verificationStatus": "verified", "lastUpdated": UPDATED}
    old.save(KYC, {**old.load(KYC), phone: entry})

    with before_the_commit(store, lambda: store.collection(User).delete(user.id)):
        store.checkpoint()

    applications = store.collection(KycApplication).find().items
    assert len(applications) == 2
    assert user.id not in {found.user_id for found in applications}
    assert store.collection(QuarantinedRecord).count() == 0
    assert "outside-edit-refused" not in [event.name for event in events]


def test_a_commit_to_the_record_that_was_edited_keeps_its_fields(
    store: JsonStore, old: Any
) -> None:
    old.save(WALLETS, {**old.load(WALLETS), PHONE: f"0x{9:040x}"})

    def commit() -> None:
        found = store.collection(User).get(USER)
        assert found is not None
        store.collection(User).put(replace(found, tier=4))

    with before_the_commit(store, commit):
        store.checkpoint()

    found = store.collection(User).get(USER)
    assert found is not None
    assert (found.tier, found.blockchain_address) == (4, f"0x{9:040x}")


@pytest.mark.parametrize(
    ("committed", "edited", "told"),
    [
        ({"k": 1}, {"k": 2}, "written by a commit and added by another program"),
        ({"k": 1}, {"k": 1}, None),
        ({"a": None}, {"a": 9}, "deleted by a commit and changed by another program"),
        ({"a": None}, {"a": None}, None),
        ({"a": 5}, {"a": None}, "written by a commit and deleted by another program"),
        ({"k": 1}, {"l": 2}, None),
    ],
)
def test_a_commit_that_an_edit_undoes_is_told(
    committed: dict[str, Any],
    edited: dict[str, Any],
    told: str | None,
    open_store: Callable[..., JsonStore],
    old: Any,
) -> None:
    events: list[Event] = []
    store = open_store(hook=events.append)
    view = store.legacy(TIERS)
    view.update({"a": 1, "b": 2})
    store.checkpoint()

    text = {**old.load(TIERS), **edited}
    for name, value in committed.items():
        if value is None:
            del view[name]
        else:
            view[name] = value
    old.save(TIERS, {n: v for n, v in text.items() if v is not None})
    store.checkpoint()

    both = {"a": 1, "b": 2, **committed, **edited}
    assert view.snapshot() == {n: v for n, v in both.items() if v is not None}
    assert old.load(TIERS) == view.snapshot()
    met = [e.message for e in events if e.name == "outside-edit-met-commit"]
    assert len(met) == (told is not None)
    assert told is None or told in met[0]


def test_where_both_add_the_same_the_record_of_the_commit_stays(
    store: JsonStore, old: Any
) -> None:
    phone, found = f"0x{50:064x}", f"0x{50:040x}"
    user = User(
        id=user_id_of(phone), phone_hash=phone, blockchain_address=found, tier=4
    )
    store.collection(User).put(user)

    old.save(WALLETS, {**old.load(WALLETS), phone: found})
    store.checkpoint()

    kept = store.collection(User).get(user.id)
    assert kept is not None
    assert kept.tier == 4
    assert old.load(WALLETS)[phone] == found


@pytest.mark.usefixtures("slow_machine")
def test_commits_that_come_between_each_time_are_kept_waiting_at_last(
    store: JsonStore, old: Any
) -> None:
    old.save(KYC, application("verified"))

    with before_the_commit(store, lambda: store.run(log_in), times=5):
        store.checkpoint()

    assert (profile(store).login_count, profile(store).kyc_status) == (5, "verified")


def test_they_are_not_kept_waiting_for_long_and_the_edit_is_left_for_the_next_round(
    store: JsonStore, old: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old.save(KYC, application("verified"))
    text = (old.directory / KYC).read_bytes()
    monkeypatch.setattr(external_edits, "_LONGEST_HOLD", 0.0)

    with before_the_commit(store, lambda: store.run(log_in), times=5):
        store.checkpoint()
    assert profile(store).kyc_status == "pending_review"
    assert (old.directory / KYC).read_bytes() == text
    store.checkpoint()

    assert (profile(store).login_count, profile(store).kyc_status) == (5, "verified")


def test_nobody_commits_while_an_edit_has_the_store_to_itself(
    store: JsonStore,
) -> None:
    done: list[int] = []
    mine = UserProfile(user_id=USER, login_count=1)
    put = store.schema.put(UserProfile, mine)
    thread = threading.Thread(
        target=lambda: done.append(store.collection(UserProfile).put(mine))
    )

    with store._opened().exclusive() as submit:
        thread.start()
        thread.join(0.2)
        assert not done
        assert profile(store).login_count == 0  # reads go on
        batch = store.schema.batch([put], {("user_profiles", USER): 1})
        (version,) = submit(lambda plan: plan.add(batch, None))
        again = store.schema.batch([put], {("user_profiles", USER): 1})
        with pytest.raises(Conflict):
            submit(lambda plan: plan.add(again, None))
    thread.join()

    assert done[0] > version


# -- what stands beside the records -----------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
def test_a_member_set_beside_the_list_is_not_undone_by_an_edit_of_the_list(
    late: bool, store: JsonStore, old: Any
) -> None:
    view = store.legacy(LOGS)
    text = old.load(LOGS)

    def commit() -> None:
        view["version"] = 2

    old.save(LOGS, {**text, "logs": [*text["logs"], log(2)]})
    if late:
        with before_the_commit(store, commit):
            store.checkpoint()
    else:
        commit()
        store.checkpoint()
    store.checkpoint()

    assert view["version"] == 2
    assert {found.action for found in store.collection(AdminLog).scan()} == {"look"}
    assert old.load(LOGS) == {"logs": [log(1), log(2)], "version": 2}


def test_of_members_that_both_change_each_side_keeps_its_own(
    store: JsonStore, old: Any, events: list[Event]
) -> None:
    old.save(LOGS, {**old.load(LOGS), "ours": 1, "gone": 1, "both": 1, "big": 1.10})
    store.checkpoint()
    view = store.legacy(LOGS)
    text = old.load(LOGS)
    view.update(ours=2, both=2, new=2)
    del view["gone"]

    old.save(LOGS, {**text, "theirs": 3, "both": 3, "logs": [log(1), log(2)]})
    store.checkpoint()
    store.checkpoint()

    beside = {"version": 1, "ours": 2, "both": 3, "big": 1.1, "theirs": 3, "new": 2}
    assert view.snapshot() == {"logs": [log(1), log(2)], **beside}
    assert old.load(LOGS) == view.snapshot()
    assert "outside-edit-met-commit" in [event.name for event in events]


def test_where_members_cannot_be_told_apart_the_edit_counts(
    store: JsonStore, old: Any
) -> None:
    store.legacy(LOGS)["version"] = 2

    old.put(LOGS, '{"logs": [], "twice": 1, "twice": 2}')
    store.checkpoint()

    assert store.legacy(LOGS).snapshot() == {"logs": [], "twice": 2}
    assert store.collection(AdminLog).count() == 0


def test_a_member_that_the_editor_sets_beside_the_list_is_adopted(
    store: JsonStore, old: Any
) -> None:
    old.save(LOGS, {**old.load(LOGS), "version": 3})
    store.checkpoint()
    store.legacy(LOGS)["logs"].append(log(2))
    store.checkpoint()

    assert store.legacy(LOGS)["version"] == 3
    assert old.load(LOGS) == {"logs": [log(1), log(2)], "version": 3}


# -- roles --------------------------------------------------------------------------------


def test_an_edit_that_a_secondary_puts_aside_counts_if_it_becomes_primary_first(
    store: JsonStore, old: Any
) -> None:
    def become(role: Role, epoch: int) -> None:
        before = store.meta(ROLE_META)
        after = RoleState(role, epoch).to_meta()
        assert store.compare_and_set_meta(ROLE_META, before, after)

    become(Role.SECONDARY, 1)
    old.save(KYC, application("verified"))

    with before_the_commit(store, lambda: become(Role.PRIMARY, 2)):
        store.checkpoint()
    store.checkpoint()

    assert kyc(store).status == "verified"
    assert store.collection(QuarantinedRecord).count() == 0


# -- without a pause ----------------------------------------------------------------------


@pytest.mark.usefixtures("slow_machine")
def test_edits_and_steady_commits_to_what_they_tell_of_both_count(
    store: JsonStore, old: Any, events: list[Event]
) -> None:
    stop, counted = threading.Event(), [0, 0]

    def count(mine: int) -> None:
        while not stop.is_set():
            store.run(log_in, attempts=1_000)
            counted[mine] += 1

    threads = [threading.Thread(target=count, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(12):
            status = ("verified", "rejected")[number % 2]
            old.save(KYC, application(status))
            # Once is enough, although commits to the profile never pause.
            store.checkpoint()
            assert profile(store).kyc_status == status
            time.sleep(0.01)
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert profile(store).login_count == sum(counted) > 0
    told = [event.name for event in events if event.name.startswith("outside-edit")]
    assert told == ["outside-edit-adopted"] * 12


@pytest.mark.usefixtures("slow_machine")
def test_another_process_that_commits_without_a_pause_is_waited_for(
    open_store: Callable[..., JsonStore], old: Any
) -> None:
    store, other = open_store(), open_store()
    stop, counted = threading.Event(), [0]

    def count() -> None:
        while not stop.is_set():
            other.run(log_in, attempts=1_000)
            counted[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    try:
        for status in ("verified", "rejected", "verified", "rejected"):
            old.save(KYC, application(status))
            store.checkpoint()
            assert profile(store).kyc_status == status
    finally:
        stop.set()
        thread.join()

    assert profile(store).login_count == counted[0] > 0


# -- all of it ----------------------------------------------------------------------------


def test_all_that_an_edit_reads_and_writes_is_checked(
    store: JsonStore, old: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.collection(UserProfile).delete(USER)
    store.legacy(DIRECTORY).append({"phoneHash": PHONE, "maskedPhone": "+2010****"})
    store.legacy(LOGS)["version"] = 5
    store.checkpoint()
    wallets = old.load(WALLETS)
    made: list[tuple[str, Any]] = [
        (KYC, application("verified")),  # derives a profile, refers to the user
        (KYC, {}),
        (DIRECTORY, [{"phoneHash": PHONE, "maskedPhone": "+2011****"}]),
        (LOGS, {"logs": [log(2), "no record"], "version": 6}),
        (LOGS, {"logs": [log(2)], "version": 7}),
        (WALLETS, {**wallets, f"0x{6:064x}": f"0x{6:040x}"}),
        (WALLETS, {**wallets, f"0x{2:064x}": f"0x{7:040x}"}),
        (WALLETS, {**wallets, f"0x{2:064x}": f"0x{3:040x}"}),  # taken: put aside
    ]
    with watch_edits(store, monkeypatch) as watch:
        for file, value in made:
            old.save(file, value)
            watch.begin()
            store.checkpoint()
    assert watch.commits >= len(made)
    assert watch.unchecked == []


def test_so_is_what_a_deletion_frees_and_a_broken_file_that_is_written_anew(
    store: JsonStore, old: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.collection(UserProfile).delete(USER)
    store.checkpoint()
    wallets = old.load(WALLETS)
    del wallets[PHONE]
    with watch_edits(store, monkeypatch) as watch:
        old.save(WALLETS, wallets)
        store.checkpoint()
        old.put(LOGS, '{"logs": [')
        watch.begin()
        store.checkpoint()
        broken = store.collection(QuarantinedRecord).find().items
        (whole,) = [found for found in broken if found.file == LOGS]
        known = store.collection(QuarantinedRecord).versioned(whole.id)
        assert known is not None
        store.collection(QuarantinedRecord).put(
            replace(whole, status="accepted"), if_version=known.version
        )
        watch.begin()
        store.checkpoint()
    assert kyc(store).user_id is None
    assert old.load(LOGS) == {"logs": [log(1)]}
    header = store.collection(LegacyFile).get(LOGS)
    assert header is not None
    assert watch.unchecked == []
