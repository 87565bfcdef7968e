"""The commands where a legacy file is broken as a whole: all name it, until it is settled."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.cli.conftest import Result, Site

FILE = "wallet-db.json"


def broken(result: Result) -> Any:
    (found,) = result.document["result"]["broken"]
    return found


@pytest.fixture
def wallets(server: Site) -> str:
    """The wallets in UTF-16; gives what they should be."""
    path = server.data / FILE
    text = path.read_text()
    path.write_text(text, encoding="utf-16")
    return text


def test_every_command_names_a_broken_file_until_it_is_repaired(
    server: Site, wallets: str
) -> None:
    server.ok("db", "seed")

    migrated = server.run("migrate", "json", "--no-backup", "--json")
    alone = server.run("status", "--json")
    assert server.run("phase", "set", "parallel", "--json").code == 0
    pair = server.run("status", "--json")
    refused = server.run("phase", "set", "postgres-primary", "--json")
    again = server.run("doctor")

    for result in (migrated, alone, pair):
        assert result.code == 1
        assert broken(result)["file"] == FILE
        assert broken(result)["unread"] is True
        assert "UTF-16" in broken(result)["reason"]
    assert again.code == refused.code == 1
    assert broken(pair)["id"] in again.out.replace("\n", "")
    assert FILE in again.out
    assert FILE in refused.out

    (server.data / FILE).write_text(wallets)
    assert server.run("migrate", "json", "--no-backup", "--json").code == 0
    assert server.run("doctor").code == 0


def test_an_accepted_file_is_named_no_longer(server: Site, wallets: str) -> None:
    found = broken(server.run("migrate", "json", "--no-backup", "--json"))

    server.ok("quarantine", "accept", found["id"], "--reason", "the users are lost")

    assert server.ok("status")["result"]["broken"] == []
    assert (server.data / FILE).read_text() != wallets
