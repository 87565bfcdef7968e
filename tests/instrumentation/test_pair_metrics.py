"""Metrics of a pair, each of which a real fault moves."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import psycopg
import pytest
from prometheus_client import CollectorRegistry

from pend_storage.backfill import BackfillReport
from pend_storage.config import Settings, load_settings
from pend_storage.dualwrite import CODES
from pend_storage.factory import ConfiguredPair, open_json, open_pair
from pend_storage.instrumentation import (
    PairCollector,
    PrometheusInstruments,
)
from pend_storage.operations.status import StatusProbe
from pend_storage.phases import ROLE_META, Phase, Role, RoleState
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.databases import Databases
from pend_storage.testing.domain import SCHEMA, Log, a_log
from pend_storage.testing.proxy import Proxy
from pend_storage.testing.servers import EmbeddedPostgres, temporary_postgres

from .scrapes import Sample, one, scrape, total

J, PAR, PG, P = Phase
LAG: Final = "pend_storage_lag_seconds"


class Site:
    """An environment whose database is behind a line that can be cut."""

    def __init__(self, path: Path, line: Proxy, url: str, direct: str) -> None:
        self.path = path
        self.line = line
        self.direct = direct
        (path / "data").mkdir()
        config = path / "pend.toml"
        config.write_text(
            "[environments.production]\n"
            'phase = "parallel"\nschema = "pend_storage.testing.domain"\n'
            '[environments.production.json]\ndirectory = "data"\n'
            f'[environments.production.postgres]\nurl = "{url}"\nconnect_timeout = 0.5\n'
            "[environments.production.dual_write]\nretention_days = 2\n"
            "secondary_timeout = 0.3\n"
        )
        config.chmod(0o600)
        self.settings: Settings = load_settings(config, "production", environ={})
        self._stack = ExitStack()
        self._facts = CollectorRegistry()
        self.calls = CollectorRegistry()
        self.pair = self._opened()

    def _opened(self) -> ConfiguredPair:
        instruments = PrometheusInstruments(self.calls)
        pair = open_pair(self.settings, serving=True, instruments=instruments)
        self._stack.enter_context(pair)
        probe = self._stack.enter_context(StatusProbe(self.settings))
        self._facts.register(PairCollector(probe.status))
        self.facts()  # at opening a probe has looked: later scrapes look anew
        return pair

    def follow(self) -> BackfillReport:
        """Attach PostgreSQL, and fill it."""
        self.pair.switch(PAR)
        return self.pair.backfill()

    def put(self, *names: str) -> None:
        for name in names:
            self.pair.collection(Log).put(a_log(name))

    def facts(self) -> list[Sample]:
        found = scrape(self._facts)
        assert all(labels["environment"] == "production" for _, labels, _ in found)
        return found

    def until(self, name: str, holds: Callable[[float], bool], **labels: str) -> float:
        """Scrape until a value is as it should be."""
        deadline = time.monotonic() + 60
        while True:
            found = [
                value
                for sample, own, value in self.facts()
                if sample == name and labels.items() <= own.items()
            ]
            if found and holds(found[0]):
                return found[0]
            assert time.monotonic() < deadline, (name, labels, found)
            time.sleep(0.1)

    def sql(self, statement: str) -> None:
        with psycopg.connect(self.direct, autocommit=True) as connection:
            connection.execute(statement.encode())

    def close(self) -> None:
        self.line.restore()
        self._stack.close()


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    settings = {"fsync": "off", "full_page_writes": "off"}
    with temporary_postgres(settings=settings, listen="127.0.0.1") as server:
        yield server


@pytest.fixture
def site(server: EmbeddedPostgres, tmp_path: Path) -> Iterator[Site]:
    databases = Databases(server.tcp_url)
    direct = databases.make()
    with PostgresStore(SCHEMA, direct) as store:
        store.migrate()
    with Proxy(*server.tcp_address) as line:
        made = Site(tmp_path, line, line.through(direct), direct)
        yield made
        made.close()
    databases.drop_all()


# -- a pair that is well ------------------------------------------------------------------------


def test_the_facts_of_a_pair_that_is_well(site: Site) -> None:
    site.put("a")
    site.follow()
    site.pair.catch_up()

    found = site.facts()

    phases = {p.value: float(p is PAR) for p in Phase}
    for phase, value in phases.items():
        assert one(found, "pend_storage_phase", phase=phase) == value
        assert one(found, "pend_storage_wanted_phase", phase=phase) == value
    roles = {"json": "primary", "postgres": "secondary"}
    for store, role in roles.items():
        assert one(found, "pend_storage_store_up", store=store, role=role) == 1
        assert total(found, "pend_storage_role", store=store) == 1
        assert one(found, "pend_storage_role", store=store, role=role) == 1
    epochs = [value for name, _, value in found if name == "pend_storage_epoch"]
    assert len(epochs) == 2
    assert min(epochs) >= 1
    assert one(found, LAG) == 0
    assert one(found, "pend_storage_lag_commits") == 0
    assert one(found, "pend_storage_replication_blocked") == 0
    assert one(found, "pend_storage_change_log_retention_seconds") == 2 * 24 * 3600
    assert one(found, "pend_storage_divergences_open") == 0
    assert one(found, "pend_storage_quarantine_waiting") == 0
    assert one(found, "pend_storage_journal_bytes") > 0
    assert one(found, "pend_storage_checkpoint_age_seconds") >= 0
    assert one(found, "pend_storage_look_failures_total") == 0
    assert one(found, "pend_storage_look_seconds") > 0
    assert one(found, "pend_storage_build_info") == 1
    assert len(found) + len(scrape(site.calls)) <= 1_500


def test_before_there_is_a_pair_nothing_is_made_up(site: Site) -> None:
    site.pair.close()

    names = {name for name, *_ in site.facts()}

    assert "pend_storage_last_validation_timestamp_seconds" not in names
    assert "pend_storage_backup_age_seconds" not in names
    assert not [name for name in names if name.startswith("pend_backup_")]


# -- faults -------------------------------------------------------------------------------------


def test_a_secondary_that_is_away_shows_and_so_does_the_lag(site: Site) -> None:
    site.put("a")
    site.follow()
    site.pair.catch_up()

    site.line.cut()
    site.put("b", "c", "d")

    up = "pend_storage_store_up"
    site.until(up, lambda value: value == 0, store="postgres", role="secondary")
    assert one(site.facts(), up, store="json", role="primary") == 1
    site.until(LAG, lambda value: value > 0)
    site.until("pend_storage_lag_commits", lambda value: value >= 1)
    site.until("pend_storage_replication_blocked", lambda value: value == 1)
    events = "pend_storage_events_total"
    assert one(scrape(site.calls), events, event="secondary-down") >= 1

    site.line.restore()
    site.until(up, lambda value: value == 1, store="postgres", role="secondary")
    site.until(LAG, lambda value: value == 0)
    site.until("pend_storage_lag_commits", lambda value: value == 0)
    assert total(scrape(site.calls), "pend_storage_relay_applied_total") >= 3


def test_a_primary_that_is_away_keeps_its_role(site: Site) -> None:
    site.put("a")
    site.follow()
    site.pair.switch(PG, accept=CODES)
    up = "pend_storage_store_up"
    site.until(up, lambda value: value == 1, store="postgres", role="primary")

    site.line.cut()

    site.until(up, lambda value: value == 0, store="postgres", role="primary")
    assert one(site.facts(), up, store="json", role="secondary") == 1


def test_a_held_relay_shows_as_a_lag_that_grows(site: Site) -> None:
    site.put("a")
    site.follow()
    site.pair.catch_up()
    # A row that the relay cannot write: another session holds it.
    with psycopg.connect(site.direct) as holder:
        holder.execute("lock table logs in access exclusive mode")
        site.put("b")
        first = site.until(LAG, lambda value: 0 < value < math.inf)
        site.until(LAG, lambda value: value > first)
        holder.rollback()
    site.until(LAG, lambda value: value == 0)


def test_a_damaged_row_is_a_divergence_until_it_is_repaired(site: Site) -> None:
    site.put("a", "b")
    site.follow()
    before = time.time()
    site.sql("update logs set text = 'by hand' where id = 'a'")

    assert not site.pair.validate().ok

    found = site.facts()
    assert one(found, "pend_storage_divergences_open") == 1
    at = one(found, "pend_storage_last_validation_timestamp_seconds")
    assert before - 1 <= at <= time.time() + 1
    ahead = {"phase": "postgres-primary", "code": "validation"}
    assert one(found, "pend_storage_blocker", **ahead) == 1

    site.pair.repair()
    site.until("pend_storage_divergences_open", lambda value: value == 0)
    assert site.pair.validate().ok
    blockers = [own for name, own, _ in site.facts() if name == "pend_storage_blocker"]
    assert "validation" not in {own["code"] for own in blockers}


def test_a_record_that_cannot_be_placed_waits_in_quarantine(site: Site) -> None:
    site.put("a")
    site.follow()
    file = site.path / "data" / "logs.json"
    site.until("pend_storage_checkpoint_age_seconds", lambda value: value == 0)
    deadline = time.monotonic() + 30
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.1)

    records = json.loads(file.read_text())
    (records.append if isinstance(records, list) else records.setdefault)(
        *([{"id": 7, "text": []}] if isinstance(records, list) else ["x", 7])
    )
    file.write_text(json.dumps(records))

    site.until("pend_storage_quarantine_waiting", lambda value: value == 1)
    blocker = {"phase": "postgres-primary", "code": "quarantine"}
    assert one(site.facts(), "pend_storage_blocker", **blocker) == 1


def test_a_fence_shows(site: Site) -> None:
    site.put("a")
    site.follow()
    site.pair.close()  # else it ends the switch, which has no process any more
    with open_json(site.settings) as store:
        state = store.role()
        fenced = RoleState(Role.FENCED, state.epoch).to_meta()
        assert store.compare_and_set_meta(ROLE_META, state.to_meta(), fenced)

    found = site.facts()

    role = "pend_storage_role"
    assert one(found, role, store="json", role="fenced") == 1
    assert one(found, role, store="json", role="primary") == 0
    with open_pair(site.settings) as pair:
        pair.recover()
    site.until(role, lambda value: value == 1, store="json", role="primary")
    assert one(site.facts(), role, store="json", role="fenced") == 0


def test_each_switch_counts_once_with_its_pause(site: Site) -> None:
    site.put("a")
    site.follow()
    name = "pend_storage_switch_pause_seconds"
    before = one(site.facts(), f"{name}_count")

    site.pair.switch(PG, accept=CODES)
    report = site.pair.switch(PAR, accept=CODES)
    counts = [one(site.facts(), f"{name}_count") for _ in range(3)]

    assert counts == [before + 2] * 3
    found = site.facts()
    assert one(found, f"{name}_sum") >= report.pause
    assert one(found, f"{name}_bucket", le="+Inf") == before + 2
    calls = "pend_storage_operations_total"
    assert total(scrape(site.calls), calls, operation="switch") == 3


def test_calls_of_a_pair_are_those_of_its_primary_and_counted_once(site: Site) -> None:
    site.put("a")
    site.follow()
    site.pair.collection(Log).get("a")
    site.pair.switch(PG, accept=CODES)
    for _ in range(3):
        site.pair.collection(Log).get("a")

    found = scrape(site.calls)

    calls = "pend_storage_operations_total"
    assert one(found, calls, operation="get", collection="logs", store="json") == 1
    assert one(found, calls, operation="get", collection="logs", store="postgres") == 3
    assert one(found, calls, operation="put", collection="logs", store="json") == 1
    assert one(found, "pend_storage_merged_commits_sum") >= 1


def test_a_journal_grows_with_its_commits(site: Site) -> None:
    name = "pend_storage_journal_bytes"
    before = one(site.facts(), name)

    site.put(*(f"n{number}" for number in range(50)))

    assert one(site.facts(), name) > before


def test_a_look_that_fails_is_counted_and_ends_no_scrape() -> None:
    def fails() -> None:
        raise RuntimeError

    registry = CollectorRegistry()
    registry.register(PairCollector(fails))

    found = [scrape(registry) for _ in range(2)][1]
    assert one(found, "pend_storage_look_failures_total") == 2
    assert one(found, "pend_storage_build_info") == 1
    assert {name for name, *_ in found} == {
        "pend_storage_look_failures_total",
        "pend_storage_build_info",
    }
