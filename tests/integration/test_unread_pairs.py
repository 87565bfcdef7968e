"""A legacy file of which nothing could be read, under a pair of stores, in each phase."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from pend_storage import AsyncStore, field
from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.errors import CorruptFile, PendStorageError, SwitchRefused
from pend_storage.operations import quarantine
from pend_storage.pend import LAYOUTS, SCHEMA, Document, User
from pend_storage.phases import Phase
from pend_storage.records import Row
from pend_storage.schema import LEGACY_FILES, Schema
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.stores.wrapper import WrapperStore
from pend_storage.validation import validate
from tests.ages import age

J, PAR, PG, P = Phase
WALLETS, CREDENTIALS, CONSENTS = (
    "wallet-db.json",
    "credentials-db.json",
    "consents-db.json",
)
ABSENT = "00000000-0000-0000-0000-000000000001"
GOOD = {f"0x{n:064x}": f"0x{n:040x}" for n in range(1, 4)}
NEW = User(phone_hash=f"0x{9:064x}", blockchain_address=f"0x{9:040x}")


class Counting(WrapperStore):
    """Counts reads of the headers of legacy files."""

    looks = 0

    @override
    def scan(self, collection: str, **how: Any) -> Iterator[Row]:
        self.looks += collection == LEGACY_FILES
        return super().scan(collection, **how)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    (data / WALLETS).write_text(json.dumps(GOOD, indent=2)[:-30])
    age(data / WALLETS)
    (data / CREDENTIALS).write_text('{"a": 1}')
    return data


def a_pair(directory: Path, other: Store) -> DualWriteStore:
    return DualWriteStore(
        json=JsonStore(
            SCHEMA, directory, layouts=LAYOUTS, checkpoint_interval=None, hook=print
        ),
        postgres=other,
        backfill=backfill,
        validate=validate,
        compare=0,
        secondary_timeout=None,
        hook=print,
    )


def refused(pair: DualWriteStore) -> None:
    """See that nothing takes the file for an empty one."""
    users = pair.collection(User)
    for rests in (
        lambda: users.get(ABSENT),
        lambda: users.get_by("phone_hash", NEW.phone_hash),
        lambda: users.find(field("tier") == 0),
        users.count,
        lambda: list(users.scan()),
        lambda: pair.legacy(WALLETS),
        lambda: users.put(NEW),
        lambda: users.delete(ABSENT),
        lambda: pair.run(lambda tx: tx.collection(User).put(NEW)),
    ):
        with pytest.raises(CorruptFile, match="quarantine accept"):
            rests()
    put = SCHEMA.put("users", NEW)
    documents = pair.collection(Document)
    (other,) = documents.find(field("file") == CREDENTIALS).items
    outcomes = pair.commit_each(
        [SCHEMA.batch((put,)), SCHEMA.batch((SCHEMA.put("documents", other),))]
    )
    assert isinstance(outcomes[0], CorruptFile)
    assert isinstance(outcomes[1], tuple)
    assert dict(pair.legacy(CREDENTIALS)) == {"a": 1}
    assert [file.file for file in pair.unread_files()] == [WALLETS]


def forward(pair: DualWriteStore, phase: Phase) -> None:
    pair.switch(phase, accept=CODES)
    if phase is PAR:
        pair.backfill()
        assert pair.validate().ok


def entry(store: Store) -> Any:
    (found,) = quarantine.list_quarantined(store, file=WALLETS, status="waiting")
    return found


def test_no_phase_takes_an_unread_file_for_an_empty_one(
    directory: Path, new_migrated_database: Callable[[Schema], str]
) -> None:
    url = new_migrated_database(SCHEMA)
    with (
        a_pair(directory, PostgresStore(SCHEMA, url)) as pair,
        a_pair(directory, PostgresStore(SCHEMA, url)) as elsewhere,
    ):
        for phase in (J, PAR, PG, P, PG, PAR, PG, P):
            if phase is PG and pair.phase is PAR:
                (found,) = (
                    b for b in pair.readiness(PG).blockers if b.code == "quarantine"
                )
                assert WALLETS in found.sentence
                with pytest.raises(SwitchRefused, match="unknown"):
                    pair.switch(PG, accept=set(CODES) - {"quarantine"})
            forward(pair, phase)
            refused(pair)
            refused(elsewhere)

        text = json.dumps(GOOD).encode()
        assert quarantine.retry(pair, entry(pair), text=text).placed

        for each in (pair, elsewhere):
            assert dict(each.legacy(WALLETS)) == GOOD
            assert each.unread_files() == ()
        elsewhere.collection(User).put(NEW)
        for phase in (PG, PAR, J):
            pair.switch(phase, accept=CODES)
            assert pair.collection(User).count() == len(GOOD) + 1
            assert pair.collection(User).get(ABSENT) is None

    assert json.loads((directory / WALLETS).read_text()) == {
        **GOOD,
        NEW.phone_hash: NEW.blockchain_address,
    }


@pytest.mark.parametrize("phase", [J, PAR])
def test_a_repair_heals_the_pair_and_reaches_both_stores(
    phase: Phase, directory: Path
) -> None:
    other = MemoryStore(SCHEMA)
    with a_pair(directory, other) as pair:
        for step in list(Phase)[: list(Phase).index(phase) + 1]:
            forward(pair, step)
        refused(pair)

        (directory / WALLETS).write_text(json.dumps(GOOD))
        pair._pair.json.checkpoint()  # type: ignore[attr-defined]

        assert dict(pair.legacy(WALLETS)) == GOOD
        assert pair.unread_files() == ()
        if phase is PAR:
            pair.catch_up()
            assert other.count("users", field("tier") >= 0) == len(GOOD)
            assert pair.validate().ok


def test_an_accepted_entry_frees_the_pair_in_every_process(directory: Path) -> None:
    other = MemoryStore(SCHEMA)
    with a_pair(directory, other) as pair, a_pair(directory, other) as elsewhere:
        for phase in (J, PAR, PG):
            forward(pair, phase)
        refused(elsewhere)

        quarantine.accept(pair, entry(pair), "lost")

        assert elsewhere.collection(User).get(ABSENT) is None
        elsewhere.collection(User).put(NEW)
        assert elsewhere.collection(User).count() == 1


def test_where_postgresql_is_primary_it_is_looked_up_once_for_a_route(
    directory: Path,
) -> None:
    other = Counting(MemoryStore(SCHEMA))
    with a_pair(directory, other) as pair:
        for phase in (J, PAR, PG):
            forward(pair, phase)
        documents = pair.collection(Document)
        before = other.looks

        for _ in range(5):
            assert documents.count(field("file") == CREDENTIALS) == 1
            documents.put(documents.find(field("file") == CREDENTIALS).items[0])

        assert other.looks <= before + 1


def test_coroutines_over_a_pair_are_refused_each_for_itself(directory: Path) -> None:
    with a_pair(directory, MemoryStore(SCHEMA)) as pair:
        for phase in (J, PAR, PG):
            forward(pair, phase)
        (known,) = pair.collection(Document).find(field("file") == CREDENTIALS).items

        async def work() -> Any:
            store = AsyncStore(pair)
            return await asyncio.gather(
                store.collection(User).get(ABSENT),
                store.collection(User).put(NEW),
                store.collection(Document).get(known.id),
                store.collection(Document).put(known),
                return_exceptions=True,
            )

        lost, written, found, put = asyncio.run(work())

    assert isinstance(lost, CorruptFile)
    assert isinstance(written, CorruptFile)
    assert found == known
    assert not isinstance(put, PendStorageError)
