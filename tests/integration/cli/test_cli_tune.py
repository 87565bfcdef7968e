"""Knobs on the command line: other processes follow them while they work."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.cli.conftest import Site

PATIENCE = 60.0
COPY = """
import sys, time
import pend_storage as ps
from pend_storage.pend import AdminLog

def a_log(number):
    return AdminLog(id=f"{number:08x}-0000-0000-0000-000000000000", action="look")

with ps.open_store(create=True) as store:
    if store.phase == "json-only":
        for start in range(0, 4_000, 500):
            store.collection("admin_logs").put_many(
                [a_log(n) for n in range(start, start + 500)]
            )
        store.switch("parallel", accept=("validation", "quarantine", "backup"))
    print("begun", flush=True)
    report = store.backfill(
        rate=float(sys.argv[1]), progress=lambda done, total: print(done, flush=True)
    )
    print("done", flush=True)
"""


class Copying:
    """Another process, in the middle of a backfill."""

    def __init__(self, site: Site, rate: float) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-c", COPY, str(rate)],
            cwd=site.path,
            env=site.environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())

    @property
    def done(self) -> int:
        return int(next((n for n in reversed(self.lines) if n.isdigit()), 0))

    def wait(self, what: str) -> None:
        """Wait until it has written a line."""
        deadline = time.monotonic() + PATIENCE
        while what not in self.lines:
            assert time.monotonic() < deadline, f"no {what!r} in {self.lines[-3:]}"
            assert self.process.poll() is None or what in self.lines, "it has ended"
            time.sleep(0.02)

    def wait_for_records(self) -> None:
        """Wait until it has copied some."""
        deadline = time.monotonic() + PATIENCE
        while not self.done:
            assert time.monotonic() < deadline, "it copies nothing"
            time.sleep(0.02)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def copying(server: Site) -> Iterator[Any]:
    """Begins backfills of other processes; ends them with the test."""
    begun: list[Copying] = []

    def begin(rate: float) -> Copying:
        begun.append(Copying(server, rate))
        return begun[-1]

    yield begin
    for each in begun:
        each.kill()


def test_the_rate_of_a_backfill_in_another_process_follows_and_survives_a_restart(
    server: Site, copying: Any
) -> None:
    first = copying(200.0)  # a hundred records each half second
    first.wait("begun")
    first.wait_for_records()

    server.ok(
        "tune", "backfill.rate", "0", "--by", "ann", "--reason", "the disk is busy"
    )
    # In 2 seconds, and the one chunk that was under way.
    time.sleep(2.5)
    paused_at = first.done
    time.sleep(1.5)
    assert first.done == paused_at
    first.kill()

    second = copying(1.0)  # by which it would take an hour
    second.wait("begun")
    server.ok("tune", "backfill.rate", "1000000")
    second.wait("done")
    assert second.done >= 4_000


def test_the_list_has_values_actors_and_the_configuration(server: Site) -> None:
    server.ok("tune", "dual_write.compare", "0.5", "--by", "ann", "--reason", "a look")
    server.ok("tune", "dual_write.compare.users", "1")

    listed = {knob["name"]: knob for knob in server.ok("tune")["knobs"]}
    text = server.run("tune").out

    compare = listed["dual_write.compare"]
    assert (compare["value"], compare["configured"]) == (0.5, 0.05)
    assert (compare["by"], compare["reason"]) == ("ann", "a look")
    assert listed["dual_write.compare.users"]["value"] == 1
    assert listed["dual_write.compare.users"]["by"]
    assert listed["backfill.rate"]["value"] is None
    assert "a look" in text
    assert "no limit" in text


def test_a_reset_knob_is_that_of_the_configuration(server: Site) -> None:
    server.ok("tune", "dual_write.compare", "0.5")

    done = server.ok("tune", "dual_write.compare", "--reset", "--reason", "done")

    assert done["knob"]["value"] == 0.05
    assert not done["knob"]["is_set"]
    (listed,) = server.ok("tune", "dual_write.compare")["knobs"]
    assert (listed["value"], listed["reason"]) == (0.05, "done")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dual_write.compare", "2"], "from 0 to 1"),
        (["dual_write.comapre", "1"], "did you mean 'dual_write.compare'"),
        (["dual_write.compare.user", "1"], "did you mean 'dual_write.compare.users'"),
        (["relay.batch"], None),
        (["relay.bacht"], "did you mean 'relay.batch'"),
        (["--reset"], "--reset takes the name"),
        (["relay.batch", "5", "--reset"], "--reset takes the name"),
        (["relay.batch", "many"], "many"),
    ],
)
def test_what_cannot_be_is_a_wrong_usage_with_a_suggestion(
    server: Site, arguments: list[str], message: str | None
) -> None:
    result = server.run("tune", *arguments)

    assert result.code == (0 if message is None else 2), result.err
    assert message is None or message in result.err


def test_an_environment_with_one_store_has_no_knobs(server: Site) -> None:
    server.configure(
        '[environments.development]\n[environments.development.json]\ndirectory = "data"\n'
    )

    result = server.run("tune")

    assert result.code == 2
    assert "database" in result.err
