"""The legacy files of a JSON store that is one of two."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.pend import LAYOUTS, SCHEMA, User
from pend_storage.phases import Phase
from pend_storage.records import QuarantinedRecord
from pend_storage.sample_data import generate
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.memory import MemoryStore
from pend_storage.validation import validate

from .processes import Line, living

J, PAR, PG, P = Phase


def wallets(directory: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((directory / "wallet-db.json").read_text())
    return found


def test_an_edit_of_a_file_while_json_follows_is_never_lost(tmp_path: Path) -> None:
    """It is put aside, reported, and not taken for a ghost by a repair."""
    phone, address, edited = f"0x{1:064x}", f"0x{1:040x}", f"0x{2:040x}"
    (tmp_path / "wallet-db.json").write_text(json.dumps({phone: address}))
    files = JsonStore(SCHEMA, tmp_path, layouts=LAYOUTS, checkpoint_interval=None)
    postgres = MemoryStore(SCHEMA)
    store = DualWriteStore(
        json=files,
        postgres=postgres,
        relay_interval=None,
        backfill=backfill,
        validate=validate,
        hook=lambda _: None,
    )
    store.switch(PAR, accept=CODES)
    store.backfill()
    store.switch(PG, accept=CODES)

    (tmp_path / "wallet-db.json").write_text(json.dumps({phone: edited}))
    files.checkpoint()

    assert wallets(tmp_path) == {phone: address}
    user = store.collection(User).get_by("phone_hash", phone)
    assert user is not None
    assert user.blockchain_address == address
    assert store.validate().ok  # and brings it to where an operator finds it
    (found,) = store.divergences()
    assert (found.source, found.state) == ("edit", "open")
    assert store.repair().repaired == 0
    store.catch_up()
    (aside,) = store.collection(QuarantinedRecord).scan()
    assert edited.encode() in aside.raw
    assert living(files) == living(postgres)
    assert store.validate().ok

    store.collection(QuarantinedRecord).delete(aside.id)  # and what is decided counts
    assert store.validate().ok
    assert store.divergences() == ()
    store.catch_up()
    assert living(files) == living(postgres)
    store.close()


EVENTS = "explorer-data/transactions-log.json"


def legacy_files(directory: Path) -> dict[str, Any]:
    """By name, what ``json.load`` gives."""
    return {
        str(path.relative_to(directory)): json.loads(path.read_bytes())
        for path in sorted(directory.rglob("*.json"))
        if ".pend-storage" not in path.parts
    }


def serve(store: Store) -> None:
    """Old code at work, through the legacy files."""
    wallets = store.legacy("wallet-db.json")
    for n in range(3):
        wallets[f"0x{n:064x}"] = f"0x{n:040x}"
    wallets[f"0x{2:064x}"] = f"0x{77:040x}"
    events = store.legacy(EVENTS)
    events.insert(0, {**events[0], "id": 999_999})
    del events[3]


def test_files_written_anew_are_those_of_a_server_that_stayed_on_json(
    tmp_path: Path,
) -> None:
    """Also what waits in quarantine is in its place again."""
    moved, stayed = tmp_path / "moved", tmp_path / "stayed"
    generate(moved, users=40, irregular=0.1, seed=5)
    shutil.copytree(moved, stayed)
    with JsonStore(SCHEMA, stayed, layouts=LAYOUTS, hook=lambda _: None) as alone:
        serve(alone)
    postgres = MemoryStore(SCHEMA, layouts=LAYOUTS)

    def pair() -> DualWriteStore:
        return DualWriteStore(
            json=JsonStore(SCHEMA, moved, layouts=LAYOUTS, hook=lambda _: None),
            postgres=Line(postgres),
            relay_interval=None,
            backfill=backfill,
            hook=lambda _: None,
        )

    with pair() as store:
        store.switch(PAR, accept=CODES)
        store.backfill()
        store.switch(P, accept=CODES)
        serve(store)
        assert store.collection(QuarantinedRecord).count() > 0
    shutil.rmtree(moved)
    moved.mkdir()
    with pair() as store:
        store.switch(J)

    assert len(legacy_files(stayed)) > 10
    assert legacy_files(moved) == legacy_files(stayed)
