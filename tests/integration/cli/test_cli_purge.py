"""A person's records are deleted and purged: nothing holds them any more."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import psycopg
import pytest

import pend_storage as ps
from pend_storage._model.audit import AuditEntry
from pend_storage.factory import open_pair
from pend_storage.pend import KycApplication, User, UserProfile
from pend_storage.records import QuarantinedRecord
from pend_storage.testing.servers._discovery import find_postgres
from tests.ages import age
from tests.integration.cli.stages import settings_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.cli.conftest import Site

HASH = "0x" + "deadbeef" * 8
OTHER = "0x" + "ab" * 32
PHOTO = "Passport-of-Jane-Roe.jpg"
WALLETS = "wallet-db.json"
KYC = "uploads/kyc/metadata.json"
NAME = "J\u00e4ne R\u00f6e"


def spellings(text: str) -> set[bytes]:
    raw = {text.encode(), json.dumps(text)[1:-1].encode()}
    for form in tuple(raw):
        for shift in range(3):
            code = base64.b64encode(b"x" * shift + form).rstrip(b"=")
            raw.add(code[4:-4])
    return raw


TRACES = {form for text in ("deadbeef" * 4, PHOTO, NAME) for form in spellings(text)}


def traces(raw: bytes) -> list[bytes]:
    return [form for form in TRACES if form in raw]


def in_files(path: Path) -> dict[str, list[bytes]]:
    files = [p for p in path.rglob("*") if p.is_file() and p.name != "pend.toml"]
    found = {str(p.relative_to(path)): traces(p.read_bytes()) for p in files}
    return {name: what for name, what in found.items() if what}


def in_database(url: str) -> dict[str, list[bytes]]:
    """What a dump of all tables holds: each row as text, with bytea as it was."""
    found: dict[str, list[bytes]] = {}
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "select tablename from pg_tables where schemaname = 'public'"
        ).fetchall()
        for (table,) in tables:
            with connection.cursor().copy(
                f'copy "{table}" to stdout'.encode()
            ) as copied:
                text = b"".join(bytes(block) for block in copied)
            for blob in [text, *hex_values(text)]:
                if what := traces(blob):
                    found[table] = what
    if what := traces(dump_of(url)):
        found["pg_dump"] = what
    return found


def dump_of(url: str) -> bytes:
    """A dump of the whole database as SQL text, by PostgreSQL's own tool."""
    done = subprocess.run(
        [find_postgres() / "pg_dump", "--dbname", url], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def hex_values(text: bytes) -> Iterator[bytes]:
    for part in text.split(b"\\\\x")[1:]:
        digits = part.split(b"\t")[0].split(b"\n")[0]
        yield bytes.fromhex(digits.decode())


def write(site: Site, name: str, value: Any) -> None:
    path = site.data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    age(path)


def kyc(name: str) -> dict[str, Any]:
    return {
        "verificationStatus": "pending_review",
        "documents": {"front": {"filename": name}},
        "lastUpdated": "2025-01-01T00:00:00.000Z",
    }


@pytest.fixture
def jane(server: Site) -> Site:
    """A site with the records of two people in its legacy files."""
    wallets = {HASH: "0x" + "11" * 20, OTHER: "0x" + "22" * 20}
    write(server, WALLETS, wallets)
    write(server, KYC, {HASH: kyc(PHOTO), OTHER: kyc("other.jpg")})
    for name in ("explorer-data", "explorer-data/transactions-log.json"):
        path = server.data / name
        if path.is_file():
            path.unlink()
    return server


def open_store(site: Site) -> Any:
    return ps.open_store(site.config)


def commits_behind(site: Site) -> int:
    """Commits that the secondary lags by, without a relay that would apply them."""
    with open_pair(settings_of(site)) as pair:
        commits = pair.lag().commits
        assert pair.collection(AuditEntry).find(ps.field("action") == "purge").items
    return commits


def live(site: Site, phase: ps.Phase) -> dict[str, list[str]]:
    """Use the store in a phase, leave traces everywhere, delete the person's records."""
    with open_store(site) as store:
        user = store.collection(User).get_by("phone_hash", HASH)
        assert user is not None
        store.switch(phase, accept=ps.dualwrite.CODES)
        users, profiles = store.collection(User), store.collection(UserProfile)
        users.put(replace(user, tier=2, metadata={"name": NAME}))
        profile = profiles.get(user.id)
        if profile is not None:
            profiles.put(replace(profile, metadata={"name": NAME}))
        for application in list(store.collection(KycApplication).scan()):
            if application.user_id == user.id:
                changed = replace(application, extra={"note": NAME})
                store.collection(KycApplication).put(changed)
        store.catch_up()
        applications = [
            a.id
            for a in store.collection(KycApplication).scan()
            if a.user_id == user.id
        ]
        for key in applications:
            store.collection(KycApplication).delete(key)
        if profiles.get(user.id) is not None:
            profiles.delete(user.id)
        users.delete(user.id)
    return {
        "kyc_applications": applications,
        "user_profiles": [user.id],
        "users": [user.id],
    }


@pytest.mark.parametrize("phase", [ps.Phase.PARALLEL, ps.Phase.POSTGRES_PRIMARY])
def test_nothing_holds_a_purged_person(jane: Site, phase: ps.Phase) -> None:
    jane.ok("migrate", "json", "--no-backup")
    keys = live(jane, phase)
    own = jane.data / ".pend-storage"
    (own / "kept").mkdir(exist_ok=True)
    (own / "kept" / f"{WALLETS}-1").write_text(json.dumps({HASH: "0x1"}))
    (own / "torn-00000001-5-1").write_bytes(f'{{"effects": ["{HASH}"'.encode())
    assert in_files(jane.data)
    applications, user = keys["kyc_applications"], *keys["users"]

    early = jane.run("purge", "users", user, "--yes", "--json")
    # The JSON store drops its log whole; that of PostgreSQL loses what was named.
    assert early.code == (phase is ps.Phase.POSTGRES_PRIMARY), early.out
    if early.code:
        place = f"kyc_applications[{applications[0]!r}]"
        held = early.document["result"]["held"]
        assert {"kind": "change log", "place": place} in held
    jane.ok("purge", "kyc_applications", *applications, "--yes")
    jane.ok("purge", "users", user, "--yes")

    assert commits_behind(jane) == 0
    assert in_files(jane.data) == {}
    assert in_database(jane.url) == {}
    assert user.encode() not in b"".join(
        p.read_bytes() for p in jane.data.rglob("*") if p.is_file()
    )
    with open_store(jane) as store:
        assert store.collection(User).get_by("phone_hash", OTHER) is not None
        assert store.validate().ok
    jane.ok("db", "validate")


def test_a_person_in_quarantine_and_in_a_copy_is_found(jane: Site) -> None:
    text = (jane.data / WALLETS).read_text()
    twice = text.replace("{", f'{{"{HASH}": "0x{"33" * 20}", ', 1)
    (jane.data / WALLETS).write_text(twice)
    age(jane.data / WALLETS)
    jane.ok("migrate", "json")
    (copy,) = jane.path.glob("data-backup-*")
    with open_store(jane) as store:
        store.switch(ps.Phase.PARALLEL, accept=ps.dualwrite.CODES)
        user = store.collection(User).get_by("phone_hash", HASH)
        (aside,) = (
            store.collection(QuarantinedRecord)
            .find(ps.field("place") == HASH, ps.field("file") == WALLETS)
            .items
        )
    with open_store(jane) as store:
        for a in [*store.collection(KycApplication).scan()]:
            if a.user_id == user.id:
                store.collection(KycApplication).delete(a.id)
        store.collection(UserProfile).delete(user.id)

    refused = jane.run("purge", "users", user.id, "--yes", "--json")
    before = (jane.digest(), jane.rows())
    planned = jane.run("purge", "users", user.id, "--delete", "--dry-run", "--json")
    assert (jane.digest(), jane.rows()) == before
    done = jane.run("purge", "users", user.id, "--delete", "--yes", "--json")

    assert refused.code == 2
    assert "--delete" in refused.document["error"]["message"]
    for result in (planned, done):
        assert result.code == 1
        assert aside.id in result.document["result"]["quarantined"]
    assert done.document["result"]["held"] == [{"kind": "backup", "place": str(copy)}]
    assert in_files(jane.data) == {}
    assert in_database(jane.url) == {}
    shutil.rmtree(copy)
    jane.ok("purge", "users", user.id, "--yes")


def test_what_is_purged_is_asked_for_and_named_one_way(server: Site) -> None:
    for arguments in (
        ("users", "k"),
        ("users", "--yes"),
        ("--yes",),
        ("users", "k", "--deleted", "--yes"),
        ("users", "--older", "30d", "--yes"),
        ("--older", "a while", "--yes"),
        ("nothing", "k", "--yes"),
    ):
        result = server.run("purge", *arguments, "--json")
        assert result.code == 2, (arguments, result.out)


@pytest.mark.parametrize("phase", [ps.Phase.JSON_ONLY, ps.Phase.POSTGRES_ONLY])
def test_a_detached_store_that_holds_the_person_is_named(
    jane: Site, phase: ps.Phase
) -> None:
    jane.ok("migrate", "json", "--no-backup")
    with open_store(jane) as store:
        user = store.collection(User).get_by("phone_hash", HASH)
        store.switch(phase, accept=ps.dualwrite.CODES)
        for a in [*store.collection(KycApplication).scan()]:
            if a.user_id == user.id:
                store.collection(KycApplication).delete(a.id)
        store.collection(UserProfile).delete(user.id)

    result = jane.run("purge", "users", user.id, "--delete", "--yes", "--json")

    assert result.code == 1
    held = result.document["result"]["held"]
    assert "store" in [holder["kind"] for holder in held]
    inside = in_database(jane.url) if phase is ps.Phase.JSON_ONLY else {}
    inside |= in_files(jane.data) if phase is ps.Phase.POSTGRES_ONLY else {}
    assert inside  # the tombstone of the primary will delete it there
    with open_store(jane) as store:
        primary = store.stores[phase is ps.Phase.POSTGRES_ONLY]
        assert primary.read("users", [user.id], deleted=True)[user.id].record is None


def test_without_a_privilege_nothing_is_done(jane: Site) -> None:
    jane.ok("migrate", "json", "--no-backup")
    with open_store(jane) as store:
        store.switch(ps.Phase.PARALLEL, accept=ps.dualwrite.CODES)
        user = store.collection(User).get_by("phone_hash", OTHER)
    jane.change(
        "create role purger login; grant select, insert, update, delete on all tables "
        "in schema public to purger; revoke update on changes from purger; "
        "grant execute on all functions in schema public to purger"
    )
    url = jane.url.replace("postgres@", "purger@")
    try:
        before = jane.rows()
        result = jane.run(
            "purge",
            "users",
            user.id,
            "--delete",
            "--yes",
            "--json",
            PEND_DATABASE_URL=url,
        )
        assert jane.rows() == before
    finally:
        jane.change("drop owned by purger; drop role purger")
    assert result.code == 2, result.out
    assert "UPDATE on changes" in result.document["error"]["message"]


def test_what_is_older_goes_and_what_waits_stays(jane: Site) -> None:
    jane.ok("migrate", "json", "--no-backup")
    now = datetime.now(UTC)
    with open_store(jane) as store:
        store.switch(ps.Phase.PARALLEL, accept=ps.dualwrite.CODES)
        aside = store.collection(QuarantinedRecord)
        rows: list[tuple[str, Literal["accepted", "waiting"], int]] = [
            ("old", "accepted", 9),
            ("young", "accepted", 0),
            ("waits", "waiting", 9),
        ]
        for name, status, days in rows:
            aside.put(
                QuarantinedRecord(
                    id=name,
                    file=f"{WALLETS}#edit",
                    place=HASH,
                    raw=b'"0x1"',
                    code="edited",
                    reason="overruled",
                    status=status,
                    seen_at=now - timedelta(days=days),
                )
            )
    kept = jane.data / ".pend-storage" / "kept"
    kept.mkdir()
    for name, days in (("old-1", 9), ("young-1", 0)):
        (kept / name).write_text(HASH)
        at = (now - timedelta(days=days)).timestamp()
        os.utime(kept / name, (at, at))

    planned = jane.run("purge", "--older", "7d", "--dry-run", "--json")
    assert (kept / "old-1").exists()
    done = jane.ok("purge", "--older", "7d", "--yes")

    assert planned.code == 0
    assert planned.document["result"]["files"] == done["result"]["files"]
    assert done["result"]["quarantined"] == ["old"]
    assert [path.name for path in kept.iterdir()] == ["young-1"]
    assert commits_behind(jane) == 0
    with open_store(jane) as store:
        left = {r.id for r in store.collection(QuarantinedRecord).scan()}
        assert {"young", "waits"} <= left
        assert "old" not in left
