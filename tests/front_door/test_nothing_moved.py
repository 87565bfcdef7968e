"""A directory of another server: every command that should move something says so."""

from __future__ import annotations

import pytest

import pend_storage as ps
from pend_storage.config import load_settings
from pend_storage.factory import open_pair
from pend_storage.operations.phase import change_phase
from pend_storage.phases import Phase
from tests.front_door.conftest import Site, put


@pytest.fixture
def foreign(site: Site) -> Site:
    put(site.data / "economy.json", {"1": {"wallet": 5}, "2": {"wallet": 7}})
    put(site.data / "orders.json", [{"id": 1, "total": 9}])
    return site


def test_a_migration_that_moves_nothing_fails_and_says_why(foreign: Site) -> None:
    foreign.ok("db", "migrate")
    foreign.ok("db", "seed")

    result = foreign.run("migrate", "json")
    again = foreign.run("migrate", "json", "--json")

    assert result.code == again.code == 1
    assert "nothing was moved" in result.out
    assert f"pend-storage inspect {foreign.data}" in result.out
    assert f"{foreign.data / 'economy.json'}, {foreign.data}/orders" in result.out
    assert again.document["moved_nothing"] is True


def test_a_validation_that_compares_nothing_fails(foreign: Site) -> None:
    foreign.ok("db", "migrate")

    result = foreign.run("db", "validate")

    assert result.code == 1
    assert "nothing was compared: neither store has a record" in result.out
    assert "2 files that no layout claims" in result.out


def test_an_empty_directory_fails_with_another_sentence(site: Site) -> None:
    site.data.mkdir()
    site.ok("db", "migrate")

    result = site.run("migrate", "json")

    assert result.code == 1
    assert "has no file that a layout claims. Correct json.directory" in result.out


def test_doctor_fails_over_the_files_of_another_server(foreign: Site) -> None:
    foreign.ok("db", "migrate")

    result = foreign.run("doctor")

    assert result.code == 1
    assert "0 of 16 are there, and the directory has other JSON files" in result.out
    assert "no layout knows" in result.out


@pytest.mark.parametrize("wanted", [Phase.POSTGRES_PRIMARY, Phase.POSTGRES_ONLY])
def test_unclaimed_files_stand_in_the_way_until_somebody_decides(
    server: Site, wanted: Phase
) -> None:
    settings = load_settings(server.config, environ={})
    server.run("migrate", "json", "--no-backup")
    change_phase(settings, Phase.PARALLEL)
    if wanted is Phase.POSTGRES_ONLY:
        change_phase(settings, Phase.POSTGRES_PRIMARY, accept=ps_codes())
    stranger = put(server.data / "mine" / "economy.json", {"1": 5})
    others = [code for code in ps_codes() if code != "unclaimed"]

    refused = change_phase(settings, wanted, accept=others)
    shown = server.run("phase", "set", wanted.value, "--dry-run")
    accepted = change_phase(settings, wanted, accept=ps_codes(), dry_run=True)
    server.configure(
        server.config.read_text().replace(
            'directory = "data"', 'directory = "data"\nunclaimed = "ignore"'
        )
    )
    ignored = change_phase(
        load_settings(server.config, environ={}), wanted, accept=others, dry_run=True
    )

    assert [obstacle.code for obstacle in refused.refused] == ["unclaimed"]
    assert "economy.json" in refused.refused[0].sentence
    assert 'unclaimed = "ignore"' in refused.refused[0].sentence
    assert shown.code == 1
    assert "or let it pass with --accept unclaimed" in shown.out
    assert not accepted.refused
    assert not ignored.blockers or "unclaimed" not in {b.code for b in ignored.blockers}
    assert stranger.exists()


def test_a_pair_made_by_hand_is_gated_alike(server: Site) -> None:
    put(server.data / "economy.json", {"1": 5})
    settings = load_settings(server.config, environ={})

    with (
        open_pair(settings) as pair,
        ps.DualWriteStore(json=pair.json, postgres=pair.postgres) as by_hand,
    ):
        codes = {b.code for b in by_hand.readiness(Phase.POSTGRES_PRIMARY).blockers}

    assert "unclaimed" in codes


def ps_codes() -> tuple[str, ...]:
    from pend_storage.dualwrite import CODES

    return CODES
