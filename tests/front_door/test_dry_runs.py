"""``--dry-run``: says what would happen, and changes nothing."""

from __future__ import annotations

import json

import pytest

from pend_storage.phases import Phase
from tests.front_door.conftest import Site, put
from tests.integration.cli.stages import DOWN, bring_to, phase_of


def test_a_migration_is_tried_and_changes_nothing(server: Site) -> None:
    put(server.data / "economy.json", {})
    put(server.data / "admin-pool-tiers.json", {"a": 1, "b": float("nan")})
    before = server.digest(), server.rows()

    shown = server.run("migrate", "json", "--dry-run")
    told = server.run("migrate", "json", "--dry-run", "--json")
    after = server.digest(), server.rows()
    done = server.ok("migrate", "json", "--no-backup")

    assert (shown.code, told.code) == (0, 0)
    assert after == before
    assert "and nothing was changed" in shown.out
    assert "admin-pool-tiers.json: 1 would wait: NaN" in shown.out
    assert f"no layout knows them: {server.data / 'economy.json'}" in shown.out
    tried = {f["file"]: f for f in told.document["result"]["files"]}
    made = {f["file"]: f for f in done["result"]["files"]}
    assert {n: f["quarantined"] for n, f in tried.items()} == {
        n: f["quarantined"] for n, f in made.items()
    }
    assert {n: f["read"] for n, f in tried.items()} == {
        n: f["read"] for n, f in made.items()
    }
    assert told.document["waiting"] == done["waiting"]


def test_it_is_tried_after_a_migration_too(server: Site) -> None:
    server.ok("migrate", "json", "--no-backup")
    put(server.data / "admin-pool-tiers.json", {"a": 1, "c": float("inf")})
    before = server.digest(), server.rows()

    result = server.run("migrate", "json", "--dry-run", "--strict")

    assert result.code == 1
    assert "admin-pool-tiers.json: 1 would wait" in result.out
    assert (server.digest(), server.rows()) == before


@pytest.mark.parametrize(
    ("database", "says"),
    [(DOWN, "cannot be filled now"), ("", "must be migrated|cannot be filled now")],
)
def test_it_says_why_the_database_cannot_be_filled(
    site: Site, sample: object, database: str, says: str
) -> None:
    put(site.data / "wallet-db.json", {f"0x{1:064x}": f"0x{1:040x}"})

    result = site.run("migrate", "json", "--dry-run", PEND_DATABASE_URL=database)

    assert result.code == 1
    assert "1 records would be placed" in result.out
    assert says.rsplit("|", maxsplit=1)[-1] in result.out


def test_a_try_at_a_foreign_directory_says_that_nothing_would_move(site: Site) -> None:
    put(site.data / "economy.json", {"1": 1})

    result = site.run("migrate", "json", "--dry-run")

    assert result.code == 1
    assert "nothing was moved" in result.out


def test_a_rollback_is_planned_and_not_made(server: Site) -> None:
    bring_to(server, Phase.POSTGRES_PRIMARY)
    before = server.config.read_bytes(), server.rows()

    shown = server.run("rollback", "--dry-run")
    told = server.run("rollback", "--dry-run", "--json")

    assert (shown.code, told.code) == (0, 0), shown.out + shown.err
    assert "1/5 stop new database writes" in shown.out
    assert "JSON takes over" in shown.out
    assert "nothing was changed" in shown.out
    assert told.document["phase"] == "postgres-primary"
    assert (server.config.read_bytes(), server.rows()) == before
    assert phase_of(server) is Phase.POSTGRES_PRIMARY


def test_a_rollback_that_could_not_be_made_is_not_promised(server: Site) -> None:
    bring_to(server, Phase.POSTGRES_PRIMARY)

    result = server.run("rollback", "--dry-run", PEND_DATABASE_URL=DOWN)

    assert result.code == 3
    assert "doctor --elect json" in result.err


def test_a_retry_is_tried_and_not_made(server: Site) -> None:
    path = put(server.data / "admin-pool-tiers.json", {"a": 1, "b": float("nan")})
    server.ok("migrate", "json", "--no-backup")
    listed = server.run("quarantine", "list", "--file", path.name, "--json").document
    identity = listed["records"][0]["id"]
    good, bad = server.path / "good", server.path / "bad"
    good.write_text('"b": 7')
    bad.write_text('"a": 7')
    before = path.read_bytes(), server.rows()

    would = server.run(
        "quarantine", "retry", identity, "--with", str(good), "--dry-run"
    )
    would_not = server.run(
        "quarantine", "retry", identity, "--with", str(bad), "--dry-run", "--json"
    )

    assert would.code == 0
    assert "would be placed" in would.out
    assert "nothing was changed" in would.out
    assert would_not.code == 1
    assert "has its key" in would_not.document["results"][0]["reason"]
    assert (path.read_bytes(), server.rows()) == before
    again = server.run("quarantine", "list", "--file", path.name, "--json").document
    assert again == listed
    server.ok("quarantine", "retry", identity, "--with", str(good))
    assert json.loads(path.read_bytes()) == {"a": 1, "b": 7}
