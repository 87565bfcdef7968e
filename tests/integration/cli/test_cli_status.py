"""Looking at a pair, and keeping it alike, by commands."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

import pend_storage as ps
from pend_storage._model.meta_names import BACKFILL_META
from pend_storage.dualwrite._replication_position import POSITION_META
from pend_storage.factory import open_pair
from pend_storage.operations.database_status import database_status
from pend_storage.operations.doctor import State, examine
from pend_storage.operations.migrate_json import migrate_json
from pend_storage.operations.status import StatusProbe
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.phases import ROLE_META, Phase, Role, RoleState
from pend_storage.stores.json import JsonStore
from tests.integration.cli.stages import (
    DOWN,
    bring_to,
    eventually,
    phase_of,
    settings_of,
)

if TYPE_CHECKING:
    from tests.integration.cli.conftest import Site

J, PAR, PG, P = Phase
WALLET = ("0x" + "ab" * 32, "0x" + "cd" * 20)


def sides(document: Any) -> list[str | None]:
    result = document["result"]
    return [result[side]["role"] for side in ("json", "postgres")]


def write_wallet(site: Site, **environ: str) -> None:
    with open_pair(settings_of(site, **environ)) as pair:
        pair.legacy("wallet-db.json")[WALLET[0]] = WALLET[1]


def corrupt(site: Site) -> None:
    site.change("update users set tier = 5 where id = (select min(id) from users)")


# -- status -------------------------------------------------------------------------------


def test_status_leaves_a_fresh_pair_as_it_is(server: Site) -> None:
    before = server.digest()

    result = server.ok("status")

    assert result["phase"] is None
    assert sides(result) == [None, None]
    assert server.digest() == before
    assert "not used as a pair yet" in server.run("status").out
    server.ok("migrate", "json")  # the four commands still find a fresh database


def test_status_leaves_a_database_that_waits_for_its_pair(server: Site) -> None:
    server.ok("db", "seed", PEND_PHASE="parallel")

    seen = server.run("status", "--json").document
    server.ok("doctor")

    assert seen["result"]["postgres"]["role"] == "secondary"
    assert seen["phase"] is None
    server.ok("migrate", "json", PEND_PHASE="parallel")


def test_status_tells_how_old_the_legacy_files_are(server: Site) -> None:
    with JsonStore(
        SCHEMA, server.data, layouts=LAYOUTS, checkpoint_interval=None
    ) as store:
        store.legacy("consents-db.json")["a"] = 1

        text = server.run("status").out

    assert "consents-db.json is" in text
    assert "behind, 1 record" in text


def test_a_json_store_that_is_lost_is_told(server: Site) -> None:
    bring_to(server, PAR)
    server.data.rename(server.path / "lost")
    server.data.mkdir()

    status = server.run("status", "--json")
    doctor = server.run("doctor", "--json")

    assert status.code == 1
    assert "doctor --elect postgres" in status.document["result"]["problem"]
    assert doctor.code == 2


def test_status_tells_everything(server: Site) -> None:
    bring_to(server, PAR)
    server.ok("db", "validate")

    document = server.ok("status")
    text = server.run("status").out

    assert (document["phase"], document["wanted"]) == ("parallel", "parallel")
    assert sides(document) == ["primary", "secondary"]
    details = document["result"]["details"]
    assert details["lag"]["commits"] == 0
    assert details["lag"]["secondary_up"] is True
    assert details["backfill"] == "complete"
    assert details["validation"]["ok"] is True
    assert details["divergences"] == 0
    assert details["waiting"] > 0
    assert details["history"][-1]["after"] == "parallel"
    assert document["readiness"]["phase"] == "postgres-primary"
    assert document["readiness"]["ready"] is False
    assert "not ready for postgres-primary" in text
    assert "pend-storage quarantine list" in text


@pytest.mark.parametrize("phase", [PAR, PG])
def test_status_works_while_postgres_is_down(server: Site, phase: Phase) -> None:
    bring_to(server, phase)

    result = server.run("status", "--json", PEND_DATABASE_URL=DOWN)
    shown = server.run("phase", "show", "--json", PEND_DATABASE_URL=DOWN)

    assert result.code == 1
    assert result.document["phase"] == phase.value
    assert shown.document["phase"] == phase.value
    assert "127.0.0.1:1" in result.document["result"]["postgres"]["problem"]
    lag = result.document["lag"]
    if phase is PAR:  # the change log is there to measure it, at least
        assert lag["secondary_up"] is False
        assert "cannot be reached" in lag["blocked"]
        assert lag["commits"] >= 1
    else:
        assert lag is None


def test_status_works_while_the_json_store_is_damaged(server: Site) -> None:
    bring_to(server, P)
    for path in (server.data / ".pend-storage").rglob("*"):
        if path.is_file() and path.stat().st_size > 100:
            path.write_bytes(b"\0" * 100)

    result = server.run("status", "--json")

    assert result.code == 1
    assert result.document["result"]["json"]["problem"]
    assert result.document["result"]["postgres"]["role"] == "primary"


def test_stores_that_do_not_belong_together_are_told(server: Site) -> None:
    bring_to(server, PG)
    with open_pair(settings_of(server)) as pair:
        known = pair.json.meta(ROLE_META)
        other = RoleState(Role.PRIMARY, 9).to_meta()
        pair.json.compare_and_set_meta(ROLE_META, known, other)

    status = server.run("status", "--json")
    doctor = server.run("doctor", "--json")

    assert status.code == 1
    assert "doctor --elect" in status.document["result"]["problem"]
    assert doctor.code == 2
    assert any(
        f["check"] == "pair" and f["state"] == "fail" and "--elect" in f["message"]
        for f in doctor.document["result"]["findings"]
    )


def test_status_watches_until_it_is_interrupted(server: Site) -> None:
    bring_to(server, PAR)
    process = subprocess.Popen(
        server.command("status", "--watch", "0.2", "--json"),
        cwd=server.path,
        env=server.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None

    first = json.loads(process.stdout.readline())
    server.ok("phase", "rollback")
    eventually(lambda: json.loads(process.stdout.readline())["phase"] == "json-only")  # type: ignore[union-attr]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    assert first["phase"] == "parallel"
    assert process.returncode == 0


# -- repair -------------------------------------------------------------------------------


def test_repair_makes_the_secondary_equal(server: Site) -> None:
    bring_to(server, PAR)
    corrupt(server)

    found = server.run("db", "validate", "--json")
    status = server.run("status", "--json")
    plan = server.run("repair", "--dry-run", "--json")
    done = server.run("repair", "--json")

    assert found.code == status.code == plan.code == 1
    assert found.document["result"]["records"]["found"] == 1
    assert status.document["result"]["details"]["divergences"] == 1
    assert [r["action"] for r in plan.document["repairs"]] == ["write"]
    assert done.code == 0
    assert done.document["repaired"] == 1
    assert done.document["primary"] == "json"
    server.ok("db", "validate")
    server.ok("repair")


def test_repair_needs_a_secondary(server: Site) -> None:
    bring_to(server, PAR)
    server.ok("phase", "rollback")

    result = server.run("repair", "--json")

    assert result.code == 2
    assert "no secondary in this phase" in result.document["error"]["message"]


# -- relay --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_relay_brings_what_is_missing_and_ends_cleanly(
    server: Site, number: signal.Signals
) -> None:
    bring_to(server, PAR)
    write_wallet(server, PEND_DATABASE_URL=DOWN)
    assert server.ok("status")["lag"]["commits"] == 1
    process = subprocess.Popen(
        server.command("relay", "--json"),
        cwd=server.path,
        env=server.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )

    with open_pair(settings_of(server)) as pair:
        eventually(lambda: pair.lag().commits == 0)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    assert json.loads(out)["lag"]["commits"] == 0


def test_the_relay_follows_a_change_of_phase(server: Site) -> None:
    bring_to(server, PAR)
    server.ok("phase", "rollback")
    process = subprocess.Popen(
        server.command("relay"),
        cwd=server.path,
        env=server.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "at work" in process.stderr.readline()
    assert "phase json-only" in process.stderr.readline()

    server.ok("phase", "advance")
    write_wallet(server, PEND_DATABASE_URL=DOWN)

    with open_pair(settings_of(server)) as pair:
        eventually(lambda: pair.lag().commits == 0)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "phase parallel, 0 commits behind" in out


# -- doctor -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "phase"), [("switch.fenced", PAR), ("switch.opened", PG)]
)
def test_doctor_finishes_a_switch_that_was_left_half_done(
    server: Site, point: str, phase: Phase
) -> None:
    bring_to(server, PAR)
    accept = [f"--accept={code}" for code in ("validation", "quarantine", "backup")]
    died = server.run("phase", "advance", *accept, PEND_CRASH_POINT=point)
    assert died.code == -9

    first = server.ok("doctor")
    again = server.ok("doctor")

    found = {f["check"]: f for f in first["result"]["findings"]}
    assert "half done" in found["switch"]["message"]
    assert phase.value in found["pair"]["message"]
    assert "switch" not in {f["check"] for f in again["result"]["findings"]}
    assert phase_of(server) is phase


def test_a_store_takes_over_when_the_other_one_is_lost(server: Site) -> None:
    bring_to(server, PG)
    started = time.monotonic()

    asked = server.run("doctor", "--elect", "json", "--json")
    done = server.run(
        "doctor", "--elect", "json", "--yes", "--json", PEND_DATABASE_URL=DOWN
    )

    assert asked.code == 2
    assert "--yes" in asked.document["error"]["message"]
    assert done.code == 1
    assert done.document["primary"] == "json"
    assert done.document["is_other_reachable"] is False
    assert done.document["missing"] is None
    write_wallet(server, PEND_DATABASE_URL=DOWN)  # JSON serves
    with pytest.raises(ps.ConfigError, match="elect"):
        phase_of(server)  # it is back, and still believes in itself
    again = server.run("doctor", "--elect", "json", "--yes", "--json")
    assert again.code in {0, 1}
    assert again.document["is_other_reachable"] is True
    assert phase_of(server) is J
    assert time.monotonic() - started < 100


# -- one answer ---------------------------------------------------------------------------


def test_every_command_says_the_same_of_a_backfill_before_a_gap(server: Site) -> None:
    bring_to(server, PAR)
    settings = settings_of(server)
    assert database_status(settings).ready
    with open_pair(settings) as pair:  # the log was followed from later on
        known: Any = pair.postgres.meta(POSITION_META)
        filled: Any = pair.postgres.meta(BACKFILL_META)
        # The entry of the switch was committed after the backfill had begun.
        assert filled["head"] < known["after"]
        later = {**known, "base": known["after"], "whole": False}
        assert pair.postgres.compare_and_set_meta(POSITION_META, known, later)

    with StatusProbe(settings) as probe:
        details = probe.status().details
    database = database_status(settings)
    found = {finding.check: finding for finding in examine(settings).findings}
    told = server.run("db", "status", "--json")

    assert details is not None
    assert details.ahead is not None
    assert "backfill" in {blocker.code for blocker in details.ahead.blockers}
    assert (details.backfill, database.backfill) == ("never", "never")
    assert found["backfill"].state is State.WARN
    assert "migrate json" in found["backfill"].remedy
    assert (told.code, told.document["result"]["backfill"]) == (1, "never")

    migrate_json(settings, backup=False)
    assert database_status(settings).ready


def test_the_backfill_of_a_database_is_not_known_without_its_json(server: Site) -> None:
    bring_to(server, PAR)
    server.data.rename(server.path / "elsewhere")

    told = server.run("db", "status")
    database = database_status(settings_of(server))

    assert (database.backfill, database.ready) == (None, False)
    assert told.code == 1
    assert "not known: JSON cannot be opened" in told.out


def test_a_primary_database_needs_no_backfill(server: Site) -> None:
    server.change(
        "insert into store_meta (name, value) values "
        """('role', '{"role": "primary", "epoch": 3}')"""
    )

    database = database_status(settings_of(server))

    assert (database.role, database.backfill) == ("primary", "complete")
