"""Long work as other processes see it: its progress, and what they ask of it."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

import pend_storage as ps
from pend_storage._model.jobs import DEAD_AFTER
from pend_storage.factory import open_pair
from pend_storage.operations.jobs import jobs_of, open_places
from pend_storage.operations.phase import change_phase
from pend_storage.pend import SCHEMA
from pend_storage.phases import Phase
from tests.integration.cli.stages import bring_to, eventually, settings_of

if TYPE_CHECKING:
    from tests.integration.cli.conftest import Site

ASKED = ("--by", "bob", "--reason", "peak hours")
_SLOW = "20"
"""Records per second: the backfill of the sample would take about a minute."""


@contextmanager
def started(site: Site, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command at work in a process of its own; it is killed at the end."""
    process = subprocess.Popen(
        site.command(*arguments),
        cwd=site.path,
        env=site.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def jobs(site: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.ok("jobs", "list")["jobs"]
    return found


def wait_for(site: Site, state: str) -> dict[str, Any]:
    """Wait until the last job is in a state, and at work."""

    def is_there() -> bool:
        found = jobs(site)
        return bool(found) and found[-1]["state"] == state and found[-1]["total"]

    eventually(is_there)
    return jobs(site)[-1]


def records(site: Site) -> int:
    with ps.PostgresStore(SCHEMA, site.url) as database:
        return sum(database.collection(spec.name).count() for spec in SCHEMA)


@pytest.mark.slow
@pytest.mark.parametrize("is_live", [False, True])
def test_another_process_sees_pauses_and_cancels_a_migration(
    server: Site, *, is_live: bool
) -> None:
    # A pair has the record among its shared values, a fresh database has its own.
    if is_live:
        change_phase(settings_of(server), Phase.PARALLEL)
    with started(
        server, "migrate", "json", "--no-backup", "--rate", _SLOW, "--by", "ann"
    ) as migration:
        job = wait_for(server, "running")
        assert (job["kind"], job["by"]) == ("backfill", "ann")
        assert job["stage"] == "filling the database"
        assert job["process"] == migration.pid

        text = server.run("status").out
        assert job["id"] in text
        assert "waits: rate" in text

        began = time.monotonic()
        paused = server.ok("jobs", "pause", job["id"], *ASKED)["job"]
        assert (paused["state"], paused["request"]["by"]) == ("paused", "bob")
        before = records(server)
        time.sleep(0.5)
        assert records(server) == before
        assert server.ok("jobs", "resume", job["id"])["job"]["state"] == "running"
        done = server.ok("jobs", "cancel", job["id"][-6:], *ASKED)
        assert done["obeyed"]
        assert time.monotonic() - began < 30

        out, errors = migration.communicate(timeout=30)
        assert migration.returncode == 1, out + errors
        assert "was cancelled by bob (peak hours)" in errors
        assert "begin it again, and it goes on from there" in errors

    again = server.ok("migrate", "json")
    assert again["result"]["backfill"]["resumed"]
    states = [each["state"] for each in jobs(server) if each["kind"] == "backfill"]
    assert states == ["cancelled", "done"]
    shown = server.ok("jobs", "show", job["id"])["job"]
    assert shown["request"]["reason"] == "peak hours"


@pytest.mark.slow
def test_a_killed_command_has_died_when_its_reports_stop(server: Site) -> None:
    change_phase(settings_of(server), Phase.PARALLEL)
    with started(server, "migrate", "json", "--no-backup", "--rate", _SLOW) as process:
        job = wait_for(server, "running")
        process.send_signal(signal.SIGKILL)
        process.wait()
    with open_places(settings_of(server)) as places:
        (now,) = jobs_of(places, datetime.now(UTC))
        (later,) = jobs_of(places, datetime.now(UTC) + DEAD_AFTER)
    assert (now.id, later.state) == (job["id"], "died")
    assert now.state == "running"  # its last report is not old enough yet


def test_a_job_that_is_none_is_refused(server: Site) -> None:
    bring_to(server, Phase.PARALLEL)
    for verb in ("show", "pause", "resume", "cancel"):
        result = server.run("jobs", verb, "nothing")
        assert result.code == 2
        assert "there is no job 'nothing'. See: pend-storage jobs list" in result.err


def test_commands_are_jobs_with_their_author_and_reason(server: Site) -> None:
    bring_to(server, Phase.PARALLEL)
    why = ("--by", "ann", "--reason", "a look")
    server.ok("db", "validate", *why)
    server.ok("repair", *why)
    server.ok("db", "seed", *why)
    server.ok("db", "prune", *why)
    kinds = {each["kind"]: each for each in jobs(server)}
    for kind in ("validate", "repair", "seed", "prune"):
        assert kinds[kind]["state"] == "done", kind
        assert (kinds[kind]["by"], kinds[kind]["reason"]) == ("ann", "a look"), kind
        assert kinds[kind]["result"]


def test_switches_keep_who_and_why(server: Site) -> None:
    bring_to(server, Phase.PARALLEL)
    server.ok("phase", "rollback", "--by", "ann", "--reason", "a rehearsal")
    server.ok("phase", "advance", "--by", "bob")
    server.ok("rollback", "--by", "eve", "--reason", "it is on fire")
    history = server.ok("status")["result"]["details"]["history"]
    assert [(s["by"], s["reason"]) for s in history[-3:]] == [
        ("ann", "a rehearsal"),
        ("bob", None),
        ("rollback by eve", "it is on fire"),
    ]
    assert jobs(server)[-1]["kind"] == "rollback"


def test_an_election_is_in_the_history(server: Site) -> None:
    bring_to(server, Phase.PARALLEL)
    why = ("--by", "ann", "--reason", "the disk died")
    result = server.run("doctor", "--elect", "postgres", "--yes", *why)
    assert result.code in {0, 1}, result.err
    with open_pair(settings_of(server)) as pair:
        last = pair.history()[-1]
    assert (last.kind, last.by, last.reason) == ("election", "ann", "the disk died")
    assert (last.before, last.after) == (Phase.PARALLEL, Phase.POSTGRES_ONLY)


def test_commits_of_commands_keep_who_and_why(server: Site) -> None:
    bring_to(server, Phase.PARALLEL)
    waiting = server.run("quarantine", "list", "--json").document["records"]
    identity = waiting[0]["id"]
    server.ok(
        "quarantine", "accept", identity, "--by", "ann", "--reason", "known since May"
    )
    with open_pair(settings_of(server)) as pair:
        change = list(pair.changes())[-1]
    assert (change.by, change.reason) == ("ann", "known since May")


@pytest.mark.parametrize("reason", [(), ("--reason", " ")])
def test_a_decision_needs_a_reason(server: Site, reason: tuple[str, ...]) -> None:
    bring_to(server, Phase.PARALLEL)
    for group in ("quarantine", "divergences"):
        result = server.run(group, "accept", "x", *reason)
        assert result.code == 2
        assert "--reason" in result.err


# -- divergences --------------------------------------------------------------------------


@pytest.fixture
def wrong(server: Site) -> Site:
    """In the phase parallel, with one record that was changed in PostgreSQL."""
    bring_to(server, Phase.PARALLEL)
    server.change("update users set tier = 5 where id = (select min(id) from users)")
    assert server.run("db", "validate", "--no-files").code == 1
    return server


def test_divergences_are_listed_shown_and_accepted(wrong: Site) -> None:
    listed = wrong.run("divergences", "list", "--json")
    assert listed.code == 1
    (found,) = listed.document["divergences"]
    assert (found["collection"], found["kind"]) == ("users", "different")
    assert found["differences"][0]["path"] == ["tier"]
    text = wrong.run(
        "divergences", "list", "--collection", "users", "--kind", "different"
    )
    assert "1 open" in text.out
    assert wrong.run("divergences", "list", "--kind", "extra").code == 0

    hidden = wrong.run("divergences", "show", found["id"][:8])
    assert hidden.code == 1
    assert "<int" in hidden.out
    seen = wrong.run("divergences", "show", found["id"][:8], "--show-values", "--json")
    (difference,) = seen.document["divergence"]["differences"]
    assert difference["right"] == 5

    done = wrong.ok(
        "divergences", "accept", found["id"][:8], "--by", "ann", "--reason", "known"
    )
    assert done["divergences"][0]["state"] == "accepted"
    assert wrong.run("divergences", "list").code == 0
    wrong.run("db", "validate", "--no-files")
    assert wrong.run("divergences", "list").code == 0
    (kept,) = wrong.ok("divergences", "list", "--all")["divergences"]
    assert (kept["accepted"]["by"], kept["accepted"]["reason"]) == ("ann", "known")

    wrong.change("update users set tier = 4 where tier = 5")
    with ps.PostgresStore(SCHEMA, wrong.url):
        pass
    wrong.change("update users set version = version + 2 where tier = 4")
    wrong.run("db", "validate", "--no-files")
    assert wrong.run("divergences", "list").code == 1


def test_divergences_of_stores_that_are_no_pair_yet_are_refused(server: Site) -> None:
    before = server.digest()
    result = server.run("divergences", "list")
    assert result.code == 2
    assert "were not used as a pair yet" in result.err
    assert server.digest() == before


# -- numbers of the change log ------------------------------------------------------------

NUMBERED = {
    "sequence", "upto", "commit", "above", "versions", "highest",
    "primary_version", "secondary_version",
}  # fmt: skip
HIGH_EPOCH = 300


def numbers(document: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number of a document, and every member that has one of the change log."""
    if isinstance(document, dict):
        for name, member in document.items():
            if name in NUMBERED:
                members = member if isinstance(member, list) else [member]
                for each in members:
                    if not isinstance(each, dict):
                        yield f"{path}.{name}!", each
            yield from numbers(member, f"{path}.{name}")
    elif isinstance(document, list):
        for each in document:
            yield from numbers(each, path)
    elif isinstance(document, int) and not isinstance(document, bool):
        yield path, document


@pytest.mark.slow
def test_no_document_has_a_number_that_other_languages_round(server: Site) -> None:
    server.configure(
        server.config.read_text()
        + '[environments.development.backup]\nrepository = "backups"\n'
    )
    bring_to(server, Phase.PARALLEL)
    raise_epoch(server, HIGH_EPOCH)
    with open_pair(settings_of(server)) as pair:
        pair.legacy("wallet-db.json")["0x" + "ab" * 32] = "0x" + "cd" * 20
        head = pair.head()
        pair.catch_up()
    assert float(head) != head or head > 2**53  # a reader of doubles would round it
    server.change("update users set tier = 5 where id = (select min(id) from users)")
    server.run("db", "validate", "--no-files")
    made = server.ok("backup", "create")
    identity = (
        made["id"] if "id" in made else server.ok("backup", "list")["backups"][0]["id"]
    )
    seen = 0
    for arguments in (
        ("status",),
        ("doctor",),
        ("db", "status"),
        ("phase", "show"),
        ("jobs", "list"),
        ("divergences", "list"),
        ("repair", "--dry-run"),
        ("backup", "archive"),
        ("backup", "list"),
        ("backup", "show", identity),
        ("backup", "verify"),
        ("backup", "restore", "--to", "latest", "--into", "side", "--dry-run"),
        ("doctor", "--elect", "json", "--yes"),
    ):
        document = json.loads(server.run(*arguments, "--json").out)
        for path, value in numbers(document):
            if path.endswith("!"):
                assert value is None or isinstance(value, str), (arguments, path, value)
                seen += value is not None
            else:
                assert abs(value) <= 2**53, (arguments, path, value)
    assert seen > 5


def raise_epoch(site: Site, epoch: int) -> None:
    """Set both stores to a later epoch, as after that many changes of roles."""
    from dataclasses import replace

    from pend_storage.factory import open_json, open_postgres
    from pend_storage.phases import ROLE_META

    settings = settings_of(site)
    with open_json(settings) as directory, open_postgres(settings) as database:
        for store in (directory, database):
            found = store.meta(ROLE_META)
            later = replace(store.role(), epoch=epoch).to_meta()
            assert store.compare_and_set_meta(ROLE_META, found, later)
