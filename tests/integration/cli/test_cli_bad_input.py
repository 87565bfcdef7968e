"""Bad input: each kind has its own error and exit code, and changes nothing."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.front_door.conftest import OPENS
from tests.integration.cli.stages import without_jobs

if TYPE_CHECKING:
    from tests.integration.cli.conftest import Result, Site


def refused(result: Result, code: int, kind: str, *words: str) -> None:
    """The command ended as it should have, and said so in both ways."""
    document = result.document
    assert (result.code, document["exit_code"], document["ok"]) == (code, code, False)
    assert document["error"]["type"] == kind
    for word in words:
        assert word in document["error"]["message"]


COMMANDS = [
    ("db", "migrate"),
    ("db", "seed"),
    ("db", "validate"),
    ("db", "status"),
    ("migrate", "json"),
    ("quarantine", "list"),
    ("doctor",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_a_configuration_every_command_says_how_to_get_one(
    site: Site, command: tuple[str, ...]
) -> None:
    site.config.unlink()

    result = site.run_afresh(*command, "--json")

    refused(result, 2, "ConfigError", "pend-storage init", str(site.path))
    assert site.digest() == {}


def test_an_unknown_environment_is_named_with_those_that_there_are(site: Site) -> None:
    result = site.run("db", "status", "--env", "developmnt", "--json")

    refused(result, 2, "ConfigError", "'developmnt'; did you mean 'development'")


def test_an_unknown_phase_is_named_with_file_and_place(site: Site) -> None:
    site.configure(site.config.read_text().replace("json-only", "jason-only"))

    result = site.run("migrate", "json", "--json")

    refused(
        result, 2, "ConfigError", f"{site.config}, environments.development.phase",
        "did you mean 'json-only'",
    )  # fmt: skip


def test_an_unknown_phase_in_the_environment_is_named(site: Site) -> None:
    result = site.run("db", "seed", "--json", PEND_PHASE="off")

    refused(result, 2, "ConfigError", "PEND_PHASE", "'off'")


def test_a_schema_module_that_is_not_there_is_named(site: Site) -> None:
    site.configure(
        site.config.read_text().replace(
            'phase = "json-only"', 'phase = "json-only"\nschema = "no.such.module"'
        )
    )

    refused(
        site.run("db", "migrate", "--json"), 2, "ConfigError", "no module 'no.such.m"
    )


def test_a_schema_module_without_a_schema_is_named(site: Site) -> None:
    (site.path / "empty_module.py").write_text("")
    site.configure(
        site.config.read_text().replace(
            'phase = "json-only"', 'phase = "json-only"\nschema = "empty_module"'
        )
    )

    refused(site.run("db", "migrate", "--json"), 2, "ConfigError", "has no SCHEMA")


@pytest.mark.parametrize("command", COMMANDS[:5], ids=" ".join)
def test_a_server_that_does_not_run_is_unreachable(
    server: Site, command: tuple[str, ...]
) -> None:
    before = server.digest()
    with closed_port() as port:
        url = f"postgresql://postgres@127.0.0.1:{port}/pend"

        result = server.run(*command, "--json", PEND_DATABASE_URL=url)

    refused(result, 3, "StoreUnavailable", str(port))
    assert server.digest() == before


@pytest.mark.parametrize(
    "command", [("migrate", "json"), ("db", "status")], ids=" ".join
)
def test_a_database_that_does_not_exist_is_unreachable(
    server: Site, command: tuple[str, ...]
) -> None:
    url = server.url.replace("pend_test", "no_such")

    result = server.run(*command, "--json", PEND_DATABASE_URL=url)

    refused(result, 3, "StoreUnavailable", "no_such", "Create the database")


def test_a_user_that_the_server_does_not_know_is_refused(server: Site) -> None:
    url = server.url.replace("postgres@", "stranger@")

    result = server.run("migrate", "json", "--json", PEND_DATABASE_URL=url)

    refused(result, 3, "StoreUnavailable", "stranger", "Correct the user")


def test_a_password_is_never_shown(server: Site) -> None:
    with closed_port() as port:
        url = f"postgresql://pend:hunter2@127.0.0.1:{port}/pend"

        results = [
            server.run(*command, *more, PEND_DATABASE_URL=url)
            for command in (("db", "status"), ("migrate", "json"), ("doctor",))
            for more in ((), ("--json",))
        ]

    assert all("hunter2" not in r.out + r.err for r in results)


def test_a_server_that_is_too_old_is_refused(server: Site) -> None:
    before = server.digest()
    with old_server() as port:
        url = f"postgresql://postgres@127.0.0.1:{port}/pend?sslmode=disable"

        result = server.run("migrate", "json", "--json", PEND_DATABASE_URL=url)

    refused(result, 2, "ConfigError", "version 12", "15 or newer")
    assert server.digest() == before


def test_a_database_without_tables_asks_to_be_migrated(site: Site, sample: Any) -> None:
    shutil.copytree(sample, site.data)
    before = site.digest()

    results = [site.run(*c, "--json") for c in (("migrate", "json"), ("db", "seed"))]

    for result in results:
        refused(result, 2, "SchemaOutOfDate", "db migrate")
    assert site.digest() == before


def test_a_directory_that_is_not_there_is_named(site: Site) -> None:
    site.ok("db", "migrate")

    result = site.run("migrate", "json", "--json")

    refused(result, 2, "ConfigError", str(site.data), "does not exist")
    assert not site.data.exists()


def test_a_directory_that_is_a_file_is_named(server: Site) -> None:
    shutil.rmtree(server.data)
    server.data.write_text("not a directory")

    refused(
        server.run("migrate", "json", "--json"), 2, "ConfigError", "not a directory"
    )


def powerless(site: Site, *arguments: str) -> Result:
    """Run a command as a user to whom permissions matter, which root is not."""
    command = " ".join(site.command(*arguments))
    lost = "-dac_override,-dac_read_search"
    drop = f"setpriv --bounding-set={lost} " if os.geteuid() == 0 else ""
    return site.shell(f"exec {drop}{command}")


def test_a_file_that_may_not_be_read_is_named(server: Site) -> None:
    path = server.data / "wallet-db.json"
    path.chmod(0)

    result = powerless(server, *OPENS, "--json")

    refused(result, 2, "ConfigError", str(path), "ermission")
    assert not (server.data / ".pend-storage").exists()


def test_a_directory_that_may_not_be_written_is_named(server: Site) -> None:
    server.data.chmod(0o500)

    result = powerless(server, *OPENS, "--json")

    refused(result, 2, "ConfigError", str(server.data), "ermission")
    assert not (server.data / ".pend-storage").exists()


def test_a_configuration_that_may_not_be_read_is_named(site: Site) -> None:
    site.config.chmod(0)

    result = powerless(site, "db", "status", "--json")

    refused(result, 2, "ConfigError", str(site.config), "ermission")


def test_a_disk_that_is_full_is_unavailable(server: Site) -> None:
    before = server.rows()
    command = server.command("migrate", "json", "--json")
    size = max(p.stat().st_size for p in server.data.rglob("*.json")) // 1024

    # A limit on the size of files stands in for a full disk: writing fails half-way.
    result = server.shell(f"ulimit -f {size // 2}; exec {' '.join(command)}")

    assert result.code == 3, result.out + result.err
    assert result.document["error"]["type"] == "StoreUnavailable"
    assert "too large" in result.document["error"]["message"]
    assert not list(server.path.glob("data-backup-*"))
    assert not (server.data / ".pend-storage").exists()
    # Nothing but the record of the job, which failed, is in the database.
    assert without_jobs(server.rows()) == without_jobs(before)
    (job,) = server.ok("jobs", "list")["jobs"]
    assert (job["kind"], job["state"]) == ("backfill", "failed")
    assert "too large" in job["result"]


def test_a_directory_that_another_process_holds_is_named(server: Site) -> None:
    server.ok("migrate", "json", "--no-backup")
    path = server.data / "admin-pool-tiers.json"
    path.write_text('{"a-new-pool": 1}')
    with (server.data / ".pend-storage" / "lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        result = server.run("migrate", "json", "--no-backup", "--json")

    refused(result, 3, "LockTimeout", ".pend-storage")
    server.ok("migrate", "json", "--no-backup")


def test_a_damaged_journal_is_named_with_its_place(server: Site) -> None:
    server.ok("migrate", "json", "--no-backup")
    server.ok("quarantine", "accept", first_waiting(server), "--reason", "known")
    (journal,) = (server.data / ".pend-storage").glob("journal*")
    text = bytearray(journal.read_bytes())
    text[len(text) // 2] ^= 0xFF
    journal.write_bytes(text)
    before = server.digest()

    result = server.run("migrate", "json", "--no-backup", "--json")

    refused(result, 1, "CorruptFile", journal.name, "byte")
    assert result.document["error"]["offset"] > 0
    assert server.digest() == before


def test_a_directory_of_a_newer_version_is_refused(server: Site) -> None:
    server.ok("migrate", "json", "--no-backup")
    mark = server.data / ".pend-storage" / "format"
    mark.write_text('{"format": 999, "id": "x"}')

    result = server.run("migrate", "json", "--no-backup", "--json")

    refused(result, 2, "SchemaOutOfDate", "newer version", "999")


def test_a_database_of_a_newer_version_is_refused(site: Site, sample: Any) -> None:
    shutil.copytree(sample, site.data)
    site.ok("db", "migrate")
    site.change(
        """update store_meta set value = jsonb_set(value, '{core}', '"9999"')"""
        " where name = 'postgres.schema'"
    )
    before = site.rows(), site.digest()

    results = [
        site.run(*command, "--json")
        for command in (("db", "migrate"), ("migrate", "json"), ("db", "validate"))
    ]

    for result in results:
        refused(result, 2, "SchemaOutOfDate", "9999", "Update this program")
    assert (site.rows(), site.digest()) == before


def test_of_a_database_of_a_newer_version_nothing_is_made_up(server: Site) -> None:
    server.ok("migrate", "json", "--no-backup")
    server.change(
        """update store_meta set value = jsonb_set(value, '{core}', '"9999"')"""
        " where name = 'postgres.schema'"
    )

    told = server.run("db", "status")
    status = server.run("db", "status", "--json").document["result"]
    doctor = server.run("doctor")

    assert (told.code, doctor.code) == (1, 2)
    assert status["schema_current"] is False
    assert (status["backfill"], status["waiting"]) == (None, None)
    for made_up in ("never", "0 wait", "stands alone", "none yet"):
        assert made_up not in told.out
    assert "Update this program" in doctor.out
    assert "pend-storage db migrate" not in doctor.out


def test_a_database_that_is_primary_is_not_overwritten(server: Site) -> None:
    server.change(
        "insert into store_meta (name, value) values "
        """('role', '{"role": "primary", "epoch": 3}')"""
    )
    before = server.rows()

    result = server.run("migrate", "json", "--no-backup", "--json")

    refused(result, 2, "ConfigError", "primary at epoch 3")
    assert server.rows() == before


def test_a_database_filled_from_another_directory_is_not_mixed(server: Site) -> None:
    server.ok("migrate", "json", "--no-backup")
    shutil.rmtree(server.data / ".pend-storage")
    before = server.rows()

    result = server.run("migrate", "json", "--no-backup", "--json")

    refused(result, 2, "ConfigError", "another JSON directory")
    assert server.rows() == before
    assert not (server.data / ".pend-storage").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["frobnicate"], "there is no command"),
        (["db", "frobnicate"], "there is no command"),
        (["db", "validate", "--sample", "2"], "--sample"),
        (["db", "validate", "--sample", "many"], "--sample"),
        (["db", "seed", "--sample", "0"], "--sample"),
        (["migrate", "json", "--rate", "0"], "--rate"),
        (["migrate", "json", "--rte", "1"], "--rte"),
        (["quarantine", "retry"], "--all"),
        (["quarantine", "retry", "x", "--all"], "--all"),
        (["quarantine", "retry", "--all", "--with", "pend.toml"], "--with"),
        (["quarantine", "retry", "x", "--with", "no-such-file"], "no-such-file"),
        (["quarantine", "accept", "x"], "--reason"),
        (["quarantine", "accept", "x", "--reason", " "], "--reason"),
        (["quarantine", "show"], "ID"),
    ],
)
def test_wrong_usage_is_explained(site: Site, arguments: list[str], word: str) -> None:
    for_people = site.run(*arguments)
    for_machines = site.run(*arguments, "--json")

    assert for_people.code == 2
    assert for_people.err.startswith("error: ")
    assert word in for_people.err
    refused(for_machines, 2, "ConfigError", word)


def test_an_unknown_quarantined_record_is_named(server: Site) -> None:
    result = server.run("quarantine", "show", "zzz", "--json")

    refused(result, 2, "ConfigError", "'zzz'", "quarantine list")


def first_waiting(site: Site) -> str:
    document = site.run("quarantine", "list", "--json").document
    return str(document["records"][0]["id"])


@contextmanager
def closed_port() -> Iterator[int]:
    """A port without a listener, reserved meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextmanager
def old_server() -> Iterator[int]:
    """Something that answers as PostgreSQL 12 does when a client says hello."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_greet, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1]


def _greet(listener: socket.socket) -> None:
    def message(kind: bytes, *parts: bytes) -> bytes:
        body = b"".join(part + b"\0" for part in parts)
        return kind + (len(body) + 4).to_bytes(4, "big") + body

    facts = {b"server_version": b"12.22", b"client_encoding": b"UTF8"}
    hello = b"R" + (8).to_bytes(4, "big") + (0).to_bytes(4, "big")
    hello += b"".join(message(b"S", *fact) for fact in facts.items())
    hello += b"Z" + (5).to_bytes(4, "big") + b"I"
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(4096)
            connection.sendall(hello)
            connection.recv(4096)
