"""Killing ``migrate json`` at any moment, and calling it again."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.integration.cli.conftest import Site


def contents(site: Site) -> dict[str, Any]:
    """Every record and its version, as the JSON store and the database have them."""
    import pend_storage as ps
    from pend_storage.pend import LAYOUTS, SCHEMA
    from pend_storage.records import QuarantinedRecord

    def plain(record: Any) -> Any:
        # When a record was first seen is a fact of the run, not of the data.
        if isinstance(record, QuarantinedRecord):
            return (record.id, record.file, record.place, record.position, record.raw)
        return record

    with (
        ps.PostgresStore(SCHEMA, site.url) as database,
        ps.JsonStore(SCHEMA, site.data, layouts=LAYOUTS) as directory,
    ):
        sides = {"database": database, "directory": directory}
        return {
            f"{side}/{spec.name}": [
                (row.key, row.version, plain(row.record))
                for row in store.scan(spec.name, deleted=True)
            ]
            for side, store in sides.items()
            for spec in SCHEMA
        }


def kill_after(site: Site, seconds: float, *arguments: str) -> int:
    """Start a command, and end it by SIGKILL after a while; its exit code."""
    process = subprocess.Popen(
        site.command(*arguments),
        cwd=site.path,
        env=site.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def die_at(site: Site, point: str, *arguments: str) -> None:
    """Run a command that kills itself when it passes a point."""
    result = site.run(*arguments, PEND_CRASH_POINT=point)
    assert result.code == -9, result.out + result.err


@dataclass(frozen=True)
class Reference:
    """Result and duration of an undisturbed migration."""

    contents: dict[str, Any]
    seconds: float


@pytest.fixture(scope="session")
def undisturbed(make_site: Callable[[Path], Site], tmp_path_factory: Any) -> Reference:
    site = make_site(tmp_path_factory.mktemp("undisturbed"))
    site.ok("db", "migrate")
    started = time.monotonic()
    site.ok("migrate", "json")
    return Reference(contents(site), time.monotonic() - started)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_random_moments_and_repeated_it_gives_the_same_database(
    server: Site, undisturbed: Reference
) -> None:
    rng = random.Random(7)
    killed = 0

    for _ in range(8):
        moment = rng.uniform(0.1, 1) * undisturbed.seconds
        killed += kill_after(server, moment, "migrate", "json") == -9

    document = server.ok("migrate", "json")
    assert killed > 0
    assert document["adds_up"] is True
    assert contents(server) == undisturbed.contents
    server.ok("db", "validate")


POINTS = [
    "migrate.copied",
    "json.adopted",
    "json.adoption-in-place",
    "migrate.adopted",
    "backfill.chunk",
    "backfill.chunk:3",
    "backfill.chunk:7",
    "backfill.complete",
]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point_and_repeated_it_gives_the_same_database(
    server: Site, undisturbed: Reference, point: str
) -> None:
    die_at(server, point, "migrate", "json")

    document = server.ok("migrate", "json")

    assert document["adds_up"] is True
    assert document["waiting"] > 0
    assert contents(server) == undisturbed.contents
    assert not list(server.path.glob("*.partial"))


def test_the_copy_of_an_interrupted_migration_is_used_again(server: Site) -> None:
    die_at(server, "migrate.adopted", "migrate", "json")
    copies = sorted(server.path.glob("data-backup-*"))

    document = server.ok("migrate", "json")

    assert sorted(server.path.glob("data-backup-*")) == copies
    assert document["result"]["reused_backup"] == str(copies[0])
    assert document["result"]["backfill"]["written"] > 100


def test_a_copy_that_was_damaged_meanwhile_is_not_used_again(server: Site) -> None:
    die_at(server, "migrate.adopted", "migrate", "json")
    (copy,) = server.path.glob("data-backup-*")
    (copy / "data" / "wallet-db.json").write_bytes(b"{}")

    document = server.ok("migrate", "json")

    assert document["result"]["reused_backup"] is None
    assert document["result"]["backup"]["path"] != str(copy)


def test_what_an_interrupted_copy_left_is_removed(server: Site) -> None:
    left = server.path / "data-backup-20200101T000000Z.partial"
    (left / "data").mkdir(parents=True)

    server.ok("migrate", "json")

    assert not left.exists()


def test_a_continued_backfill_writes_only_what_is_missing(server: Site) -> None:
    die_at(server, "backfill.chunk:4", "migrate", "json")

    document = server.ok("migrate", "json")

    filled = document["result"]["backfill"]
    assert filled["resumed"] is True
    assert filled["unchanged"] > 0
    assert filled["written"] + filled["unchanged"] == filled["rows"]
