"""Checked reads: every read behind a write is checked at its commit."""

from __future__ import annotations

import ast
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest
from typing_extensions import override

import pend_storage
from pend_storage._transaction import Transaction
from pend_storage.errors import ConfigError, Conflict, PendStorageError
from pend_storage.operations import quarantine
from pend_storage.operations.seed import write_missing
from pend_storage.pend import (
    LAYOUTS,
    SCHEMA,
    AdminLog,
    Asset,
    BlockchainEvent,
    Document,
    Investment,
    KycApplication,
    User,
    UserProfile,
    derive_investments,
)
from pend_storage.pend._identity import user_id_of
from pend_storage.query import field
from pend_storage.records import Batch, QuarantinedRecord
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.wrapper import WrapperStore
from tests.ages import age
from tests.checked_reads import WatchedStore

WALLETS = "wallet-db.json"
KYC = "uploads/kyc/metadata.json"
LOGS = "admin-logs.json"
BROKEN = "consents-db.json"
TIERS = "admin-pool-tiers.json"
EVENTS = "explorer-data/transactions-log.json"
DIRECTORY = "explorer-data/wallets-directory.json"
TIME = "2026-01-01T00:00:00.000Z"
PHONES = [f"0x{n:064x}" for n in range(1, 9)]
USERS = [user_id_of(phone) for phone in PHONES]
REPAIRED = (
    json.dumps(PHONES[0])
    + ": "
    + json.dumps({"verificationStatus": "verified", "lastUpdated": TIME})
)
LOST: Final = 7
"""Number of a wallet that is in the wallets directory, and in no wallet file."""


def address(number: int) -> str:
    return f"0x{number:040x}"


def event(number: int) -> dict[str, Any]:
    return {"id": number, "type": "egp_minted", "timestamp": TIME, "amount": "250"}


def log(number: int) -> dict[str, Any]:
    return {"id": str(number), "action": "look", "timestamp": TIME}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Files with records that cannot be placed, and one that is broken as a whole."""
    broken = {**{p: address(n) for n, p in enumerate(PHONES[:3], 1)}}
    files: dict[str, Any] = {
        WALLETS: {**broken, PHONES[LOST - 1]: "no address"},
        KYC: {PHONES[0]: {"verificationStatus": "verified"}},
        LOGS: {"logs": [log(1), log(2)], "a": 0, "b": 0},
        TIERS: {"gold": 1, "olives": 2},
        EVENTS: [event(3), event(2), event(1)],
        DIRECTORY: [{"phoneHash": PHONES[LOST - 1], "maskedPhone": "+2010****"}],
    }
    for file, value in files.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(json.dumps(value, indent=2))
        age(tmp_path / file)
    (tmp_path / BROKEN).write_text("{}")
    age(tmp_path / BROKEN)
    return tmp_path


@pytest.fixture
def store(directory: Path) -> Iterator[JsonStore]:
    with JsonStore(
        SCHEMA,
        directory,
        layouts=LAYOUTS,
        checkpoint_interval=None,
        hook=lambda _: None,
    ) as opened:
        # The store has read it before, and so goes on with its records.
        (directory / BROKEN).write_text('{"a": 1, "b": ')
        age(directory / BROKEN)
        opened.checkpoint()
        yield opened


def waiting(store: Store, file: str) -> QuarantinedRecord:
    (found,) = quarantine.list_quarantined(store, file=file)
    return found


def profile(store: Store) -> UserProfile:
    found = store.collection(UserProfile).get(USERS[0])
    assert found is not None
    return found


def log_in(tx: Transaction) -> None:
    found = tx.collection(UserProfile).get(USERS[0])
    assert found is not None
    tx.collection(UserProfile).put(replace(found, login_count=found.login_count + 1))


class Meddled(WrapperStore):
    """Lets something happen just before the next commit, after all was read."""

    change: Callable[[], object] | None = None

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        change, self.change = self.change, None
        if change is not None:
            change()
        return super().commit(batch, epoch=epoch)


# -- every operation, watched -----------------------------------------------------------


def _retried(store: Store) -> None:
    assert quarantine.retry(store, waiting(store, KYC), text=REPAIRED.encode()).placed
    lost = f'"{PHONES[LOST - 1]}": "{address(LOST)}"'
    assert quarantine.retry(store, waiting(store, WALLETS), text=lost.encode()).placed
    found = store.collection(UserProfile).get(USERS[LOST - 1])
    assert found is not None
    assert found.phone_number_masked == "+2010****"


def _retried_whole(store: Store) -> None:
    text = json.dumps({"a": 1, "b": 2, "c": 3})
    for name in "az":
        made = Document(file=BROKEN, key=name, body=5)
        store.collection(Document).put(made)
    whole = waiting(store, BROKEN)
    assert quarantine.retry(store, whole, text=text.encode()).placed
    found = store.legacy(BROKEN)
    assert found.snapshot() == {"a": 1, "b": 2, "c": 3}


def _accepted(store: Store) -> None:
    quarantine.accept(store, waiting(store, KYC), "seen")


def _seeded(store: Store) -> None:
    seeds = [User(phone_hash=p, blockchain_address=address(9)) for p in PHONES[4:5]]
    logs = [AdminLog(action="made")]
    assert write_missing(store, [*seeds, *logs]) == 2
    assert write_missing(store, [*seeds, *logs]) == 0


def _concluded(store: Store) -> None:
    store.collection(Asset).put(Asset(legacy_id="gold", title="Gold"))
    paid = BlockchainEvent(
        event_type="opportunity_investment",
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        amount=Decimal(5),
        wallet_address=address(1),
        decoded_data={"opportunityId": "gold"},
    )
    store.collection(BlockchainEvent).put(paid)
    assert derive_investments(store).written == 1
    assert derive_investments(store).unchanged == 1


def _map_changed(store: Store) -> None:
    for file, value in ((WALLETS, address(6)), (TIERS, 6)):
        view = store.legacy(file)
        view[PHONES[5]] = value
        view.update({PHONES[5]: value})
        assert view.setdefault(PHONES[5], None) == value
    tiers = store.legacy(TIERS)
    assert tiers.pop("gold") == 1
    del tiers["olives"]
    assert tiers.setdefault("new", 4) == 4
    store.legacy(KYC)[PHONES[1]] = {"verificationStatus": "x", "lastUpdated": TIME}
    found = store.collection(UserProfile).get(USERS[1])
    assert found is not None


def _envelope_changed(store: Store) -> None:
    view = store.legacy(LOGS)
    view["a"] = 1
    view.update(b=2, c=3)
    assert (view.pop("a"), view.setdefault("b", 7), view.setdefault("d", 4)) == (
        1,
        2,
        4,
    )
    del view["b"]
    assert view.pop("logs") == [log(1), log(2)]
    view["logs"] = [log(3)]
    assert view.snapshot() == {"logs": [log(3)], "c": 3, "d": 4}


def _list_changed(store: Store) -> None:
    view = store.legacy(EVENTS)
    view.insert(0, event(4))
    view.append(event(0))
    view[1] = {**event(3), "status": "confirmed"}
    view.insert(2, event(9))
    del view[2]
    view.remove(event(2))
    assert view.pop() == event(0)
    view.reverse()
    assert [item["id"] for item in view] == [1, 3, 4]
    view[:] = [event(5)]


def _plain_changed(store: Store) -> None:
    view = store.legacy("investments.json")
    made = Investment(amount=Decimal(1))
    store.collection(Investment).put(made)
    shown = view[made.id]
    assert view.setdefault(made.id, {}) == view.pop(made.id) == shown
    view.setdefault(made.id, shown)
    assert view.pop(made.id) == shown


OPERATIONS: Final = (
    _retried,
    _retried_whole,
    _accepted,
    _seeded,
    _concluded,
    _map_changed,
    _envelope_changed,
    _list_changed,
    _plain_changed,
)


class _Marked(WatchedStore):
    """Each view that is opened begins another operation: its shape decides the class."""

    @override
    def legacy(self, file: str, *, strict: bool = False) -> Any:
        view = super().legacy(file, strict=strict)
        self.watch.begin()
        return view


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_was_read_is_checked(
    operation: Callable[[Store], None], store: JsonStore
) -> None:
    watched = _Marked(store)

    operation(watched)

    assert watched.watch.commits
    assert watched.watch.unchecked == []


def test_the_double_finds_what_was_read_and_is_not_checked(store: JsonStore) -> None:
    watched = WatchedStore(store)
    users, profiles = watched.collection(User), watched.collection(UserProfile)
    mine = users.get(USERS[0])
    assert mine is not None

    users.put(replace(mine, tier=2))
    assert watched.watch.unchecked == [f"users[{USERS[0]!r}] is written"]
    watched.watch.unchecked.clear()

    if users.get(USERS[4]) is None:
        profiles.put(UserProfile(user_id=USERS[1]))
    assert watched.watch.unchecked == [f"users[{USERS[4]!r}] is computed from"]
    watched.watch.unchecked.clear()

    (first, *_) = watched.scan("users")
    users.put(first.record)
    assert watched.watch.unchecked == [f"users[{first.key!r}] is written"]


KNOWN_WRITERS: Final = {
    "legacy/_file_edit.py": {"FileEdit.apply"},
    "legacy/views/_file_records.py": {"FileRecords.move"},
    "legacy/views/_envelope.py": {"LegacyEnvelope._write"},
    "legacy/views/_parts.py": {"LegacyParts._mark_present"},
    # Wait by yield, or add facts to a repository: no records.
    "operations/backup/physical.py": {"follow_server_log", "create_physical"},
    "operations/backup/schedule.py": {"follow_schedule"},
    "operations/purge.py": {"_Purge._erase"},
    "operations/purge_older.py": {"_erase_older"},
    "operations/quarantine.py": {"accept"},
    "operations/quarantine_placement.py": {
        "Placement.place",
        "Placement._write",
        "restore_lost_edit",
    },
    "operations/seed.py": {"write_missing"},
    "pend/_investments.py": {"_write"},
    "stores/json/_legacy_sync/edit_commit.py": {"EditCommit._run", "_add"},
    "stores/json/_legacy_sync/edits_on_secondary.py": {
        "SecondaryEdit.run",
        "write_as_secondary",
    },
    "stores/json/_journal/engine.py": {"Engine.submit"},
    "stores/json/_schema_evolution.py": {"_migrate"},
    "stores/json/_legacy_sync/unread_guard.py": {"UnreadFileGuard.add"},
    "stores/json/_legacy_sync/hidden_texts.py": {"release_hidden"},
    "stores/json/_legacy_sync/file_permissions.py": {"PermissionRecorder.record"},
    "stores/json/_legacy_sync/one_record_per_line/live_object.py": {
        "RecordPerLineObject._remove",
        "RecordPerLineObject._set",
    },
    "stores/json/_directory_session.py": {"DirectorySession._record_schema"},
    # Into a store without a role: each row if it is newer.
    "stores/json/_recovery.py": {"_append", "DirectoryRecovery.reserve_numbers"},
    "stores/json/_store.py": {
        "JsonStore.apply",
        "JsonStore.commit",
        "JsonStore.commit_each",
        "JsonStore.compare_and_set_meta",
        "JsonStore.purge",
    },
}
"""Functions of these packages that write records, each of which was reviewed."""


def test_every_place_that_writes_records_is_known() -> None:
    """A new one belongs into ``OPERATIONS``, or into the edits that are watched.

    Write by a transaction, or check what was read; then name the place here.
    """
    root = Path(str(pend_storage.__file__)).parent
    found: dict[str, set[str]] = {}
    for room in ("legacy", "operations", "pend", "stores/json"):
        for path in (root / room).rglob("*.py"):
            names = set(_writers(ast.parse(path.read_text())))
            if names:
                found[str(path.relative_to(root))] = names

    assert found == KNOWN_WRITERS


def _writers(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    """Functions and methods that call a verb which writes, by name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _writers(node, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            calls = (n.func for n in ast.walk(node) if isinstance(n, ast.Call))
            if any(_is_write(call) for call in calls):
                yield prefix + node.name


_VERBS: Final = {
    "commit",
    "commit_each",
    "put",
    "put_many",
    "delete",
    "submit",
    "submit_each",
    "_submit",
    "follow",
    "add_unlogged",
}
_OTHERS: Final = {
    "schema",
    "_schema",
    "_place",
    "reads",
    "_reads",
    "_contents",
    "content",
    "contents",
}
"""Owners of methods of the same name that write no record."""


def _is_write(call: ast.expr) -> bool:
    if isinstance(call, ast.Name):
        return call.id == "submit"
    if not isinstance(call, ast.Attribute):
        return False
    if call.attr == "add":
        return isinstance(call.value, ast.Name) and call.value.id == "plan"
    owner = call.value
    name = owner.attr if isinstance(owner, ast.Attribute) else None
    name = owner.id if isinstance(owner, ast.Name) else name
    return call.attr in _VERBS and name not in _OTHERS


# -- a quarantined record, tried again ----------------------------------------------------


def test_a_retry_goes_on_top_of_a_commit_to_what_the_record_tells_of(
    store: JsonStore,
) -> None:
    meddled = Meddled(store)
    meddled.change = lambda: store.run(log_in)

    tried = quarantine.retry(meddled, waiting(store, KYC), text=REPAIRED.encode())

    assert tried.placed
    assert (profile(store).login_count, profile(store).kyc_status) == (1, "verified")


def test_a_retry_does_not_pass_over_what_somebody_decided_meanwhile(
    store: JsonStore,
) -> None:
    record = waiting(store, KYC)
    meddled = Meddled(store)
    meddled.change = lambda: quarantine.accept(store, record, "of no value")

    with pytest.raises(Conflict):
        quarantine.retry(meddled, record, text=REPAIRED.encode())

    kept = waiting(store, KYC)
    assert (kept.status, kept.note) == ("accepted", "of no value")
    assert store.collection(KycApplication).count() == 0


def test_nor_does_an_acceptance(store: JsonStore) -> None:
    record = waiting(store, KYC)
    meddled = Meddled(store)
    meddled.change = lambda: quarantine.retry(store, record, text=REPAIRED.encode())

    with pytest.raises(Conflict):
        quarantine.accept(meddled, record, "of no value")

    assert store.collection(KycApplication).count() == 1
    assert quarantine.list_quarantined(store, file=KYC) == []


def test_a_record_that_was_placed_and_changed_is_not_placed_once_more(
    store: JsonStore,
) -> None:
    record = waiting(store, KYC)
    meddled = Meddled(store)

    def place_and_change() -> None:
        assert quarantine.retry(store, record, text=REPAIRED.encode()).placed
        (placed,) = store.collection(KycApplication).find().items
        store.collection(KycApplication).put(replace(placed, rejection_reason="no"))

    meddled.change = place_and_change
    with pytest.raises(Conflict):
        quarantine.retry(meddled, record, text=REPAIRED.encode())

    (placed,) = store.collection(KycApplication).find().items
    assert placed.rejection_reason == "no"


def test_a_retry_takes_along_what_another_file_tells_by_now(store: JsonStore) -> None:
    meddled, view = Meddled(store), store.legacy(DIRECTORY)
    lost = f'"{PHONES[LOST - 1]}": "{address(LOST)}"'

    def tell() -> None:
        view[0] = {"phoneHash": PHONES[LOST - 1], "maskedPhone": "+2012****"}

    meddled.change = tell
    record = waiting(store, WALLETS)
    assert quarantine.retry(meddled, record, text=lost.encode()).placed

    found = store.collection(UserProfile).get(USERS[LOST - 1])
    assert found is not None
    assert found.phone_number_masked == "+2012****"


def test_a_whole_file_tried_again_keeps_commits_to_its_records(
    store: JsonStore,
) -> None:
    file, meddled = BROKEN, Meddled(store)
    made = Document(file=file, key="a", body=5)
    store.collection(Document).put(made)

    def commit() -> None:
        store.collection(Document).put(replace(made, extra={"seen": True}))

    meddled.change = commit
    text = b'{"a": 1, "b": 2}'
    assert quarantine.retry(meddled, waiting(store, file), text=text).placed

    documents = store.collection(Document).find(field("file") == file).items
    found = {document.key: document for document in documents}
    assert {key: d.body for key, d in found.items()} == {"a": 1, "b": 2}
    assert found["a"].extra == {"seen": True}


def test_of_many_who_try_one_record_again_one_places_it(store: JsonStore) -> None:
    record, placed, refused = waiting(store, KYC), [], []
    start, stop = threading.Barrier(6), threading.Event()
    counted = [0]

    def attempt() -> None:
        start.wait()
        try:
            placed.append(quarantine.retry(store, record, text=REPAIRED.encode()))
        except (Conflict, ConfigError) as error:
            refused.append(error)

    def count() -> None:
        start.wait()
        while not stop.is_set():
            store.run(log_in, attempts=1_000)
            counted[0] += 1

    counter = threading.Thread(target=count)
    threads = [threading.Thread(target=attempt) for _ in range(5)]
    for thread in (counter, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    counter.join()

    # A caller that met the counter's commits at each attempt has to get an error.
    assert len(placed) + len(refused) == 5
    if not placed:
        placed.append(quarantine.retry(store, record, text=REPAIRED.encode()))
    assert [tried.placed for tried in placed] == [True]
    assert profile(store).login_count == counted[0]
    assert profile(store).kyc_status == "verified"


@pytest.mark.parametrize("number", range(10))
def test_of_a_retry_and_an_acceptance_at_once_both_are_told_what_became_of_theirs(
    number: int, store: JsonStore
) -> None:
    record = waiting(store, KYC)
    start, said = threading.Barrier(2), dict[str, Any]()

    def attempt(name: str, act: Callable[[], Any]) -> None:
        start.wait()
        try:
            said[name] = act()
        except PendStorageError as error:
            said[name] = error

    text = REPAIRED.encode()
    acts: list[tuple[str, Callable[[], Any]]] = [
        ("retry", lambda: quarantine.retry(store, record, text=text).placed),
        ("accept", lambda: quarantine.accept(store, record, "no").status),
    ]
    threads = [threading.Thread(target=attempt, args=act) for act in acts]
    for thread in threads[:: 1 if number % 2 else -1]:
        thread.start()
    for thread in threads:
        thread.join()

    left = quarantine.list_quarantined(store, file=KYC)
    if said["retry"] is True:  # also where it was accepted just before
        assert (left, store.collection(KycApplication).count()) == ([], 1)
    else:
        assert isinstance(said["retry"], Conflict)
        assert [found.status for found in left] == [said["accept"]] == ["accepted"]


# -- views ----------------------------------------------------------------------------------


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    start, given = threading.Barrier(len(acts)), list[Any]()

    def do(act: Callable[[], Any]) -> None:
        start.wait()
        given.append(act())

    threads = [threading.Thread(target=do, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(given) == len(acts)
    return given


def test_members_beside_a_list_that_are_set_at_once_are_all_there(
    store: JsonStore,
) -> None:
    view = store.legacy(LOGS)
    for number in range(20):
        at_once(
            lambda n=number: view.__setitem__("a", n),  # type: ignore[misc]
            lambda n=number: view.__setitem__("b", n),  # type: ignore[misc]
        )
        assert (view["a"], view["b"]) == (number, number)
    assert view["logs"].snapshot() == [log(1), log(2)]


@pytest.mark.parametrize("file", [TIERS, LOGS])
def test_a_default_that_is_set_at_once_is_one_value_for_all(
    file: str, store: JsonStore
) -> None:
    view = store.legacy(file)
    for number in range(20):
        name = f"n{number}"
        given = at_once(*[lambda n=n, k=name: view.setdefault(k, n) for n in range(3)])
        assert set(given) == {view[name]}


@pytest.mark.parametrize("file", [TIERS, LOGS])
def test_a_member_is_taken_out_once(file: str, store: JsonStore) -> None:
    view = store.legacy(file)
    for number in range(20):
        view["once"] = number
        given = at_once(*[lambda: view.pop("once", None)] * 3)
        assert sorted(given, key=str) == [number, None, None]


@pytest.mark.parametrize("file", [TIERS, LOGS])
def test_members_are_taken_out_from_the_end_until_none_is_left(
    file: str, store: JsonStore
) -> None:
    view = store.legacy(file)
    plain = dict(view.snapshot())

    last = [name for name in plain if name != "logs"][-1]
    assert view.popitem() == (last, plain[last])
    view.clear()

    assert view.snapshot() == ({"logs": []} if file == LOGS else {})
    with pytest.raises(KeyError):
        view.popitem()


def test_an_item_is_taken_out_once(store: JsonStore) -> None:
    view = store.legacy(EVENTS)
    view[:] = [event(n) for n in range(24)]

    given = at_once(*[lambda: [view.pop()["id"] for _ in range(6)]] * 4)

    assert sorted(number for numbers in given for number in numbers) == [*range(24)]
    assert len(view) == 0


def test_a_reference_of_a_written_member_is_as_true_as_its_commit(
    store: JsonStore,
) -> None:
    meddled = Meddled(store)
    user = User(phone_hash=PHONES[5], blockchain_address=address(6))
    user = replace(user, id=USERS[5])
    meddled.change = lambda: store.collection(User).put(user)

    meddled.legacy(KYC)[PHONES[5]] = {
        "verificationStatus": "verified",
        "lastUpdated": TIME,
    }

    found = store.collection(UserProfile).get(user.id)
    assert found is not None
    assert found.kyc_status == "verified"
    (placed,) = store.collection(KycApplication).find().items
    assert placed.user_id == user.id
