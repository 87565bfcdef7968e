"""A Pend server's files: through all phases and back they are what JSON would have left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.pend import LAYOUTS, SCHEMA, AdminLog, Investment, User
from pend_storage.phases import Phase
from pend_storage.sample_data import generate
from pend_storage.schema import QUARANTINE, Schema
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.validation import validate

pytestmark = pytest.mark.timeout(180)
J, PAR, PG, P = Phase
WALLETS = "wallet-db.json"
LONG_AGO = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    generate(tmp_path / "data", users=40, irregular=0.1, seed=7)
    return tmp_path / "data"


def a_pair(
    directory: Path, new_database: Callable[[Schema], str], **settings: Any
) -> DualWriteStore:
    return DualWriteStore(
        json=JsonStore(SCHEMA, directory, layouts=LAYOUTS),
        postgres=PostgresStore(SCHEMA, new_database(SCHEMA)),
        backfill=backfill,
        validate=validate,
        **settings,
    )


def work(store: Store, n: int) -> None:
    """Work of a server in one phase, by the new verbs and by the old files."""
    users = store.collection(User)
    known = sorted(users.scan(), key=lambda user: user.phone_hash)
    users.put(replace(known[3 * n], tier=2, extra={"note": f"phase {n}"}))
    users.put(
        User(
            phone_hash=f"0x{n:064x}",
            blockchain_address="0x" + f"{n:040x}",
            created_at=LONG_AGO,
            updated_at=LONG_AGO,
        )
    )
    wallets = store.legacy(WALLETS)
    wallets[f"0x{n + 100:064x}"] = "0x" + f"{n + 100:040x}"
    for investment in list(store.collection(Investment).scan())[:2]:
        store.collection(Investment).delete(investment.id)
    first = next(iter(store.collection(AdminLog).scan()), None)
    if first is not None:
        store.collection(AdminLog).delete(first.id)


def shown(directory: Path) -> dict[str, Any]:
    """Every legacy file, by value."""
    return {
        str(path.relative_to(directory)): json.loads(path.read_text())
        for path in sorted(directory.rglob("*.json"))
        if ".pend-storage" not in path.parts
    }


def test_the_files_after_a_rollback_are_those_of_a_server_that_stayed_on_json(
    files: Path, tmp_path: Path, new_migrated_database: Callable[[Schema], str]
) -> None:
    stayed = tmp_path / "stayed"
    shutil.copytree(files, stayed)
    with a_pair(files, new_migrated_database) as pair:
        for n, phase in enumerate((J, PAR, PG, P, PG, PAR, J)):
            pair.switch(phase, accept=CODES)
            if n == 1:
                pair.backfill()
            work(pair, n)
    with JsonStore(SCHEMA, stayed, layouts=LAYOUTS) as store:
        for n in range(7):
            work(store, n)

    assert shown(files) == shown(stayed)
    assert len(shown(files)) > 5


def test_every_legacy_record_is_in_the_database_or_in_its_quarantine(
    files: Path, new_migrated_database: Callable[[Schema], str]
) -> None:
    with a_pair(files, new_migrated_database) as pair:
        pair.switch(PAR, accept=CODES)
        pair.backfill()
        pair.switch(P, accept=CODES)
        json_store, postgres = pair._pair.json, pair._pair.postgres

        for spec in SCHEMA:
            kept = {row.key: row.record for row in json_store.scan(spec.name)}
            found = {row.key: row.record for row in postgres.scan(spec.name)}
            assert found == kept, spec.name
        waiting = list(postgres.scan(QUARANTINE))
        assert waiting
        assert all(row.record.reason for row in waiting if row.record)
        wallets = json.loads((files / WALLETS).read_text())
        quarantined = [r for r in waiting if r.record and r.record.file == WALLETS]
        assert len(wallets) == postgres.collection(User).count() + len(quarantined)
