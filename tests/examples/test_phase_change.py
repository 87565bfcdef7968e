"""A change of phase under load: no request fails, and nothing acknowledged is lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import pend_storage as ps
from pend_storage.config import load_settings
from pend_storage.factory import open_json, open_postgres
from pend_storage.pend import AdminLog, User
from pend_storage.phases import Phase
from tests.examples.clients import Clients
from tests.examples.servers import FASTAPI, STEPS, legacy_files, running
from tests.integration.cli.conftest import Site

FORWARD = (Phase.PARALLEL, Phase.POSTGRES_PRIMARY, Phase.POSTGRES_ONLY)
BACK = (Phase.POSTGRES_PRIMARY, Phase.PARALLEL)


def move(site: Site, phase: Phase) -> None:
    """Move one phase, by the commands that an operator gives."""
    site.ok("phase", "set", phase.value, "--accept", "backup")
    if phase is Phase.PARALLEL:
        site.ok("migrate", "json")
    if phase is not Phase.POSTGRES_ONLY:  # there, JSON rests and need not be alike
        site.ok("db", "validate")


def require_everything(store: ps.Store, clients: Clients) -> None:
    """See that a store has all that was acknowledged, and an entry for each change."""
    users = {user.phone_hash: user for user in store.collection(User).scan()}
    for phone_hash, address in clients.wallets.items():
        assert users[phone_hash].blockchain_address == address
    for phone_hash, tier in clients.tiers.items():
        assert users[phone_hash].tier == tier
    told = Counter(
        entry.resource_id
        for entry in store.collection(AdminLog).scan()
        if entry.action == "UPDATE_USER_TIER" and entry.resource_id in clients.wallets
    )
    assert told == clients.changes


@pytest.mark.slow
@pytest.mark.parametrize("server", [STEPS[3], FASTAPI], ids=lambda path: path.stem)
def test_through_all_phases_and_back_under_load(server: Path, both: Site) -> None:
    with running(server, both.config) as client:
        clients = Clients(str(client.base_url))
        with clients.at_work():
            clients.go_on()
            for phase in FORWARD + BACK:
                move(both, phase)
                assert client.get("/health").json()["phase"] == phase.value
                clients.go_on()
        assert clients.failures == []
        validated = both.ok("db", "validate")
        assert validated["result"]["records"]["found"] == 0
        both.ok("phase", "set", "json-only")

    settings = load_settings(both.config)
    with open_json(settings) as json, open_postgres(settings) as postgres:
        require_everything(json, clients)
        require_everything(postgres, clients)
    wallets = legacy_files(both.data)["wallet-db.json"]
    assert clients.wallets.items() <= wallets.items()
