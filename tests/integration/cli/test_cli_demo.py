"""The demo: a whole migration and back under live traffic, and what it proves."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import httpx
import pytest

from pend_storage.demo._proof import count_lost
from pend_storage.demo._worker import Ledger
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The JSON document of a short demo, whose data stays, and what its console said."""
    kept = tmp_path_factory.mktemp("demo") / "kept"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = ["demo", "--json", "--users", "30", "--pace", "0.2", "--keep", str(kept)]
    command += ["--console", "--port", str(port), "--no-wait"]
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        with subprocess.Popen(
            [sys.executable, "-m", "pend_storage", *command],
            stdout=out,
            stderr=err,
            env={"PEND_DATABASE_URL": "postgresql://127.0.0.1:1/not-the-demos"},
        ) as demo:
            looks = [*looks_at(demo, f"http://127.0.0.1:{port}")]
            code = demo.wait(60)
        out.seek(0)
        err.seek(0)
        assert code == 0, f"{out.read()}\n{err.read()}"
        return {**json.loads(out.read()), "kept": kept, "looks": looks}


def looks_at(demo: subprocess.Popen[bytes], url: str) -> Iterator[Any]:
    """Snapshots of the demo's console, until the demo has ended."""
    deadline = time.monotonic() + 200
    with httpx.Client(base_url=url, timeout=30) as client:
        while demo.poll() is None:
            assert time.monotonic() < deadline, "the demo does not end"
            # It is not there before the tables are, nor after the end.
            with contextlib.suppress(httpx.TransportError):
                yield client.get("/api/v1/environment").json()
            time.sleep(0.1)


def test_the_console_follows_it_and_only_looks(shown: Any) -> None:
    looks = shown["looks"]
    phases = [look["status"]["phase"] for look in looks if look["status"] is not None]

    assert phases.index("parallel") < phases.index("postgres-primary")
    assert phases.index("postgres-primary") < len(phases) - 1
    assert all(look["read_only"] for look in looks)
    assert all(not action["allowed"] for look in looks for action in look["actions"])


def test_every_phase_is_gone_through_forward_and_back(shown: Any) -> None:
    ways = [(s["before"], s["after"]) for s in shown["result"]["switches"]]

    assert ways == [
        ("json-only", "parallel"),
        ("parallel", "postgres-primary"),
        ("postgres-primary", "postgres-only"),
        ("postgres-only", "postgres-primary"),
        ("postgres-primary", "parallel"),
        ("parallel", "json-only"),
        ("json-only", "parallel"),
        ("parallel", "postgres-primary"),
    ]


def test_nothing_is_lost_and_both_stores_are_equal(shown: Any) -> None:
    proof = shown["result"]["proof"]

    assert proof["acknowledged"] > 100
    assert proof["lost"] == proof["failed"] == proof["backward"] == 0
    assert proof["counted"] == proof["increments"] > 10
    assert proof["compared"] > 0
    assert proof["diverged"] == 0
    assert proof["stores_equal"]


def test_the_configuration_that_stays_says_where_it_ended(shown: Any) -> None:
    assert 'phase = "postgres-primary"' in (shown["kept"] / "pend.toml").read_text()


def test_each_query_of_the_server_is_answered_by_both_stores(shown: Any) -> None:
    assert shown["result"]["ok"] is True
    assert len(shown["result"]["queries"]) == 6


def test_what_was_kept_is_not_written_over(shown: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pend_storage", "demo", "--keep", str(shown["kept"])],
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2


def test_a_file_that_was_broken_is_as_it_was(shown: Any) -> None:
    assert shown["result"]["proof"]["unreadable"] == ["explorer-data/data-backup.json"]


def test_what_is_missing_or_older_than_acknowledged_is_lost(tmp_path: Path) -> None:
    store = MemoryStore(SCHEMA)
    version = store.collection(Log).put(a_log("a", "1"))
    ledger = Ledger(tmp_path / "ledger")
    ledger.record({("logs", "a"): version, ("logs", "b"): 1})
    ledger.record({("logs", "a"): version + 1})
    written = {
        (collection, key): version
        for collection, key, version in Ledger.read(tmp_path / "ledger")
    }

    assert count_lost(store, written) == 2
    assert count_lost(store, {("logs", "a"): version}) == 0


def test_a_line_that_was_torn_was_never_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_text('["logs", "a", 1]\n["logs", "b"')

    assert list(Ledger.read(path)) == [("logs", "a", 1)]
