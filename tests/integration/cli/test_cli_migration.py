"""The four commands on a fresh database, and everything around them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pend_storage as ps
from pend_storage.pend import SCHEMA, UserProfile
from pend_storage.validation._exact_json_compare import unequal
from tests.integration.cli.stages import without_jobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.cli.conftest import Site

_LOG = "explorer-data/transactions-log.json"


def accounts(document: Any) -> dict[str, tuple[int, int, int, int]]:
    return {
        f["file"]: (f["read"], f["written"], f["unchanged"], f["quarantined"])
        for f in document["result"]["files"]
    }


def test_the_four_commands_work_in_a_shell_in_exactly_that_order(
    site: Site, sample: Path
) -> None:
    subprocess.run(["cp", "-a", str(sample), str(site.data)], check=True)
    name = " ".join(site.command())
    script = (
        f"{name} db migrate && {name} db seed && {name} migrate json && "
        f"{name} db validate"
    )

    done = site.shell(script)

    assert done.code == 0, done.out + done.err
    assert "clean: " in done.out


def test_every_record_is_accounted_for_and_validates(server: Site) -> None:
    migrated = server.ok("migrate", "json")
    validated = server.ok("db", "validate")

    files = accounts(migrated)
    assert len(files) == 16
    assert all(read == written + q for read, written, _, q in files.values())
    assert files["wallet-db.json"][0] >= 40
    assert migrated["waiting"] == sum(q for *_, q in files.values()) > 5
    assert validated["result"]["records"]["found"] == 0
    assert {f["result"] for f in validated["result"]["files"]} <= {"identical", "equal"}
    assert len(validated["result"]["files"]) == 16


def test_a_second_run_changes_nothing(server: Site) -> None:
    first = accounts(server.ok("migrate", "json", "--no-backup"))
    before, files = server.rows(), server.digest()

    second = accounts(server.ok("migrate", "json", "--no-backup"))

    assert without_jobs(server.rows()) == without_jobs(before)
    assert {n: d for n, d in server.digest().items() if ".pend-storage" not in n} == {
        n: d for n, d in files.items() if ".pend-storage" not in n
    }
    assert second == {
        name: (read, 0, written, q) for name, (read, written, _, q) in first.items()
    }


def test_the_legacy_files_stay_as_they_are(server: Site, sample: Path) -> None:
    server.ok("migrate", "json")

    for path in sample.rglob("*.json"):
        kept = server.data / path.relative_to(sample)
        assert kept.read_bytes() == path.read_bytes(), kept


def test_the_copy_is_complete_and_its_manifest_true(server: Site) -> None:
    before = {n: d for n, d in server.digest().items() if n.startswith("data/")}

    document = server.ok("migrate", "json")

    copy = Path(document["result"]["backup"]["path"])
    manifest = json.loads((copy / "manifest.json").read_text())
    assert copy.parent == server.path
    assert {n: e["sha256"] for n, e in manifest["files"].items()} == before
    assert all((copy / name).is_file() for name in before)


def test_the_copy_may_go_elsewhere_or_be_left_out(server: Site) -> None:
    place = server.path / "copies" / "here"

    first = server.ok("migrate", "json", "--backup-to", str(place))
    second = server.ok("migrate", "json", "--no-backup")

    assert Path(first["result"]["backup"]["path"]).parent == place
    assert second["result"]["backup"] is None
    assert not list(server.path.glob("data-backup-*"))


def test_what_old_code_changes_in_a_file_is_migrated_next_time(server: Site) -> None:
    server.ok("migrate", "json", "--no-backup")
    path = server.data / "admin-pool-tiers.json"
    tiers = json.loads(path.read_text())
    path.write_text(json.dumps({**tiers, "new-pool": 3}, indent=2))

    document = server.ok("migrate", "json", "--no-backup")

    assert accounts(document)["admin-pool-tiers.json"] == (5, 1, 4, 0)
    server.ok("db", "validate")


def test_strict_tells_quarantine_by_the_exit_code(server: Site) -> None:
    result = server.run("migrate", "json", "--strict", "--json")

    assert result.code == 1
    assert result.document["waiting"] > 0
    assert result.document["adds_up"] is True


def test_a_rate_slows_it_down(server: Site) -> None:
    document = server.ok("migrate", "json", "--rate", "400")

    filled = document["result"]["backfill"]
    assert filled["seconds"] >= filled["rows"] / 400 * 0.8


DIVERGENCES = {
    "different": (
        "update users set tier = tier + 1 where id = (select min(id) from users)",
        "users",
        "different",
    ),
    "missing": (
        "delete from admin_logs where id = (select max(id) from admin_logs)",
        "admin_logs",
        "missing",
    ),
    "json": (
        "update documents set body = 'true' where id = (select min(id) from documents)",
        "documents",
        "different",
    ),
}


@pytest.mark.parametrize(
    ("statement", "collection", "kind"), DIVERGENCES.values(), ids=[*DIVERGENCES]
)
def test_a_change_behind_the_library_is_found(
    server: Site, statement: str, collection: str, kind: str
) -> None:
    server.ok("migrate", "json", "--no-backup")
    server.change(statement)

    result = server.run("db", "validate", "--json")

    assert result.code == 1
    records = result.document["result"]["records"]
    assert records["found"] == 1
    assert records["divergences"][0]["collection"] == collection
    assert records["divergences"][0]["kind"] == kind


def test_a_divergence_is_shown_to_people_field_by_field(server: Site) -> None:
    server.ok("migrate", "json", "--no-backup")
    server.change("update assets set title = 'another' where legacy_position = 0")

    result = server.run("db", "validate")

    assert result.code == 1
    assert "title: " in result.out
    assert "'another'" in result.out
    assert "not equal: 1 records and 1 files diverge" in result.out


def test_a_sample_is_quicker_and_finds_missing_records(server: Site) -> None:
    server.ok("migrate", "json", "--no-backup")
    part = server.ok("db", "validate", "--sample", "0.2", "--no-files")
    server.change("delete from documents where id = (select min(id) from documents)")

    result = server.run("db", "validate", "--sample", "0", "--no-files", "--json")

    whole = server.run("db", "validate", "--json").document["result"]["records"]
    assert 0 < part["result"]["records"]["checked"] < whole["checked"] / 2
    assert result.code == 1


def test_status_says_when_it_is_ready(server: Site) -> None:
    server.ok("db", "seed")
    before = server.run("db", "status", "--json")
    server.ok("migrate", "json", "--no-backup")
    after = server.ok("db", "status")

    assert before.code == 1
    assert before.document["result"]["backfill"] == "never"
    assert after["result"]["backfill"] == "complete"
    assert after["result"]["environment"] == "development"
    assert after["result"]["records"]["users"] > 30
    assert "PostgreSQL" in server.run("db", "status").out


def test_seed_is_repeatable_and_marks_the_environment(server: Site) -> None:
    first = server.ok("db", "seed")
    again = server.ok("db", "seed")
    server.configure(
        server.config.read_text().replace("environments.development", "environments.x")
    )

    other = server.run("db", "seed", "--env", "x", "--json")

    assert first["result"]["changed"] == ["environment development"]
    assert again["result"]["changed"] == []
    assert other.code == 2
    assert (
        "belongs to the environment 'development'"
        in (other.document["error"]["message"])
    )


def test_in_the_phase_parallel_the_database_follows(server: Site) -> None:
    seeded = server.ok("db", "seed", PEND_PHASE="parallel")
    migrated = server.ok("migrate", "json", PEND_PHASE="parallel")
    server.ok("db", "validate", PEND_PHASE="parallel")

    assert seeded["result"]["role"] == {"role": "secondary", "epoch": 0}
    assert migrated["result"]["backfill"]["written"] > 100


def test_a_sample_of_invented_data_goes_into_an_empty_directory_only(
    site: Site,
) -> None:
    site.ok("db", "migrate")

    made = site.ok("db", "seed", "--sample", "5")
    again = site.run("db", "seed", "--sample", "5", "--json")

    assert made["result"]["sample"]["users"] == 5
    assert (site.data / "wallet-db.json").exists()
    assert again.code == 2
    assert "is not empty" in again.document["error"]["message"]


def test_a_schema_of_ones_own_is_seeded_and_migrated(site: Site) -> None:
    (site.path / "shop.py").write_text(
        "from dataclasses import dataclass\n"
        "import pend_storage as ps\n"
        "@dataclass(frozen=True)\n"
        "class Item:\n"
        "    id: str\n"
        "    price: int = 0\n"
        "SCHEMA = ps.Schema([ps.collection('items', Item)])\n"
        "SEED = [Item('first', 1), Item('second', 2)]\n"
    )
    site.configure(
        site.config.read_text().replace(
            'phase = "json-only"', 'phase = "json-only"\nschema = "shop"'
        )
    )
    site.data.mkdir()
    site.ok("db", "migrate")
    site.ok("db", "seed")

    migrated = site.ok("migrate", "json")

    assert migrated["result"]["backfill"]["rows"] == 2
    site.ok("db", "validate")


def test_a_file_that_lies_elsewhere_is_migrated_and_copied(
    server: Site,
) -> None:
    elsewhere = server.path / "wallets.json"
    (server.data / "wallet-db.json").rename(elsewhere)
    text = server.config.read_text().replace(
        'directory = "data"',
        'directory = "data"\nfiles = { "wallet-db.json" = "wallets.json" }',
    )
    server.configure(text)

    document = server.ok("migrate", "json")
    server.ok("db", "validate")

    copy = Path(document["result"]["backup"]["path"])
    assert (copy / "outside" / "wallet-db.json").read_bytes() == elsewhere.read_bytes()
    assert accounts(document)["wallet-db.json"][0] >= 40


def test_files_that_no_layout_knows_are_told_and_left_alone(server: Site) -> None:
    strange = server.data / "strange.json"
    strange.write_text("{not json")

    document = server.ok("migrate", "json")

    assert document["result"]["unclaimed"] == [str(strange)]
    assert strange.read_text() == "{not json"


def test_a_half_written_file_is_quarantined_whole_and_can_be_repaired(
    server: Site,
) -> None:
    path = server.data / _LOG
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    result = server.run("migrate", "json", "--no-backup", "--json")
    assert result.code == 1
    migrated = result.document
    assert [file["file"] for file in migrated["result"]["broken"]] == [_LOG]
    server.ok("db", "validate")
    found = server.run("quarantine", "list", "--file", _LOG, "--json").document
    repaired = server.path / "repaired.json"
    repaired.write_bytes(whole)

    retried = server.run(
        "quarantine", "retry", found["records"][0]["id"], "--with", str(repaired),
        "--json",
    )  # fmt: skip

    assert accounts(migrated)[_LOG] == (1, 0, 0, 1)
    assert retried.document["results"][0]["placed"] is True
    assert list(unequal(path.read_bytes(), whole)) == []
    after = server.ok("migrate", "json", "--no-backup")
    read, written, _, quarantined = accounts(after)[_LOG]
    assert read == written + quarantined >= 160
    server.ok("db", "validate")


def test_a_repaired_file_of_users_brings_what_other_files_tell_of_them(
    server: Site, make_site: Callable[[Path], Site], tmp_path: Path
) -> None:
    (tmp_path / "sound").mkdir()
    sound = make_site(tmp_path / "sound")
    path = server.data / "wallet-db.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    for site, code in ((sound, 0), (server, 1)):
        site.ok("db", "migrate")
        assert site.run("migrate", "json", "--no-backup").code == code
    assert server.rows()["user_profiles"] == []
    (broken,) = server.run(
        "quarantine", "list", "--file", path.name, "--json"
    ).document["records"]
    repaired = server.path / "repaired.json"
    repaired.write_bytes(whole)

    server.run("quarantine", "retry", broken["id"], "--with", str(repaired))

    server.ok("migrate", "json", "--no-backup")
    server.ok("db", "validate")
    assert profiles(server) == profiles(sound)


def profiles(site: Site) -> list[object]:
    with ps.PostgresStore(SCHEMA, site.url) as database:
        return list(database.collection(UserProfile).scan())
