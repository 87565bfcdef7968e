"""Moving an environment through the phases by commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import pend_storage as ps
from pend_storage.config import load_settings
from pend_storage.dualwrite import CODES
from pend_storage.factory import ENVIRONMENT_META, open_postgres
from pend_storage.flags import FileFlag
from pend_storage.operations.migrate_json import migrate_json
from pend_storage.phases import Phase
from tests.integration.cli.stages import (
    DOWN,
    bring_to,
    eventually,
    phase_of,
    roles_of,
    serving,
    settings_of,
)

if TYPE_CHECKING:
    from tests.integration.cli.conftest import Site

J, PAR, PG, P = Phase


def follow_flag(site: Site) -> None:
    site.configure(
        site.config.read_text().replace("phase =", "auto_switch = true\nphase =")
    )


def codes(document: Any) -> list[str]:
    return [blocker["code"] for blocker in document["blockers"]]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_way_and_back_with_a_server_at_work(server: Site) -> None:
    with serving(server) as writer:
        server.ok("phase", "set", "parallel")
        blocked = server.run("phase", "advance", "--json").document
        assert {"backfill", "validation"} <= set(codes(blocked))
        writer.goes_on()
        filled = server.ok("migrate", "json")
        assert filled["result"]["is_live"] is True
        validated = server.ok("db", "validate")
        assert validated["result"]["records"]["found"] == 0
        writer.goes_on()
        accept = ("--accept", "quarantine", "--accept", "backup")
        assert server.ok("phase", "advance", *accept)["phase"] == "postgres-primary"
        writer.goes_on()
        server.ok("db", "validate")
        forward = server.ok("phase", "advance", *accept)
        assert forward["phase"] == "postgres-only"
        assert "quarantine" in forward["result"]["switch"]["accepted"]
        writer.goes_on()
        for phase in ("postgres-primary", "parallel", "json-only"):
            back = server.ok("phase", "rollback")
            assert (back["phase"], back["blockers"]) == (phase, [])
            writer.goes_on()

    assert writer.lost() == set()
    assert phase_of(server) is J
    status = server.ok("status")
    assert [s["after"] for s in status["result"]["details"]["history"]] == [
        "postgres-primary",
        "postgres-only",
        "postgres-primary",
        "parallel",
        "json-only",
    ]


def test_a_fresh_pair_is_ready_for_postgres_once_it_was_validated(server: Site) -> None:
    server.ok("migrate", "json")
    server.ok("phase", "set", "parallel")

    before = server.run("phase", "advance", "--dry-run", "--json").document
    server.ok("db", "validate")
    after = server.run("phase", "advance", "--dry-run", "--json").document

    # The copy that migrate json made is a backup, and it was verified.
    assert codes(before) == ["validation", "quarantine"]
    assert codes(after) == ["quarantine"]


def test_a_refused_switch_changes_nothing(server: Site) -> None:
    bring_to(server, PAR)
    config, roles = server.config.read_bytes(), roles_of(server)

    result = server.run("phase", "set", "postgres-primary", "--json")
    told = server.run("phase", "set", "postgres-primary")

    assert result.code == told.code == 1
    assert result.document["phase"] == "parallel"
    assert result.document["refused"] == ["validation", "quarantine", "backup"]
    assert all(b["sentence"] and b["remedy"] for b in result.document["blockers"])
    assert "-> pend-storage db validate; or let it pass with --accept" in told.out
    assert "refused, nothing was changed: the phase stays parallel" in told.out
    assert (server.config.read_bytes(), roles_of(server)) == (config, roles)


def test_what_would_be_lost_cannot_be_accepted(server: Site) -> None:
    server.ok("phase", "set", "parallel")

    result = server.run(
        "phase", "advance", "--json", *(f"--accept={code}" for code in CODES)
    )

    assert result.code == 1
    assert result.document["refused"] == ["backfill"]
    assert result.document["blockers"][0]["can_be_accepted"] is False
    assert "migrate json" in result.document["blockers"][0]["remedy"]


def test_a_dry_run_changes_nothing(server: Site) -> None:
    bring_to(server, PG)
    before = server.config.read_bytes(), roles_of(server)

    result = server.run("phase", "set", "json-only", "--dry-run")

    assert result.code == 0
    assert "nothing would be lost" in result.out
    assert "from postgres-primary to: parallel, json-only" in result.out
    assert (server.config.read_bytes(), roles_of(server)) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("set", "sideways"), "unknown phase 'sideways'"),
        (("set", "parallel", "--accept", "weather"), "no blocker 'weather'"),
        (("rollback",), "there is none before it"),
        (("set", "parallel", "--timeout", "0"), "--timeout"),
    ],
)
def test_wrong_usage_is_explained(
    server: Site, arguments: tuple[str, ...], message: str
) -> None:
    result = server.run("phase", *arguments, "--json")

    assert result.code == 2
    assert message in result.document["error"]["message"]


def test_a_side_that_is_not_configured_is_named(server: Site) -> None:
    text = server.config.read_text()
    server.configure(text[: text.index("[environments.development.postgres]")])

    result = server.run("phase", "set", "parallel", "--json")
    shown = server.ok("phase", "show")

    assert result.code == 2
    assert "no database is configured" in result.document["error"]["message"]
    assert shown["postgres"] is None


def test_a_database_that_is_not_migrated_is_a_blocker(site: Site) -> None:
    site.data.mkdir()

    result = site.run("phase", "set", "parallel", "--json")

    assert result.code == 1
    assert result.document["refused"] == ["schema"]
    assert result.document["blockers"][0]["remedy"] == "pend-storage db migrate"


def test_a_database_of_another_environment_is_refused(server: Site) -> None:
    with open_postgres(settings_of(server)) as database:
        database.compare_and_set_meta(ENVIRONMENT_META, None, "staging")

    result = server.run("phase", "set", "parallel", "--json")

    assert result.code == 2
    assert "belongs to the environment 'staging'" in result.document["error"]["message"]
    with pytest.raises(ps.ConfigError, match="staging"):
        ps.open_store(server.config)


# -- the flag -----------------------------------------------------------------------------


def test_the_flag_is_written_before_the_switch(server: Site) -> None:
    migrate_json(settings_of(server), backup=False)

    died = server.run("phase", "set", "parallel", PEND_CRASH_POINT="phase.flagged")

    assert died.code == -9
    assert settings_of(server).phase is PAR
    shown = server.run("phase", "show", "--json")
    assert shown.code == 1
    assert (shown.document["wanted"], shown.document["phase"]) == (
        "parallel",
        "json-only",
    )
    assert "pend-storage phase set parallel" in server.run("phase", "show").out
    server.ok("phase", "set", "parallel")
    server.ok("phase", "show")


def test_a_flag_in_the_environment_is_left_and_told(server: Site) -> None:
    migrate_json(settings_of(server), backup=False)

    result = server.run("phase", "set", "parallel", PEND_PHASE="json-only")

    assert result.code == 0
    assert "PEND_PHASE still says json-only" in result.out
    assert phase_of(server) is PAR
    assert settings_of(server).phase is J


def test_a_flag_that_servers_follow_and_nobody_can_write_is_a_reason(
    server: Site,
) -> None:
    migrate_json(settings_of(server), backup=False)
    follow_flag(server)

    refused = server.run("phase", "set", "parallel", "--json", PEND_PHASE="json-only")
    done = server.run("phase", "set", "parallel", "--json", PEND_PHASE="parallel")

    assert refused.code == 2
    assert "restart the servers" in refused.document["error"]["message"]
    assert done.code == 0
    assert done.document["result"]["flag"]["written"] is False


def test_a_server_follows_the_flag_by_itself(server: Site) -> None:
    migrate_json(settings_of(server), backup=False)
    follow_flag(server)

    with serving(server) as writer:
        flag = FileFlag(server.config, "development")
        for phase in (PAR, J, PAR):
            flag.write(phase, by="a test")
            eventually(lambda phase=phase: phase_of(server) is phase)  # type: ignore[misc]
            writer.goes_on()
        server.ok("phase", "set", "json-only")
        writer.goes_on()

    assert writer.lost() == set()
    assert phase_of(server) is J


def test_a_store_that_follows_the_flag_ends_with_all_its_threads(server: Site) -> None:
    import threading

    bring_to(server, PAR)
    follow_flag(server)
    before = set(threading.enumerate())

    store = ps.open_store(server.config)
    store.collection("users").count()
    during = {thread.name for thread in set(threading.enumerate()) - before}
    store.close()

    assert {"pend-flag", "pend-relay"} <= during
    eventually(lambda: not set(threading.enumerate()) - before, 10)


# -- with a store down --------------------------------------------------------------------


def test_a_database_that_is_down_does_not_stop_the_way_back(server: Site) -> None:
    bring_to(server, PAR)

    refused = server.run("phase", "advance", "--json", PEND_DATABASE_URL=DOWN)
    back = server.run("phase", "rollback", "--json", PEND_DATABASE_URL=DOWN)

    assert refused.code == 3
    assert back.code == 0, back.out + back.err
    assert back.document["phase"] == "json-only"
    assert phase_of(server) is J  # it is detached as soon as it is back
    server.ok("phase", "set", "parallel")


def test_a_primary_that_is_down_stops_every_switch(server: Site) -> None:
    bring_to(server, PG)

    for command in (("rollback",), ("advance",), ("set", "json-only")):
        result = server.run("phase", *command, "--json", PEND_DATABASE_URL=DOWN)
        assert result.code == 3, result.out
    assert phase_of(server) is PG


# -- migrate json and db validate, on a pair ----------------------------------------------


def test_migrate_json_says_which_phase_it_needs(server: Site) -> None:
    bring_to(server, PAR)
    server.ok("phase", "rollback")

    alone = server.run("migrate", "json", "--json")
    bring_to_postgres(server)
    primary = server.run("migrate", "json", "--json")

    assert alone.code == primary.code == 2
    assert "phase set parallel" in alone.document["error"]["message"]
    assert "the database is primary" in primary.document["error"]["message"]


def bring_to_postgres(site: Site) -> None:
    accept = [f"--accept={code}" for code in CODES]
    site.ok("phase", "set", "postgres-primary", *accept)


def test_a_backfill_of_a_pair_goes_on_after_a_kill(server: Site) -> None:
    with ps.open_store(server.config) as store:
        store.legacy("wallet-db.json")["0x" + "ab" * 32] = "0x" + "cd" * 20
    server.ok("phase", "set", "parallel")

    died = server.run("migrate", "json", PEND_CRASH_POINT="backfill.chunk:4")
    resumed = server.ok("migrate", "json")

    assert died.code == -9
    filled = resumed["result"]["backfill"]
    assert filled["resumed"] is True
    assert filled["unchanged"] > 0
    assert server.ok("db", "validate")["result"]["records"]["found"] == 0


def test_a_validation_of_a_sample_does_not_count(server: Site) -> None:
    bring_to(server, PAR)

    server.ok("db", "validate", "--sample", "0.5")
    sampled = server.run("phase", "advance", "--dry-run", "--json").document
    compared = server.ok("db", "validate", "--files")
    whole = server.run("phase", "advance", "--dry-run", "--json").document

    assert "validation" in codes(sampled)
    assert "validation" not in codes(whole)
    assert len(compared["result"]["files"]) == 16
    assert compared["result"]["primary"] == "json"


def test_settings_reach_the_pair(server: Site) -> None:
    server.configure(
        server.config.read_text()
        + "[environments.development.dual_write]\ncompare = 0.5\n"
        'secondary_timeout = "unlimited"\nretention_days = 2.0\n'
    )

    with ps.open_store(server.config) as store:
        assert isinstance(store, ps.DualWriteStore)
        assert store._timeout is None
        assert store._relay._retention.days == 2
        assert store._shadow_reads.share == 0.5
    assert load_settings(server.config, environ={}).dual_write.compare == 0.5
