"""The emergency procedure: from every phase, interrupted anywhere, with a store down."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pend_storage.factory import open_pair
from pend_storage.operations.emergency import roll_back
from pend_storage.phases import Phase
from pend_storage.records import QuarantinedRecord
from pend_storage.schema import AUDIT
from tests.integration.cli.stages import (
    DOWN,
    bring_to,
    phase_of,
    roles_of,
    serving,
    settings_of,
)
from tests.integration.cli.test_cli_status import WALLET, corrupt

if TYPE_CHECKING:
    from tests.integration.cli.conftest import Site

J, PAR, PG, P = Phase
NAMES = [
    "stop new database writes",
    "restore JSON operation",
    "sync missing data",
    "validate",
    "resume",
]


def names(document: Any) -> list[str]:
    return [step["name"] for step in document["steps"]]


def records(site: Site) -> dict[tuple[str, str], Any]:
    """Every record, as the server sees it; the audit has what the rollback did, too."""
    with open_pair(settings_of(site)) as pair:
        return {
            (spec.name, row.key): row.record
            for spec in pair.schema
            if spec.name != AUDIT
            for row in pair.scan(spec.name)
        }


def change_everything(site: Site) -> None:
    """Differences that only the primary has: a new, a changed and a deleted record."""
    with open_pair(settings_of(site)) as pair:
        wallets = pair.legacy("wallet-db.json")
        known = sorted(wallets)
        wallets[WALLET[0]] = WALLET[1]
        wallets[known[0]] = "0x" + "11" * 20
        waiting = pair.collection(QuarantinedRecord).find(limit=1).items[0]
        pair.collection(QuarantinedRecord).delete(waiting.id)


@pytest.mark.parametrize("phase", [PAR, PG, P])
def test_from_every_phase_with_a_server_at_work(server: Site, phase: Phase) -> None:
    bring_to(server, phase)
    with serving(server) as writer:
        writer.goes_on()
        document = server.ok("rollback")
        writer.goes_on()

    assert document["phase"] == "json-only"
    assert names(document) == NAMES
    assert all(step["seconds"] >= 0 and step["at"] for step in document["steps"])
    assert document["result"]["before"] == phase.value
    assert document["result"]["divergences"] == 0
    assert phase_of(server) is settings_of(server).phase is J
    assert writer.lost() == set()


def test_once_more_does_no_harm(server: Site) -> None:
    bring_to(server, PG)

    told = server.run("rollback")
    again = server.ok("rollback")

    assert told.code == 0
    for number, name in enumerate(NAMES, 1):
        assert f"{number}/5 {name}: " in told.out
    assert "UTC, " in told.out
    assert names(again) == NAMES
    assert again["result"]["before"] == "json-only"


POINTS = [
    "rollback.stopped",
    "rollback.restored",
    "rollback.caught-up",
    "rollback.synced",
    "rollback.validated",
    "rollback.resumed",
    "attach.following",
    "switch.fenced",
    "switch.ready",
    "switch.opened",
    "detach.done",
]


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_and_called_again(server: Site, point: str) -> None:
    bring_to(server, P)
    change_everything(server)
    expected = records(server)

    died = server.run("rollback", PEND_CRASH_POINT=point)
    done = roll_back(settings_of(server))

    assert died.code == -9, died.out + died.err
    assert done.ok
    assert [step.name for step in done.steps] == NAMES
    assert records(server) == expected
    assert settings_of(server).phase is J


def test_a_secondary_that_is_down_is_no_obstacle(server: Site) -> None:
    bring_to(server, PAR)

    result = server.run("rollback", "--json", PEND_DATABASE_URL=DOWN)

    assert result.code == 0, result.out + result.err
    assert result.document["phase"] == "json-only"
    assert "out of reach" in result.document["steps"][3]["result"]
    assert result.document["result"]["divergences"] is None
    assert phase_of(server) is J


@pytest.mark.parametrize("phase", [PG, P])
def test_a_primary_that_is_down_is_not_given_up_silently(
    server: Site, phase: Phase
) -> None:
    bring_to(server, phase)
    config, roles = server.config.read_bytes(), roles_of(server)

    result = server.run("rollback", "--json", PEND_DATABASE_URL=DOWN)

    assert result.code == 3
    message = result.document["error"]["message"]
    assert "would be lost" in message
    assert "doctor --elect json" in message
    assert (server.config.read_bytes(), roles_of(server)) == (config, roles)


def test_what_json_lacks_is_brought_to_it_before_it_takes_over(server: Site) -> None:
    bring_to(server, PG)
    expected = records(server)
    corrupt(server)  # of the primary: JSON does not know
    changed = records(server)

    document = server.ok("rollback")

    assert changed != expected
    assert records(server) == changed
    assert "1 repaired" in document["steps"][2]["result"]


def test_stores_that_differ_stay_together_to_be_looked_at(server: Site) -> None:
    bring_to(server, PAR)
    corrupt(server)  # of the secondary

    stopped = server.run("rollback", "--json")
    at = phase_of(server)
    finished = server.ok("rollback", "--quick")

    assert stopped.code == 1
    assert [step["ok"] for step in stopped.document["steps"]] == [True] * 3 + [False]
    assert "rollback --quick" in stopped.document["steps"][3]["result"]
    assert stopped.document["result"]["divergences"] == 1
    assert at is PAR
    assert finished["phase"] == "json-only"


def test_servers_that_follow_the_flag_go_the_same_way(server: Site) -> None:
    bring_to(server, P)
    text = server.config.read_text()
    server.configure(text.replace("phase =", "auto_switch = true\nphase ="))

    with serving(server) as writer:
        writer.goes_on()
        document = server.ok("rollback")
        writer.goes_on()

    assert document["phase"] == "json-only"
    assert phase_of(server) is J
    assert writer.lost() == set()


def test_a_flag_that_would_undo_it_is_a_reason(server: Site) -> None:
    bring_to(server, PAR)
    text = server.config.read_text()
    server.configure(text.replace("phase =", "auto_switch = true\nphase ="))

    refused = server.run("rollback", "--json", PEND_PHASE="parallel")

    assert refused.code == 2
    assert phase_of(server) is PAR


def found_in(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mode)
        for path in directory.rglob("*.json")
        if ".pend-storage" not in path.parts
    }


def test_a_directory_that_was_lost_is_written_again(server: Site) -> None:
    """With the real database, and files without records: see test_files_come_back."""
    files = {
        "wallet-db.json": None,
        "admin-logs.json": b'{"logs": [ ], "version": 1}\n',
        "consents-db.json": b'{"a": 1, "b"',
        "credentials-db.json": b"",
        "admin-pool-tiers.json": b"[]\r\n",
        "server-logs.json": b"\xef\xbb\xbf[1,2]",
        "explorer-data/live-stats.json": b"\x00" * 9,
    }
    for number, (name, raw) in enumerate(files.items()):
        path = server.data / name
        if raw is not None:
            path.write_bytes(raw)
        path.chmod((0o600, 0o640, 0o664)[number % 3])
    bring_to(server, P)
    before = found_in(server.data)
    shutil.rmtree(server.data)
    server.data.mkdir()

    assert roll_back(settings_of(server)).ok

    after = found_in(server.data)
    assert {name: after[name] for name in files} == {n: before[n] for n in files}
    assert after.keys() == before.keys()
    assert [mode for _, mode in after.values()] == [before[n][1] for n in after]
