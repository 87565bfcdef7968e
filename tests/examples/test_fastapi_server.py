"""The FastAPI server: every route, on each store, and what it answers to wrong input."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
import pytest
from psycopg import sql

import pend_storage as ps
from pend_storage.pend import AdminLog, KycApplication, UserProfile
from pend_storage.phases import Phase
from tests.examples.servers import FASTAPI, STEPS, everything, legacy_files, running
from tests.integration.cli.conftest import Site
from tests.integration.cli.stages import bring_to, phase_of

ANN: Final = f"0x{1:064x}"
WALLET: Final = {"phoneHash": ANN, "walletAddress": f"0x{1:040x}"}
PHASES: Final = [
    None,
    Phase.PARALLEL,
    *(
        pytest.param(phase, marks=pytest.mark.deep)
        for phase in Phase
        if phase is not Phase.PARALLEL
    ),
]
"""None: a directory alone, without a database. The other phases only in long runs."""


@pytest.fixture(params=PHASES, ids=lambda phase: str(phase or "no database"))
def site(request: pytest.FixtureRequest) -> Site:
    """A place in each phase; with JSON alone, ``url`` leads nowhere."""
    if request.param is None:
        config: Path = request.getfixturevalue("json_alone")
        return Site(config.parent, "")
    made: Site = request.getfixturevalue("both")
    if request.param is not Phase.JSON_ONLY:
        bring_to(made, request.param)
    return made


@pytest.fixture(scope="module")
def invented() -> Iterator[httpx.Client]:
    """A server that was started without any arguments but a port."""
    with running(FASTAPI) as client:
        yield client


def first_user(client: httpx.Client) -> str:
    files = legacy_files(Path(client.headers["X-Place"]))
    return str(next(iter(files["wallet-db.json"])))


def queue_of(files: dict[str, Any]) -> list[str]:
    """The phone hashes of the queue, as old code would find them."""
    pending = [
        (application["lastUpdated"], phone_hash)
        for phone_hash, application in files["uploads/kyc/metadata.json"].items()
        if application["verificationStatus"] == "pending_review"
    ]
    return [phone_hash for _, phone_hash in sorted(pending)]


def test_every_route(site: Site) -> None:
    before = legacy_files(site.data)
    queue = queue_of(before)
    with running(FASTAPI, site.config) as client:
        made = client.post("/users", json=WALLET)
        assert (made.status_code, made.json()["tier"]) == (201, 0)
        assert client.post("/users", json=WALLET).status_code == 409
        found = client.get(f"/users/{ANN.upper().replace('X', 'x')}")
        assert found.json() == made.json() == WALLET | {"tier": 0, "status": "active"}
        assert found.headers["ETag"] == made.headers["ETag"]
        (event,) = everything(client, f"/users/{ANN}/transactions")
        assert (event["type"], event["status"]) == ("wallet_creation", "confirmed")

        body = {"tier": 3, "reason": "asked for"}
        match = {"If-Match": made.headers["ETag"]}
        changed = client.put(f"/users/{ANN}/tier", json=body, headers=match)
        assert (changed.status_code, changed.json()["tier"]) == (200, 3)
        stale = client.put(f"/users/{ANN}/tier", json=body, headers=match)
        assert (stale.status_code, "expected version" in stale.text) == (409, True)
        assert client.get(f"/users/{ANN}").headers["ETag"] == changed.headers["ETag"]

        shown = everything(client, "/kyc/pending", limit=1)
        assert [each["phoneHash"] for each in shown] == queue
        assert len(queue) > 2
        decision = {"phoneHashes": queue[:2], "status": "verified"}
        assert client.post("/kyc/status", json=decision).json() == {"changed": 2}
        shown = everything(client, "/kyc/pending", limit=2)
        assert [each["phoneHash"] for each in shown] == queue[2:]

        health = client.get("/health").json()
        assert health["secondaryUp"] is True
        assert health["phase"] == (phase_of(site).value if site.url else "json-only")

    require_written(site, queue[:2])


def require_written(site: Site, decided: list[str]) -> None:
    """See in the files, after a rollback, that everything was written, and audited."""
    if site.url:
        site.ok("phase", "set", "json-only")
    with ps.open_store(site.config) as store:
        applications = store.collection(KycApplication)
        for phone_hash in decided:
            application = applications.get(KycApplication(phone_hash=phone_hash).id)
            assert application is not None
            assert (application.status, application.verified_by) == ("verified", "ada")
            assert application.user_id is not None
            profile = store.collection(UserProfile).get(application.user_id)
            assert profile is not None
            assert profile.kyc_status == "verified"
        entries = store.collection(AdminLog).find(ps.field("admin_id") == "ada").items
    told = sorted((each.action, each.resource_id) for each in entries)
    assert told == sorted(
        [("UPDATE_USER_TIER", ANN), *(("UPDATE_KYC_STATUS", each) for each in decided)]
    )
    assert {json.dumps(each.old_values) for each in entries} == {
        '{"tier": 0}',
        '{"status": "pending_review"}',
    }
    files = legacy_files(site.data)
    assert files["wallet-db.json"][ANN] == WALLET["walletAddress"]
    assert files["explorer-data/transactions-log.json"][0]["identityHash"] == ANN


def test_a_decision_is_made_for_all_or_for_none(invented: httpx.Client) -> None:
    before = everything(invented, "/kyc/pending")
    known = [each["phoneHash"] for each in before]

    for hashes, status, answer in (
        ([*known, ANN], "verified", 404),
        (known, "nonsense", 422),
    ):
        body = {"phoneHashes": hashes, "status": status}
        assert invented.post("/kyc/status", json=body).status_code == answer

    assert everything(invented, "/kyc/pending") == before


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", f"/users/{ANN}", None, 404),
        ("GET", "/users/nonsense", None, 422),
        ("GET", "/kyc/pending?limit=-1", None, 422),
        ("GET", "/kyc/pending?limit=many", None, 422),
        ("GET", "/kyc/pending?after=nonsense", None, 400),
        ("GET", f"/users/{ANN}/transactions?after=nonsense", None, 400),
        ("POST", "/users", {"phoneHash": ANN}, 422),
        ("POST", "/users", {**WALLET, "walletAddress": "0x12"}, 422),
        ("POST", "/users", {**WALLET, "tier": 5}, 422),
        ("POST", "/users", [], 422),
        ("PUT", f"/users/{ANN}/tier", {"tier": 3, "reason": "x"}, 404),
        ("PUT", f"/users/{ANN}/tier", {"tier": 3}, 422),
        ("PUT", f"/users/{ANN}/tier", {"tier": "high", "reason": "x"}, 422),
        ("PUT", f"/users/{ANN}/tier", {"tier": 10**30, "reason": "x"}, 404),
        ("PUT", f"/users/{ANN}/tier", {"tier": 1, "reason": "\ud800"}, 422),
        ("PUT", f"/users/{ANN}/tier", {"tier": 1, "reason": ""}, 422),
        ("PUT", f"/users/{ANN}/tier", {"tier": 1, "reason": "a", "\udfff": 1}, 422),
        ("PUT", f"/users/{ANN}/tier", {"tier": 1, "reason": "x", "admin": "bob"}, 422),
        ("POST", "/kyc/status", {"phoneHashes": [ANN] * 101, "status": "x"}, 422),
        ("GET", f"/kyc/pending?after={'x' * 2001}", None, 422),
        ("POST", "/kyc/status", {"phoneHashes": [ANN]}, 422),
        ("POST", "/kyc/status", {"phoneHashes": 5, "status": "x"}, 422),
    ],
)
def test_wrong_input(
    invented: httpx.Client, method: str, path: str, body: Any, status: int
) -> None:
    content = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    answer = invented.request(method, path, content=content, headers=headers)

    assert answer.status_code == status
    assert answer.json()["detail"]


def test_what_the_schema_refuses(invented: httpx.Client) -> None:
    path = f"/users/{first_user(invented)}/tier"

    answer = invented.put(path, json={"tier": 6, "reason": "x"})

    assert answer.status_code == 422
    assert "users.tier" in answer.json()["detail"]


def test_an_address_has_one_user(invented: httpx.Client) -> None:
    taken = invented.get(f"/users/{first_user(invented)}").json()["walletAddress"]

    answer = invented.post("/users", json=WALLET | {"walletAddress": taken})

    assert answer.status_code == 409
    assert invented.get(f"/users/{ANN}").status_code == 404


def test_a_version_that_is_none(invented: httpx.Client) -> None:
    path = f"/users/{first_user(invented)}/tier"

    answer = invented.put(
        path, json={"tier": 1, "reason": "x"}, headers={"If-Match": "recent"}
    )

    assert answer.status_code == 422


@pytest.fixture
def lock_out(both: Site, postgres_server: str) -> Iterator[Callable[[], None]]:
    """Keeps everybody out of the site's database; undone at the end."""
    with psycopg.connect(both.url) as connection:
        name = connection.info.dbname
    change = sql.SQL("alter database {} allow_connections {}")
    with psycopg.connect(postgres_server, autocommit=True) as admin:

        def lock() -> None:
            admin.execute(change.format(sql.Identifier(name), sql.SQL("false")))
            admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = %s",
                [name],
            )

        yield lock
        admin.execute(change.format(sql.Identifier(name), sql.SQL("true")))


@pytest.mark.parametrize("server", [STEPS[3], FASTAPI], ids=lambda path: path.stem)
def test_while_the_database_is_away_the_answer_is_to_try_again(
    server: Path, both: Site, lock_out: Callable[[], None]
) -> None:
    bring_to(both, Phase.POSTGRES_ONLY)

    with running(server, both.config) as client:
        client.post("/users", json=WALLET).raise_for_status()
        lock_out()
        answer = client.get(f"/users/{ANN}")
        place = psycopg.conninfo.conninfo_to_dict(both.url)

    assert answer.status_code == 503
    assert "Nothing was changed: try again." in answer.text
    assert not [each for each in place.values() if str(each) in answer.text]
    assert answer.headers["Retry-After"] == "1"
