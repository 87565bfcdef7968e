"""The audit of an environment by its commands: what is done there is in it, and is proven."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import psycopg
import pytest

from pend_storage.phases import Phase
from tests.integration.cli.stages import bring_to

if TYPE_CHECKING:
    from tests.integration.cli.conftest import Site


@pytest.fixture
def parallel(server: Site) -> Site:
    """A site in the phase parallel."""
    bring_to(server, Phase.PARALLEL)
    return server


def actions(site: Site, *arguments: str) -> list[str]:
    return [e["action"] for e in site.ok("audit", "list", *arguments)["entries"]]


def test_operations_have_entries(parallel: Site) -> None:
    parallel.ok("repair")
    parallel.ok("phase", "set", "json-only")

    assert actions(parallel) == ["switch", "repair", "switch"]
    (entry, _) = parallel.ok("audit", "list", "--action", "switch")["entries"]
    assert entry["values"]["after"] == "parallel"
    assert "process" in entry["by"]
    assert isinstance(entry["position"], str)
    assert actions(parallel, "--to", "2020-01-01") == []
    assert actions(parallel, "--from", "2020-01-01", "--limit", "1") == ["switch"]


def test_a_rollback_is_in_the_audit_and_loses_no_entry(parallel: Site) -> None:
    parallel.ok("rollback")

    assert actions(parallel) == ["switch", "switch", "rollback"]
    assert parallel.ok("audit", "verify")["result"]["found"] == 0


def test_an_entry_that_is_edited_by_hand_is_named(parallel: Site) -> None:
    accepted = ("backup", "quarantine", "validation")
    codes = [word for code in accepted for word in ("--accept", code)]
    parallel.ok("phase", "set", "postgres-primary", *codes)
    parallel.ok("audit", "seal")
    (first, *_) = parallel.ok("audit", "list")["entries"]
    with psycopg.connect(parallel.url) as connection:
        connection.execute("alter table audit disable trigger all")
        connection.execute(
            "update audit set \"by\" = 'eve' where id = %s", [first["id"]]
        )

    result = parallel.run("audit", "verify")
    document = parallel.run("audit", "verify", "--json").document

    assert result.code == 1
    assert first["id"] in result.out
    (problem,) = document["result"]["problems"]
    assert (problem["kind"], problem["id"]) == ("edited", first["id"])


def test_an_anchor_that_does_not_fit_is_named(parallel: Site) -> None:
    parallel.ok("audit", "seal")
    number, digest = parallel.ok("audit", "verify")["result"]["newest"]

    assert parallel.run("audit", "verify", "--anchor", f"{number}:{digest}").code == 0
    assert parallel.run("audit", "verify", "--anchor", f"{number}:{'0' * 64}").code == 1
    assert parallel.run("audit", "verify", "--anchor", "x").code == 2


def test_values_that_are_shown_are_in_the_audit_themselves(parallel: Site) -> None:
    (entry,) = parallel.ok("audit", "list")["entries"]

    parallel.ok("audit", "show", entry["id"][:20])
    assert actions(parallel) == ["switch"]
    parallel.ok("audit", "show", entry["id"], "--show-values", "--reason", "ticket 17")
    parallel.ok("audit", "list", "--show-values", "--by", "x")

    (first, second) = parallel.ok("audit", "list", "--action", "reveal")["entries"]
    assert first["values"] == {"entry": entry["id"]}
    assert first["reason"] == "ticket 17"
    assert second["values"] == {"by": "x"}


def test_an_export_has_a_line_for_each_entry(parallel: Site) -> None:
    parallel.ok("repair")

    lines = parallel.run("audit", "export").out.splitlines()
    done = parallel.ok("audit", "export", "--as", "csv", "--output", "entries.csv")
    rows = list(
        csv.DictReader(io.StringIO((parallel.path / "entries.csv").read_text()))
    )

    assert [json.loads(line)["action"] for line in lines] == ["switch", "repair"]
    assert [row["action"] for row in rows] == ["switch", "repair"]
    assert done["entries"] == 2
    assert (parallel.path / "entries.csv").stat().st_mode & 0o077 == 0
    assert parallel.run("audit", "export", "--output", "entries.csv").code == 2
    assert parallel.run("audit", "export", "--json").code == 2


def test_a_pruning_keeps_the_retention(parallel: Site) -> None:
    parallel.ok("audit", "seal")
    assert parallel.ok("audit", "prune")["result"]["entries"] == 0
    text = parallel.config.read_text()
    parallel.configure(f"{text}\n[environments.development.audit]\nkeep_days = 0\n")

    planned = parallel.ok("audit", "prune", "--dry-run")["result"]["entries"]
    done = parallel.ok("audit", "prune", "--reason", "the end")["result"]

    assert planned == done["entries"] == 1
    assert actions(parallel) == ["audit.prune"]
    assert parallel.ok("audit", "verify")["result"]["found"] == 0


def test_an_unknown_entry_and_a_wrong_time_are_refused(parallel: Site) -> None:
    assert "no audit entry" in parallel.run("audit", "show", "nothing").err
    assert parallel.run("audit", "list", "--from", "yesterday").code == 2
