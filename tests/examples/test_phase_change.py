"""A change of phase under load: no request fails, and nothing acknowledged is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

import pend_storage as ps
from pend_storage.config import load_settings
from pend_storage.factory import open_json, open_postgres
from pend_storage.pend import AdminLog, User
from pend_storage.phases import Phase, Role
from tests.examples.clients import Clients
from tests.examples.servers import FASTAPI, STEPS, as_admin, legacy_files, running
from tests.integration.cli.conftest import Site

FORWARD = (Phase.PARALLEL, Phase.POSTGRES_PRIMARY, Phase.POSTGRES_ONLY)
BACK = (Phase.POSTGRES_PRIMARY, Phase.PARALLEL)


def by_commands(site: Site, phase: Phase) -> None:
    """Move one phase as an operator does."""
    site.ok("phase", "set", phase.value, "--accept", "backup")
    if phase is Phase.PARALLEL:
        site.ok("migrate", "json")
    if phase.json_role is not Role.DETACHED:
        site.ok("db", "validate")  # asked for before the next phase


def by_code(site: Site, phase: Phase) -> None:
    """Move one phase in this process, which is none of the server's."""
    with ps.open_store(site.config) as store:
        assert isinstance(store, ps.DualWriteStore)
        store.switch(phase, accept=["backup"])
        if phase is Phase.PARALLEL:
            store.backfill()
        if phase.json_role is not Role.DETACHED:
            assert store.validate().ok


def require_everything(store: ps.Store, clients: Clients) -> None:
    """See that a store has all that was acknowledged, and an entry for each change."""
    users = {user.phone_hash: user for user in store.collection(User).scan()}
    for phone_hash, address in clients.wallets.items():
        assert users[phone_hash].blockchain_address == address
    for phone_hash, tier in clients.tiers.items():
        assert users[phone_hash].tier == tier
    assert told_changes(store, clients) == clients.changes


def told_changes(store: ps.Store, clients: Clients) -> Counter[str]:
    """Count audit entries by the phone hash of the clients' users."""
    return Counter(
        entry.resource_id
        for entry in store.collection(AdminLog).scan()
        if entry.action == "UPDATE_USER_TIER" and entry.resource_id in clients.wallets
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("server", "move"),
    [(STEPS[3], by_code), (FASTAPI, by_commands)],
    ids=["flask", "fastapi"],
)
def test_through_all_phases_and_back_under_load(
    server: Path, move: Callable[[Site, Phase], None], both: Site
) -> None:
    with running(server, both.config) as client:
        clients = Clients(str(client.base_url))
        with clients.at_work():
            clients.go_on()
            for phase in FORWARD + BACK:
                move(both, phase)
                assert client.get("/health").json()["phase"] == phase.value
                clients.go_on()
        assert clients.failures == []
        both.ok("db", "validate")
        both.ok("phase", "set", "json-only")
        assert client.get("/health").json()["phase"] == "json-only"

    settings = load_settings(both.config)
    with open_json(settings) as json, open_postgres(settings) as postgres:
        require_everything(json, clients)
        require_everything(postgres, clients)
    wallets = legacy_files(both.data)["wallet-db.json"]
    assert clients.wallets.items() <= wallets.items()


@pytest.mark.parametrize("server", [STEPS[3], FASTAPI], ids=["flask", "fastapi"])
def test_changes_of_one_user_at_once_are_all_made(
    server: Path, json_alone: Path
) -> None:
    (user, *_) = legacy_files(json_alone.parent / "data")["wallet-db.json"]

    def change(url: str) -> list[int]:
        body = {"tier": 2, "reason": "all at once"}
        with httpx.Client(base_url=url, timeout=60, headers=as_admin()) as client:
            answers = [client.put(f"/users/{user}/tier", json=body) for _ in range(20)]
        return [answer.status_code for answer in answers]

    with running(server, json_alone) as client, ThreadPoolExecutor(3) as pool:
        statuses = [*pool.map(change, [str(client.base_url)] * 3)]

    assert statuses == [[httpx.codes.OK] * 20] * 3
    with ps.open_store(json_alone) as store:
        entries = store.collection(AdminLog).find(ps.field("resource_id") == user).items
    assert len([each for each in entries if each.admin_id == "ada"]) == 60


@pytest.mark.parametrize("server", [STEPS[3], FASTAPI], ids=["flask", "fastapi"])
def test_a_server_that_is_told_to_end_under_load_has_kept_what_it_acknowledged(
    server: Path, json_alone: Path
) -> None:
    with ExitStack() as work:
        with running(server, json_alone) as client:
            clients = Clients(str(client.base_url))
            work.enter_context(clients.at_work())
            clients.go_on()
        wallets = legacy_files(json_alone.parent / "data")["wallet-db.json"]

    assert clients.wallets.items() <= wallets.items()
    with ps.open_store(json_alone) as store:
        assert clients.changes <= told_changes(store, clients)
