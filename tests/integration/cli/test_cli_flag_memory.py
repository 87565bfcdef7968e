"""A Redis that went back in time or lost its data, and servers that are restarted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from pend_storage.dualwrite import CODES
from pend_storage.flags import RedisFlag
from pend_storage.flags.redis import default_key
from pend_storage.phases import Phase
from pend_storage.testing.servers import EmbeddedRedis, temporary_redis
from tests.integration.cli.stages import bring_to, phase_of

if TYPE_CHECKING:
    from tests.integration.cli.conftest import Site

J, PAR, PG, P = Phase
KEY = default_key("development")
ACCEPT = [word for code in CODES for word in ("--accept", code)]

_SERVER = """
import sys
import pend_storage as ps

with ps.open_store("pend.toml", hook=lambda e: print(e.name, e.message, flush=True)):
    sys.stdin.read()
"""


class Server:
    """A process that follows the flag, and prints its events."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def tells(self, name: str) -> str:
        """The next event of this name."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(f"{name} "):
                return line
        raise AssertionError(f"it ended without {name}")


@contextmanager
def started(site: Site, url: str) -> Iterator[Server]:
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        cwd=site.path,
        env=site.environment(PEND_REDIS_URL=url),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Server(process)
            process.communicate(timeout=60)
            assert process.returncode == 0
        finally:
            process.kill()


def dump_of(server: EmbeddedRedis) -> Path:
    with redis.Redis.from_url(server.url) as admin:
        admin.save()
        return Path(admin.config_get("dir")["dir"]) / "dump.rdb"


def restore(server: EmbeddedRedis, path: Path, dump: bytes) -> None:
    server.kill()
    path.write_bytes(dump)
    server.start()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_restart_moves_the_phase_after_redis_was_restored_or_flushed(
    server: Site,
) -> None:
    bring_to(server, PAR)
    text = server.config.read_text().replace(
        'phase = "parallel"', 'phase = "json-only"'
    )
    server.configure(text.replace("phase =", "auto_switch = true\nphase ="))
    with temporary_redis() as kept, redis.Redis.from_url(kept.url) as hand:
        where = {"PEND_REDIS_URL": kept.url}
        RedisFlag(kept.url, KEY).write(PAR, by="a test")
        path = dump_of(kept)
        dump = path.read_bytes()
        moved = server.ok("phase", "set", "postgres-primary", *ACCEPT, **where)
        assert moved["phase"] == "postgres-primary"

        restore(kept, path, dump)
        with started(server, kept.url) as restarted:
            told = restarted.tells("flag-unknown")
        shown = server.run("phase", "show", "--json", **where).document
        assert "version 1, and version 2 ('postgres-primary') was followed last" in told
        assert "version 2 ('postgres-primary')" in shown["flag"]["problem"]
        assert (shown["phase"], shown["wanted"]) == ("postgres-primary", None)

        hand.flushall()
        with started(server, kept.url) as restarted:
            told = restarted.tells("flag-unknown")
            assert "is gone, and version 2 ('postgres-primary')" in told
            assert "version 2" in server.run("doctor", **where).out
            assert phase_of(server, **where) is PG

            done = server.ok("phase", "set", "parallel", **where)  # the way to go on

            restarted.tells("flag-back")
        assert done["phase"] == "parallel"
        value = json.loads(str(hand.get(KEY), "utf-8"))
        assert (value["phase"], value["version"]) == ("parallel", 3)
        assert 'phase = "json-only"' in server.config.read_text()
        assert phase_of(server, **where) is PAR


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_emergency_procedure_writes_above_what_was_followed(server: Site) -> None:
    bring_to(server, PAR)
    with temporary_redis() as kept, redis.Redis.from_url(kept.url) as hand:
        where = {"PEND_REDIS_URL": kept.url}
        hand.set(KEY, json.dumps({"phase": "json-only", "version": 6}))
        server.ok("phase", "set", "postgres-primary", *ACCEPT, **where)
        hand.flushall()

        server.ok("rollback", "--quick", **where)

        value = json.loads(str(hand.get(KEY), "utf-8"))
        assert (value["phase"], value["version"]) == ("json-only", 8)
