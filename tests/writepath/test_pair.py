"""The same over a pair: both stores agree, and the files say what plain json would."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import Phase as Generation
from hypothesis import strategies as st

from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.pend import SCHEMA, UserProfile
from pend_storage.pend._identity import user_id_of
from pend_storage.phases import Phase
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.validation import validate

from .conftest import a_json
from .test_differential import (
    ADDRESSES,
    KYC,
    NAMES,
    STATUS,
    WALLETS,
    Step,
    file_and_step,
    of_map,
)
from .test_wallets import save
from .twins import quiet, rows


@contextmanager
def a_pair(data: Path, url: str) -> Iterator[tuple[DualWriteStore, JsonStore, Store]]:
    """A pair in the phase parallel, with both of its stores."""
    json_store = a_json(data, [])
    postgres = PostgresStore(SCHEMA, url, hook=quiet)
    pair = DualWriteStore(
        json=json_store,
        postgres=postgres,
        backfill=backfill,
        validate=validate,
        hook=quiet,
        secondary_timeout=None,
        compare=0,
    )
    with pair:
        for file, value in start().items():
            pair.legacy(file).update(value)
        pair.switch(Phase.PARALLEL, accept=CODES)
        yield pair, json_store, postgres


def start() -> dict[str, Any]:
    """Content of the files at first."""
    wallets = dict(zip(NAMES, ADDRESSES, strict=True))
    return {WALLETS: wallets, KYC: {NAMES[1]: STATUS}}


def test_what_old_code_removes_and_swaps_arrives_in_the_other_store(
    tmp_path: Path, new_migrated_database: Callable[[Schema], str]
) -> None:
    data, plain = tmp_path / "data", start()
    with a_pair(data, new_migrated_database(SCHEMA)) as (pair, json_store, postgres):
        known = pair.collection(UserProfile).get(user_id_of(NAMES[0]))
        assert known is not None
        pair.collection(UserProfile).put(replace(known, login_count=4))
        json_store.checkpoint()
        for name, address in (
            (NAMES[0], ADDRESSES[1]),  # a swap in two edits
            (NAMES[1], ADDRESSES[0]),
            (NAMES[1], None),
            (NAMES[1], ADDRESSES[0]),
        ):
            plain[WALLETS][name] = address
            save(data / WALLETS, plain[WALLETS])
            json_store.checkpoint()
            pair.catch_up()
            assert rows(json_store) == rows(postgres)
            assert pair.legacy(WALLETS).snapshot() == plain[WALLETS]
        del plain[WALLETS][NAMES[1]]
        save(data / WALLETS, plain[WALLETS])
        json_store.checkpoint()
        pair.catch_up()
        assert rows(json_store) == rows(postgres)
        for phase in (Phase.POSTGRES_PRIMARY, Phase.PARALLEL):
            pair.switch(phase, accept=CODES)
            found = pair.collection(UserProfile).get(user_id_of(NAMES[0]))
            assert found is not None
            assert found.login_count == 4
            assert pair.legacy(WALLETS).snapshot() == plain[WALLETS]
        json_store.checkpoint()
        for file, value in plain.items():
            assert json.loads((data / file).read_text()) == value


@pytest.mark.timeout(300)
@settings(
    max_examples=2,  # long ones: a pair takes seconds to be made
    phases=[Generation.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(script=st.lists(file_and_step(WALLETS, KYC), min_size=8, max_size=20))
@pytest.mark.parametrize("phase", [Phase.PARALLEL, Phase.POSTGRES_PRIMARY])
def test_both_stores_and_the_files_agree(
    phase: Phase,
    script: list[tuple[str, Step]],
    new_migrated_database: Callable[[Schema], str],
) -> None:
    with (
        TemporaryDirectory() as home,
        a_pair(Path(home, "data"), new_migrated_database(SCHEMA)) as made,
    ):
        plain, (pair, json_store, postgres) = start(), made
        if phase is not Phase.PARALLEL:
            pair.switch(phase, accept=CODES)
        for file, step in script:
            change = of_map(step)
            outcomes = []
            for target in (plain[file], pair.legacy(file)):
                try:
                    outcomes.append(change(target))
                except KeyError:
                    outcomes.append(KeyError)
            assert outcomes[0] == outcomes[1]
            assert pair.legacy(file).snapshot() == plain[file]
        pair.catch_up()
        assert rows(json_store) == rows(postgres)
        json_store.checkpoint()
        for file, value in plain.items():
            assert json.loads(Path(home, "data", file).read_text()) == value
