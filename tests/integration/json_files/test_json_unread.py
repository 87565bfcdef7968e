"""Legacy files of which nothing could ever be read: unknown, and not empty."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pend_storage import AsyncStore, field
from pend_storage._layouts.unread_files import as_stored
from pend_storage.errors import Conflict, CorruptFile
from pend_storage.events import Event
from pend_storage.legacy import LIST, MAP, RecordLayout
from pend_storage.operations import quarantine
from pend_storage.pend import SCHEMA, Document, KycApplication, User, UserProfile
from pend_storage.pend._files.documents import DocumentMapping
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.query import And
from pend_storage.records import ChangedRecord, LegacyFile, QuarantinedRecord
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.wrapper import WrapperStore
from tests.ages import age

WALLETS = "wallet-db.json"
EVENTS = "explorer-data/transactions-log.json"
KYC = "uploads/kyc/metadata.json"
CONSENTS, CREDENTIALS = "consents-db.json", "credentials-db.json"
ABSENT = "00000000-0000-0000-0000-000000000001"
Opens = Callable[..., JsonStore]


def wallet(number: int) -> tuple[str, str]:
    return f"0x{number:064x}", f"0x{number:040x}"


def user(number: int) -> User:
    phone, address = wallet(number)
    return User(phone_hash=phone, blockchain_address=address)


def kyc(user_id: str) -> KycApplication:
    return KycApplication(phone_hash=wallet(1)[0], user_id=user_id)


@pytest.fixture
def whole(directory: Path) -> str:
    """The text of the wallets, which are broken from now on."""
    text = (directory / WALLETS).read_text()
    (directory / WALLETS).write_text(text[:-40])
    age(directory / WALLETS)
    return text


def beside_a_broken_file(open_store: Opens, directory: Path) -> JsonStore:
    """A store in which one of two files of a collection is broken from the beginning."""
    (directory / CONSENTS).write_text('{"a": 1,}')
    age(directory / CONSENTS)
    (directory / CREDENTIALS).write_text('{"b": 2}')
    return open_store()


def entry(store: Store, file: str = WALLETS) -> QuarantinedRecord:
    (found,) = quarantine.list_quarantined(store, file=file, status="waiting")
    return found


def accept(store: Store, file: str = WALLETS) -> None:
    quarantine.accept(store, entry(store, file), "it is lost")


def told(events: list[Event], *names: str) -> list[Event]:
    return [event for event in events if event.name in names]


VERBS: dict[str, Callable[[Store], Any]] = {
    "get": lambda s: s.collection(User).get(ABSENT),
    "get_many": lambda s: s.collection(User).get_many([ABSENT]),
    "get_by": lambda s: s.collection(User).get_by("phone_hash", wallet(1)[0]),
    "versioned": lambda s: s.collection(User).versioned(ABSENT),
    "find": lambda s: s.collection(User).find(field("tier") == 0),
    "count": lambda s: s.collection(User).count(),
    "count where": lambda s: s.collection(User).count(field("tier") == 0),
    "scan": lambda s: list(s.collection(User).scan()),
    "legacy": lambda s: s.legacy(WALLETS),
    "transaction": lambda s: s.run(lambda tx: tx.collection(User).get(ABSENT)),
    "transaction find": lambda s: s.run(lambda tx: tx.collection(User).find()),
    "put": lambda s: s.collection(User).put(user(1)),
    "put new": lambda s: s.collection(User).put(user(1), if_version=0),
    "put_many": lambda s: s.collection(User).put_many([user(1), user(2)]),
    "delete": lambda s: s.collection(User).delete(ABSENT),
    "put in a transaction": lambda s: s.run(
        lambda tx: tx.collection(User).put(user(1))
    ),
    "reference": lambda s: s.collection(KycApplication).put(kyc(ABSENT)),
    "header": lambda s: s.collection(LegacyFile).put(LegacyFile(file=WALLETS)),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_what_rests_on_an_unread_file_is_refused_with_its_entry(
    verb: Callable[[Store], Any], open_store: Opens, whole: str, directory: Path
) -> None:
    store = open_store()

    for each in (store, WrapperStore(store)):
        with pytest.raises(
            CorruptFile, match="pend-storage quarantine accept"
        ) as raised:
            verb(each)

        assert raised.value.path == str(directory / WALLETS)
        assert raised.value.quarantined == entry(store).id
        assert "ends in the middle" in raised.value.reason
    assert list(store.changes()) == []
    assert whole not in (directory / WALLETS).read_text()


def test_it_is_told_at_the_first_opening_and_refused_by_the_next_process(
    open_store: Opens, whole: str, events: list[Event]
) -> None:
    open_store().close()
    (broken,) = told(events, "file-broken")
    assert broken.level == logging.ERROR
    assert WALLETS in broken.message
    assert "ends in the middle" in broken.message
    assert whole
    assert [
        e.message for e in told(events, "file-adopted") if WALLETS in e.message
    ] == []

    again = open_store()

    assert [file.file for file in again.unread_files()] == [WALLETS]
    with pytest.raises(CorruptFile):
        again.collection(User).count()


def test_a_good_text_is_adopted_live_and_reads_go_on(
    open_store: Opens, whole: str, old: Any, events: list[Event]
) -> None:
    store = open_store()
    other = open_store()
    with pytest.raises(CorruptFile):
        other.collection(User).count()

    old.put(WALLETS, whole)
    store.checkpoint()

    for each in (store, other):
        assert dict(each.legacy(WALLETS)) == json.loads(whole)
        assert each.unread_files() == ()
    assert store.collection(QuarantinedRecord).count() == 0
    assert len(told(events, "file-broken")) == 1
    store.collection(User).put(user(9))
    store.checkpoint()
    assert len(old.load(WALLETS)) == 6


def test_an_entry_that_is_accepted_frees_and_the_file_is_written(
    open_store: Opens, whole: str, old: Any
) -> None:
    store, other = open_store(), open_store()

    accept(store)

    assert store.unread_files() == other.unread_files() == ()
    assert other.collection(User).count() == 0
    other.collection(User).put(user(9))
    store.checkpoint()
    assert old.load(WALLETS) == dict([wallet(9)])
    assert whole


def test_a_repaired_text_can_be_given_by_hand(open_store: Opens, whole: str) -> None:
    store = open_store()
    broken = entry(store)

    again = quarantine.retry(store, broken)
    assert not again.placed
    assert quarantine.retry(store, broken, text=whole.encode()).placed

    assert dict(store.legacy(WALLETS)) == json.loads(whole)
    assert store.collection(UserProfile).count() == 5


def test_a_file_that_breaks_later_does_not_stop_what_the_store_has_read(
    store: JsonStore, old: Any, events: list[Event]
) -> None:
    old.put(WALLETS, '{"half": ')

    store.checkpoint()

    assert store.unread_files() == ()
    assert store.collection(User).count() == 5
    assert store.collection(User).get(ABSENT) is None
    store.collection(User).put(user(9))
    (broken,) = told(events, "file-broken")
    assert broken.level == logging.ERROR
    assert "had read of it before is served" in broken.message
    assert told(events, "outside-edit-adopted") == []


def test_a_broken_file_that_appears_where_none_was_is_unread(
    open_store: Opens, old: Any, events: list[Event]
) -> None:
    store = open_store()
    assert store.collection(KycApplication).count() == 0
    (old.directory / KYC).parent.mkdir(parents=True)
    old.put(KYC, "{'a': None}")
    store.checkpoint()

    with pytest.raises(CorruptFile, match="single quotation marks"):
        store.collection(KycApplication).get(ABSENT)
    assert [e.level for e in told(events, "file-broken")] == [logging.ERROR]
    store.collection(User).put(user(9))

    old.put(KYC, "{}")
    store.checkpoint()
    assert store.collection(KycApplication).get(ABSENT) is None


def test_one_broken_text_after_the_other_stays_unread_under_its_own_entry(
    open_store: Opens, whole: str, old: Any
) -> None:
    store = open_store()
    first = entry(store).id

    old.put(WALLETS, "[1, 2")
    store.checkpoint()

    assert entry(store).id != first
    with pytest.raises(CorruptFile) as raised:
        store.legacy(WALLETS)
    assert raised.value.quarantined == entry(store).id
    (old.directory / WALLETS).unlink()
    store.checkpoint()
    with pytest.raises(CorruptFile):
        store.legacy(WALLETS)
    old.put(WALLETS, whole)
    store.checkpoint()
    assert len(store.legacy(WALLETS)) == 5
    assert store.collection(QuarantinedRecord).count() == 0


def test_other_files_of_the_collection_go_on(
    open_store: Opens, directory: Path
) -> None:
    store = beside_a_broken_file(open_store, directory)
    view, documents = store.legacy(CREDENTIALS), store.collection(Document)

    view["c"] = 3
    assert view.setdefault("d", 4) == 4
    assert view.pop("b") == 2
    assert dict(view) == {"c": 3, "d": 4}
    assert "a" not in view
    mine = field("file") == CREDENTIALS
    (found,) = documents.find(mine, field("key") == "c").items
    assert documents.get(found.id) == found
    assert documents.get_many([found.id]) == {found.id: found}
    documents.put(replace(found, body=5))
    assert documents.count(mine) == 2
    with pytest.raises(Conflict), store.transaction() as tx:  # noqa: PT012
        assert tx.collection(Document).delete(found.id)
        assert documents.delete(found.id)
    assert documents.count(mine) == 1

    for rests in (
        lambda: documents.get(found.id),
        documents.count,
        lambda: documents.count(field("file") == CONSENTS),
        lambda: documents.find(mine | (field("key") == "a")),
        lambda: documents.put(replace(found, file=CONSENTS)),
        lambda: documents.delete(ABSENT),
    ):
        with pytest.raises(CorruptFile, match=CONSENTS):
            rests()


def test_what_was_written_before_a_broken_file_appeared_is_found(
    directory: Path, open_store: Opens, old: Any
) -> None:
    (directory / WALLETS).unlink()
    store = open_store()
    users, applications = store.collection(User), store.collection(KycApplication)
    known = user(9)
    users.put(known)
    old.put(WALLETS, '{"half": ')
    store.checkpoint()

    assert users.get(known.id) == users.get_by("phone_hash", known.phone_hash) == known
    assert applications.put(kyc(known.id))
    for rests in (
        lambda: users.get_by("phone_hash", wallet(8)[0]),
        lambda: users.find(field("phone_hash") == wallet(8)[0]),
        lambda: users.put(replace(known, tier=1)),
        lambda: users.delete(known.id),
    ):
        with pytest.raises(CorruptFile):
            rests()

    old.put(WALLETS, json.dumps(dict([wallet(1)])))
    store.checkpoint()
    assert dict(store.legacy(WALLETS)) == dict([wallet(9), wallet(1)])


def test_a_store_that_follows_gives_its_rows_and_takes_those_of_the_primary(
    open_store: Opens, whole: str
) -> None:
    store = open_store()
    follows = RoleState(Role.SECONDARY, 1).to_meta()

    assert store.compare_and_set_meta(ROLE_META, None, follows)

    assert store.read("users", [ABSENT]) == {}
    assert store.count("users", And(())) == 0
    assert store.apply([ChangedRecord("users", user(1).id, 7, user(1))], epoch=1) == 1
    assert [file.file for file in store.unread_files()] == [WALLETS]
    assert whole


def test_its_header_may_be_written_again_as_it_is(
    open_store: Opens, whole: str
) -> None:
    """As by a pair that commits what JSON has noted while it followed."""
    store = open_store()
    with as_stored():
        header = store.collection(LegacyFile).get(WALLETS)
    assert header is not None
    assert whole

    assert store.collection(LegacyFile).put(header) > 1

    assert [file.file for file in store.unread_files()] == [WALLETS]


def test_callers_that_are_merged_keep_their_own_answers(
    open_store: Opens, directory: Path
) -> None:
    store = beside_a_broken_file(open_store, directory)
    (known,) = store.collection(Document).find(field("file") == CREDENTIALS).items
    lost = replace(known, id=ABSENT, file=CONSENTS)

    async def work() -> Any:
        documents = AsyncStore(store).collection(Document)
        return await asyncio.gather(
            documents.get(known.id),
            documents.get(ABSENT),
            documents.put(known),
            documents.put(lost),
            return_exceptions=True,
        )

    found, unknown, written, refused = asyncio.run(work())

    assert found == known
    assert isinstance(written, int)
    assert isinstance(unknown, CorruptFile)
    assert isinstance(refused, CorruptFile)


def test_a_directory_that_an_older_version_has_adopted_is_no_exception(
    open_store: Opens, whole: str, old: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(
            "pend_storage.stores.json._legacy_sync.initial_import.marked",
            lambda header: header,
        )
        open_store().close()

    store = open_store()

    with pytest.raises(CorruptFile):
        store.collection(User).count()
    old.put(WALLETS, whole)
    store.checkpoint()
    assert store.collection(User).count() == 5


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_blank_file_is_unread_unless_its_layout_says_otherwise(
    text: str, directory: Path, old: Any
) -> None:
    old.put(WALLETS, text)
    old.put("notes.json", text)
    mapping = DocumentMapping("notes.json")
    layouts: Any = [RecordLayout("notes.json", mapping, shapes=(MAP, LIST))]

    with JsonStore(SCHEMA, directory, layouts=layouts) as store:
        with pytest.raises(CorruptFile, match=r"0 bytes|white space"):
            store.legacy("notes.json")
        old.put("notes.json", "{}")
        store.checkpoint()
        assert dict(store.legacy("notes.json")) == {}


def test_a_blank_file_of_the_server_has_no_records(open_store: Opens, old: Any) -> None:
    old.put(WALLETS, "")

    assert dict(open_store().legacy(WALLETS)) == {}
