"""The same over a pair: both stores agree, and the files say what plain json would."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import Phase as Generation
from hypothesis import strategies as st

from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.pend import SCHEMA
from pend_storage.phases import Phase
from pend_storage.schema import Schema
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
from .twins import quiet, rows


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
    plain = {WALLETS: dict(zip(NAMES, ADDRESSES, strict=True)), KYC: {NAMES[1]: STATUS}}
    with TemporaryDirectory() as home:
        data = Path(home, "data")
        json_store = a_json(data, [])
        postgres = PostgresStore(SCHEMA, new_migrated_database(SCHEMA), hook=quiet)
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
            for file, value in plain.items():
                pair.legacy(file).update(value)
            pair.switch(Phase.PARALLEL, accept=CODES)
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
                assert json.loads((data / file).read_text()) == value
