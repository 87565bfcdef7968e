"""Commands under the database roles of ``db grants``."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pend_storage.pend import SCHEMA
from pend_storage.phases import Phase
from tests.integration.cli.conftest import Site
from tests.integration.cli.stages import bring_to, settings_of
from tests.security.database_roles import RoleSet, new_roles

pytestmark = pytest.mark.timeout(300)

OWNER = "pend_owner"


@pytest.fixture(scope="module")
def roles(postgres_server: str) -> Iterator[RoleSet]:
    with new_roles(postgres_server) as made:
        yield made


def names(roles: RoleSet) -> list[str]:
    own = roles.roles
    return [
        *("--owner", own.owner, "--application", own.application),
        *("--reader", own.reader, "--archiver", own.archiver),
    ]


@pytest.fixture
def granted(server: Site, roles: RoleSet) -> Site:
    """A site in the phase parallel, whose database has the grants."""
    bring_to(server, Phase.PARALLEL)
    roles.grant(server.url, SCHEMA)
    return server


def test_the_sql_of_the_command_gives_what_its_check_wants(
    server: Site, roles: RoleSet
) -> None:
    roles.grant(server.url, SCHEMA)
    server.change("grant update on changes to public")
    before = server.run("db", "grants", "--check", *names(roles))
    assert before.code == 1
    assert "table changes: has update" in before.out

    shown = server.run("db", "grants", *names(roles), PEND_DATABASE_URL="")
    assert shown.code == 0
    server.change(shown.out)  # all statements at once, as psql sends a file

    after = server.run("db", "grants", "--check", *names(roles), "--json")
    assert (after.code, after.document["result"]["problems"]) == (0, [])


def test_the_sql_is_shown_without_a_database(tmp_path: Path) -> None:
    site = Site(tmp_path, "")
    site.configure('[environments.development.json]\ndirectory = "data"\n')

    found = site.run("db", "grants", "--schema", "pend_storage.pend", "--json")

    assert found.code == 0
    statements = found.document["result"]["statements"]
    assert (statements[0], statements[-1]) == ("begin", "commit")
    assert any(f'owner to "{OWNER}"' in statement for statement in statements)
    assert site.run("db", "grants", "--check").code == 2
    twice = site.run("db", "grants", "--owner", "a", "--reader", "a")
    assert (twice.code, "same name" in twice.err) == (2, True)


LOOKING = (
    ["status"],
    ["doctor"],
    ["db", "status"],
    ["db", "validate", "--no-files"],
    ["phase", "show"],
    ["phase", "advance", "--dry-run"],
    ["quarantine", "list"],
    ["repair", "--dry-run"],
    ["migrate", "json", "--dry-run"],
)


def test_every_command_that_looks_works_for_a_role_that_reads(
    granted: Site, roles: RoleSet
) -> None:
    before = granted.rows()
    failed = []
    for command in LOOKING:
        # The archiver may do what the reader may.
        role = "archiver" if command in LOOKING[:2] else "reader"
        mine = {"PEND_DATABASE_URL": roles.url(granted.url, role)}
        found = granted.run(*command, "--json", **mine)
        if found.code > 1 or "denied" in found.out + found.err:
            failed.append((command, found.code, found.out[:600] + found.err[:600]))

    assert not failed
    assert granted.rows() == before


def test_the_application_does_the_work_of_a_server(
    granted: Site, roles: RoleSet
) -> None:
    mine = {"PEND_DATABASE_URL": roles.url(granted.url, "application")}
    for command in (
        ["db", "migrate"],
        ["db", "seed"],
        ["migrate", "json", "--no-backup"],
        ["db", "validate"],
        ["phase", "set", "postgres-primary", "--accept", "quarantine"],
        ["phase", "set", "parallel"],
        ["repair"],
        ["quarantine", "retry", "--all"],
        ["doctor"],
        ["status"],
        ["rollback"],
    ):
        found = granted.run(*command, **mine)

        assert found.code in {0, 1}, (command, found.out + found.err)
        assert "denied" not in found.out + found.err, (command, found.out + found.err)
    assert "prune" in granted.run("db", "prune", **mine).err


def test_the_archiver_prunes_what_is_old_and_applied(
    granted: Site, roles: RoleSet
) -> None:
    settings = settings_of(granted)
    assert settings.postgres is not None
    granted.configure(
        granted.config.read_text()
        + "\n[environments.development.dual_write]\nretention_days = 0\n"
    )
    with psycopg.connect(granted.url) as connection:
        before = connection.execute("select count(*) from changes").fetchone()
    assert before is not None

    archiver = {"PEND_DATABASE_URL": roles.url(granted.url, "archiver")}
    done = granted.run("db", "prune", "--json", **archiver)

    assert done.code == 0, done.out + done.err
    pruned = json.loads(done.out)["result"]["pruned"]
    with psycopg.connect(granted.url) as connection:
        after = connection.execute("select count(*) from changes").fetchone()
    assert after == (before[0] - pruned,)


def test_the_relay_works_under_the_application_role(
    granted: Site, roles: RoleSet
) -> None:
    from pend_storage.testing.fork_server import fork_server

    process = fork_server().start(
        "pend_storage.cli.main:main",
        ["relay"],
        descriptors=[0, 1, 2],
        environment=granted.environment(
            PEND_DATABASE_URL=roles.url(granted.url, "application")
        ),
        directory=str(granted.path),
        path=[str(granted.path)],
    )
    try:
        assert granted.run("status", "--json").code in {0, 1}
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()


def test_a_command_of_an_administrator_runs_no_function_of_a_stranger(
    server: Site,
) -> None:
    planted = [
        ("has_table_privilege", "text, text, text", "boolean"),
        ("has_schema_privilege", "text, text, text", "boolean"),
        ("has_database_privilege", "text, text, text", "boolean"),
        ("has_function_privilege", "text, oid, text", "boolean"),
        ("to_regclass", "varchar", "regclass"),
        ("to_regnamespace", "varchar", "regnamespace"),
        ("quote_ident", "varchar", "text"),
    ]
    server.change("create table seen (who text)")
    try:
        for name, arguments, result in planted:
            server.change(
                f"create function {name}({arguments}) returns {result} language plpgsql "
                f"as $f$ begin insert into seen values ('{name}'); return null; end $f$"
            )
        for command in (("db", "grants", "--check"), ("doctor",), ("db", "status")):
            server.run(*command)
        with psycopg.connect(server.url) as connection:
            assert connection.execute("select who from seen").fetchall() == []
    finally:
        for name, arguments, _ in planted:
            server.change(f"drop function if exists {name}({arguments})")
        server.change("drop table seen")
