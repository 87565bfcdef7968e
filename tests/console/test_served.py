"""The console as a server: probes of a PostgreSQL that hangs, streams, and the command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

import pend_storage as ps
from pend_storage import crashpoints
from pend_storage.config import Settings
from pend_storage.console import Console
from pend_storage.factory import open_pair, open_postgres
from pend_storage.phases import Phase
from pend_storage.testing.domain import Log
from pend_storage.testing.servers import EmbeddedPostgres, temporary_postgres
from tests.console.conftest import configure, served
from tests.integration.cli.conftest import clean_environment

pytestmark = pytest.mark.timeout(300)


# -- a server that hangs ------------------------------------------------------------------


@pytest.fixture(scope="module")
def private() -> Iterator[EmbeddedPostgres]:
    """PostgreSQL of this module alone, which may be stopped."""
    with temporary_postgres(settings={"fsync": "off"}) as server:
        yield server


@contextmanager
def stopped(server: EmbeddedPostgres) -> Iterator[None]:
    """Stop every process of a server, as a machine that hangs does."""
    [file] = server.home.rglob("postmaster.pid")
    postmaster = int(file.read_text().splitlines()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text()
    pids = [postmaster, *map(int, children.split())]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def environment(tmp_path: Path, server: EmbeddedPostgres, phase: Phase) -> Settings:
    name = f"health_{phase.position}_{time.monotonic_ns()}"
    settings = configure(tmp_path, url=server.create_database(name))
    with open_postgres(settings) as database:
        database.migrate()
    with open_pair(settings) as pair:
        for step in Phase:
            if 0 < step.position <= phase.position:
                pair.switch(step, accept=("validation", "backup"))
                pair.backfill()
    return settings


def timed(url: str) -> tuple[int, float, dict[str, Any]]:
    started = time.monotonic()
    answer = httpx.get(url, timeout=20)
    return answer.status_code, time.monotonic() - started, answer.json()


def until(url: str, code: int, seconds: float = 60.0) -> dict[str, Any]:
    """Ask until an answer has a code."""
    end = time.monotonic() + seconds
    while True:
        found, _, document = timed(url)
        if found == code:
            return document
        assert time.monotonic() < end, (url, found, document)
        time.sleep(0.1)


def test_a_primary_that_hangs_is_not_ready_and_the_process_is_live(
    tmp_path: Path, private: EmbeddedPostgres, make: Callable[..., Console]
) -> None:
    settings = environment(tmp_path, private, Phase.POSTGRES_PRIMARY)
    with served(make(settings)) as url:
        assert until(f"{url}/readyz", 200)["ok"]
        with stopped(private):
            time.sleep(1.1)  # the answer of before is kept for a second
            codes = [timed(f"{url}/readyz") for _ in range(3)]
            alive, took, _ = timed(f"{url}/livez")
            full = until(f"{url}/readyz?verbose", 503)
        assert [code for code, _, _ in codes] == [503] * 3
        assert max(seconds for _, seconds, _ in codes) < 5  # the deadline is 1.4
        assert alive == 200
        assert took < 2  # 50 ms, on a machine that does nothing else
        assert "PostgreSQL is primary, or may be" in full["sentence"]
        assert until(f"{url}/readyz", 200)["ok"]


def test_a_secondary_that_hangs_leaves_the_primary_ready(
    tmp_path: Path, private: EmbeddedPostgres, make: Callable[..., Console]
) -> None:
    settings = environment(tmp_path, private, Phase.PARALLEL)
    with served(make(settings)) as url:
        assert until(f"{url}/readyz", 200)["ok"]
        with stopped(private):
            time.sleep(1.1)
            for _ in range(3):
                code, took, _ = timed(f"{url}/readyz")
                assert code == 200
                assert took < 5
            checks = timed(f"{url}/api/v1/health")[2]["checks"]
        found = {check["name"]: check["ok"] for check in checks}
        assert found == {"primary": True, "json": True, "postgres": False}


def test_a_store_of_a_server_says_so_within_the_deadline(
    tmp_path: Path, private: EmbeddedPostgres
) -> None:
    settings = environment(tmp_path, private, Phase.PARALLEL)
    with ps.open_store(settings.file, environment="production") as store:
        assert store.health().ready
        with stopped(private):
            started = time.monotonic()
            found = store.health(deadline=0.5)
            took = time.monotonic() - started
        assert found.ready
        assert [check.ok for check in found.checks] == [True, True, False]
        assert took < 5
        end = time.monotonic() + 60
        while not all(check.ok for check in store.health().checks):
            assert time.monotonic() < end


def test_during_a_switch_the_environment_stays_ready(
    paired: Settings, make: Callable[..., Console]
) -> None:
    with open_pair(paired) as pair:
        pair.switch(Phase.PARALLEL)
        pair.backfill()
        held, go_on = threading.Event(), threading.Event()

        def hold(name: str) -> None:
            if name == "switch.fenced":
                held.set()
                go_on.wait(60)

        with crashpoints.handled(hold), served(make(paired)) as url:
            switch = threading.Thread(
                target=pair.switch,
                args=(Phase.POSTGRES_PRIMARY,),
                kwargs={"accept": ("validation", "backup")},
            )
            switch.start()
            try:
                assert held.wait(30)
                found = until(f"{url}/readyz?verbose", 200)
                assert "a switch is under way" in found["checks"][0]["sentence"]
            finally:
                go_on.set()
                switch.join(30)
            assert until(f"{url}/readyz?verbose", 200)["ok"]


# -- streams ------------------------------------------------------------------------------


def events(lines: Iterator[str], count: int) -> list[dict[str, str]]:
    """Read server-sent events."""
    found: list[dict[str, str]] = [{}]
    for line in lines:
        name, separator, value = line.partition(": ")
        if not line and found[-1]:
            if len(found) == count:
                return found
            found.append({})
        elif separator and name:
            found[-1][name] = value
    return found


def test_a_page_follows_whole_snapshots_and_begins_anew_after_a_cut(
    lonely: Settings, make: Callable[..., Console]
) -> None:
    with served(make(lonely)) as url:
        numbers: list[int] = []
        for _ in range(2):
            with httpx.stream("GET", f"{url}/api/v1/stream", timeout=20) as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
                for event in events(stream.iter_lines(), 2):
                    document = json.loads(event["data"])
                    assert event["event"] == "snapshot"
                    assert document["version"] == 1
                    assert document["id"] == event["id"]
                    assert document["verdict"]["level"]
                    numbers.append(int(event["id"]))
        assert numbers == sorted(numbers)


def test_many_pages_cost_no_statement_more_than_one(
    lonely: Settings, make: Callable[..., Console]
) -> None:
    app = make(lonely)
    with served(app) as url:
        with httpx.Client(timeout=20, base_url=url) as client:
            streams = [client.stream("GET", "/api/v1/stream") for _ in range(8)]
            opened = [stream.__enter__() for stream in streams]
            lines = [answer.iter_lines() for answer in opened]
            before = app.site.poller.looks
            for one in lines:
                assert events(one, 3)
            looks = app.site.poller.looks - before
            for stream in streams:
                stream.__exit__(None, None, None)
        assert looks <= 8


def test_the_feed_sends_keys_without_values_and_goes_on_after_a_number(
    paired: Settings, make: Callable[..., Console]
) -> None:
    with (
        ps.open_store(paired.file, environment="production") as store,
        served(make(paired)) as url,
    ):
        logs = store.collection(Log)
        with store.acting(by="ann", reason="a test"):
            logs.put(Log(id="a/b\n\u202e", text="secret value"))
        for number in range(3):
            logs.put(Log(id=f"log-{number}", text="secret value"))
        logs.delete("log-1")
        address = f"{url}/api/v1/changes?after=0"
        with httpx.stream("GET", address, timeout=20) as stream:
            found = events(stream.iter_lines(), 5)
        changes = [json.loads(event["data"]) for event in found]
        assert "secret value" not in str(found)
        assert changes[0]["by"] == "ann"
        assert [change["records"][0]["deleted"] for change in changes] == [
            False, False, False, False, True,
        ]  # fmt: skip
        assert all(isinstance(change["sequence"], str) for change in changes)
        headers = {"Last-Event-ID": found[2]["id"]}
        with httpx.stream(
            "GET", f"{url}/api/v1/changes", headers=headers, timeout=20
        ) as stream:
            assert [e["id"] for e in events(stream.iter_lines(), 2)] == [
                event["id"] for event in found[3:]
            ]
        with httpx.stream("GET", f"{url}/api/v1/changes", timeout=20) as stream:
            lines = stream.iter_lines()
            wait_for_position(make, stream)
            logs.put(Log(id="new", text=""))
            [event] = events(lines, 1)
            assert json.loads(event["data"])["records"][0]["key"] == "new"


def wait_for_position(make: Any, stream: Any) -> None:
    """Give the hub the time to know the end of the log."""
    del make, stream
    time.sleep(2)


@pytest.mark.parametrize("after", ["x", "-1", "9" * 30, "1e3"])
def test_a_number_that_is_none_is_refused(
    after: str, lonely: Settings, make: Callable[..., Console]
) -> None:
    with served(make(lonely)) as url:
        answer = httpx.get(f"{url}/api/v1/changes?after={after}", timeout=20)

    assert answer.status_code == 422


# -- the command --------------------------------------------------------------------------


def command(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pend_storage", *arguments, "--env", "production"],
        cwd=folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_serves_until_it_is_ended(lonely: Settings) -> None:
    assert lonely.file is not None
    process = command("console", "--listen", "127.0.0.1:0", folder=lonely.file.parent)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("production: http://127.0.0.1:"), line
        url = line.split()[-1].rstrip("/")
        assert httpx.get(f"{url}/livez", timeout=20).status_code == 200
        with httpx.stream("GET", f"{url}/api/v1/stream", timeout=20) as stream:
            assert events(stream.iter_lines(), 1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("host", ["0.0.0.0:0", "[::]:0"])
def test_the_command_refuses_other_machines_without_a_login(
    host: str, lonely: Settings
) -> None:
    assert lonely.file is not None
    process = command("console", "--listen", host, folder=lonely.file.parent)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 2
    assert out == ""
    assert "no login was chosen" in err


def test_a_port_that_is_taken_is_a_sentence(lonely: Settings) -> None:
    assert lonely.file is not None
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        process = command("console", "--listen", place, folder=lonely.file.parent)
        _, err = process.communicate(timeout=60)

    assert process.returncode == 3
    assert f"{place}: the console cannot listen there" in err


HEALTH: Final = ("health", "--json")


def test_the_command_health_has_an_exit_code_for_probes(lonely: Settings) -> None:
    assert lonely.file is not None
    folder = lonely.file.parent
    found = {}
    for options in ((), ("--ready",)):
        process = command(*HEALTH, *options, folder=folder)
        out, _ = process.communicate(timeout=60)
        found[options] = (process.returncode, json.loads(out)["ready"])

    assert found == {(): (1, True), ("--ready",): (0, True)}


def test_the_command_health_fails_without_the_primary(tmp_path: Path) -> None:
    settings = configure(tmp_path)
    assert settings.json is not None
    settings.json.directory.rmdir()

    process = command("health", "--ready", folder=tmp_path)
    out, _ = process.communicate(timeout=60)

    assert process.returncode == 3
    assert "JSON" in out
