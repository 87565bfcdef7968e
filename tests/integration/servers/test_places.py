import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

import pend_storage
from pend_storage.errors import ConfigError
from pend_storage.testing.servers import EmbeddedPostgres, EmbeddedRedis
from pend_storage.testing.servers._places import Account, server_account

ACCOUNT = server_account()
# Durability is not the subject here, and files that never were synced go quickly.
QUICK = {"fsync": "off"}
Processes = Callable[[Path], set[int]]

needs_root = pytest.mark.skipif(
    ACCOUNT is None, reason="an ordinary user runs servers himself"
)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A directory that only its owner may enter."""
    directory = tmp_path / "closed"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def shared(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another temporary directory for the system, so that nothing is left in its own.

    Returns where copies and displaced homes then go.
    """
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    yield home / f"pend-storage-{os.geteuid()}"
    monkeypatch.undo()


def modes(path: Path) -> list[int]:
    return [stat.S_IMODE(parent.stat().st_mode) for parent in path.parents]


def answers(server: EmbeddedPostgres) -> bool:
    with psycopg.connect(server.url) as connection:
        return connection.execute("select 1").fetchone() == (1,)


@needs_root
def test_a_home_that_the_servers_user_cannot_reach_is_served_from_elsewhere(
    closed: Path, shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = closed / "home"
    before = modes(home)

    with EmbeddedPostgres(home, settings=QUICK) as server:
        assert answers(server)
        server.create_database("kept")

    assert server.directory.parent == shared
    assert str(server.directory) in caplog.text
    assert (home / "elsewhere").resolve() == server.directory
    assert modes(home) == before
    with (
        EmbeddedPostgres(home, settings=QUICK) as again,
        psycopg.connect(again.url) as connection,
    ):
        found = connection.execute("select 1 from pg_database where datname = 'kept'")
        assert found.fetchone() == (1,)


@needs_root
def test_a_displaced_home_is_found_again_when_its_parents_have_been_opened(
    closed: Path, shared: Path
) -> None:
    with EmbeddedPostgres(closed / "home", settings=QUICK) as server:
        place = server.directory
    closed.chmod(0o755)

    with EmbeddedPostgres(closed / "home", settings=QUICK) as server:
        assert server.directory == place


@needs_root
def test_a_displaced_home_that_was_cleaned_away_starts_afresh(
    closed: Path, shared: Path
) -> None:
    with EmbeddedPostgres(closed / "home", settings=QUICK):
        pass
    shutil.rmtree(shared)

    with EmbeddedPostgres(closed / "home", settings=QUICK) as server:
        assert answers(server)


@needs_root
def test_a_temporary_home_elsewhere_is_removed_in_both_places(
    closed: Path, shared: Path
) -> None:
    with EmbeddedPostgres(closed / "home", settings=QUICK, temporary=True) as server:
        assert answers(server)

    assert not server.directory.exists()
    assert not server.home.exists()


@needs_root
def test_binaries_that_the_servers_user_cannot_reach_are_copied_once(
    home: Path, closed: Path, shared: Path, wheel_bindir: Path
) -> None:
    hidden = copy_wheel(wheel_bindir, closed)
    before = modes(hidden)

    def make(_: int) -> Path:
        return EmbeddedPostgres(home / "home", bindir=hidden, settings=QUICK).bindir

    with ThreadPoolExecutor(3) as threads:
        copies = set(threads.map(make, range(3)))
    (copy,) = copies
    made = (copy / "postgres").stat().st_ino

    with EmbeddedPostgres(home / "home", bindir=hidden, settings=QUICK) as server:
        assert answers(server)
    assert server.bindir == copy
    assert shared in copy.parents
    assert (copy / "postgres").stat().st_ino == made
    assert modes(hidden) == before


@needs_root
def test_a_copy_that_lost_files_is_made_again(
    home: Path, closed: Path, shared: Path, wheel_bindir: Path
) -> None:
    hidden = copy_wheel(wheel_bindir, closed)
    lost = (
        EmbeddedPostgres(home / "home", bindir=hidden, settings=QUICK).bindir / "initdb"
    )
    lost.unlink()

    EmbeddedPostgres(home / "home", bindir=hidden, settings=QUICK)

    assert lost.exists()


@needs_root
def test_a_redis_that_the_servers_user_cannot_reach_is_copied(
    home: Path, closed: Path, shared: Path, redis_binary: Path
) -> None:
    hidden = Path(shutil.copy(redis_binary, closed))

    with EmbeddedRedis(home / "home", executable=hidden) as server:
        assert shared in server.executable.parents


def test_a_path_too_long_for_a_socket_is_no_obstacle(home: Path, shared: Path) -> None:
    deep = home.joinpath(*["a directory with a long name"] * 4)

    with EmbeddedPostgres(deep, settings=QUICK) as server:
        assert answers(server)
        assert len(str(server.sockets)) < 108 < len(str(deep))

    assert not server.sockets.exists()


def test_awkward_characters_in_the_path_are_no_obstacle(
    home: Path, shared: Path
) -> None:
    with EmbeddedPostgres(home / 'a "b", %41 & ü?', settings=QUICK) as server:
        assert answers(server)


@needs_root
def test_a_shared_directory_that_somebody_else_made_first_is_refused(
    closed: Path, shared: Path
) -> None:
    assert ACCOUNT is not None
    shared.mkdir()
    os.chown(shared, *ACCOUNT.ids)

    with pytest.raises(ConfigError, match="belongs to another user"):
        EmbeddedPostgres(closed / "home", settings=QUICK).start()


@needs_root
def test_a_shared_directory_that_is_a_link_is_refused(
    closed: Path, shared: Path, tmp_path: Path
) -> None:
    shared.symlink_to(tmp_path)

    with pytest.raises(ConfigError, match="belongs to another user"):
        EmbeddedPostgres(closed / "home", settings=QUICK).start()


@needs_root
def test_a_strict_umask_does_not_displace_a_home(home: Path) -> None:
    before = os.umask(0o077)
    try:
        with EmbeddedPostgres(home / "home", settings=QUICK) as server:
            assert server.directory == server.home
    finally:
        os.umask(before)


@needs_root
def test_an_ordinary_user_runs_the_server_himself(
    home: Path, bindir: Path, processes: Processes
) -> None:
    account = server_account()
    assert account is not None
    python = reachable_python(account)
    mine = home / "mine"
    mine.mkdir()
    os.chown(mine, *account.ids)
    script = (
        "import os, pathlib, sys\n"
        "from pend_storage.testing.servers import EmbeddedPostgres\n"
        "home, bindir = map(pathlib.Path, sys.argv[1:])\n"
        "with EmbeddedPostgres(home, bindir=bindir) as server:\n"
        "    server.restart()\n"
        "    owner = (server.directory / 'data').stat().st_uid\n"
        "    print(server.version, owner == os.geteuid() != 0, flush=True)\n"
    )

    answer = subprocess.run(
        [python, "-c", script, mine / "home", bindir],
        env={"PYTHONPATH": os.pathsep.join(library_paths()), "TMPDIR": str(mine)},
        user=account.user,
        group=account.group,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )

    assert answer.stderr == ""
    assert answer.stdout.endswith(" True\n")
    assert processes(mine) == set()


def copy_wheel(bindir: Path, target: Path) -> Path:
    package = bindir.parent.parent
    for source in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(source, target / source.name, symlinks=True)
    return target / package.name / bindir.parent.name / bindir.name


def library_paths() -> list[str]:
    return [str(Path(pend_storage.__path__[0]).parent), sysconfig.get_path("purelib")]


def reachable_python(account: Account) -> str:
    """An interpreter of this version, with our packages, that the account can run."""
    name = "python{}.{}".format(*sys.version_info)
    candidates = [Path(sys.executable), Path("/usr/bin") / name]
    for candidate in candidates:
        if account.can_reach(candidate) and all(
            account.can_reach(Path(path)) for path in library_paths()
        ):
            return str(candidate)
    pytest.skip(f"{account.name} can run no {name} with these packages")
