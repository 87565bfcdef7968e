import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from pend_storage.errors import StoreUnavailable
from pend_storage.testing.servers import EmbeddedPostgres, temporary_postgres
from pend_storage.testing.servers._places import server_account

Begin = Callable[..., subprocess.Popen[str]]
Holder = Callable[[Path], int]
Processes = Callable[[Path], set[int]]
Eventually = Callable[[Callable[[], object]], None]

# Durability is not the subject of most tests, and files never synced go quickly.
QUICK = {"fsync": "off"}
SERVER = server_account()


def ask(url: str, question: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(question.encode()).fetchone()
    assert row is not None
    return row[0]


def write(url: str, value: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("create table if not exists t (n integer)")
        connection.execute("insert into t values (%s)", [value])


def test_three_processes_starting_one_home_at_once_share_one_postmaster(
    home: Path, bindir: Path, begin: Begin, processes: Processes
) -> None:
    users = [
        begin("EmbeddedPostgres", home, settings=QUICK, bindir=bindir) for _ in range(3)
    ]

    answers = [user.stdout.readline() for user in users if user.stdout is not None]

    assert answers == ["ready\n"] * 3
    assert (home / "server.log").read_text().count("starting PostgreSQL") == 1
    for user in users:
        user.communicate()
    assert [user.returncode for user in users] == [0, 0, 0]
    assert processes(home) == set()


def test_kill_9_of_one_user_does_not_stop_the_others(
    home: Path, bindir: Path, join: Begin
) -> None:
    starter = join("EmbeddedPostgres", home, settings=QUICK, bindir=bindir)
    with (
        EmbeddedPostgres(home, settings=QUICK, bindir=bindir) as server,
        psycopg.connect(server.url, autocommit=True) as connection,
    ):
        before = connection.info.backend_pid

        starter.kill()
        starter.wait()
        # Had the server begun to stop, it would refuse a new connection.
        answer = ask(server.url, "select 1")
        same = connection.execute("select pg_backend_pid()").fetchone()

    assert answer == 1
    assert same == (before,)


def test_kill_9_of_the_only_user_leaves_no_process(
    home: Path,
    bindir: Path,
    join: Begin,
    processes: Processes,
    eventually: Eventually,
) -> None:
    user = join("EmbeddedPostgres", home, settings=QUICK, bindir=bindir)
    assert len(processes(home)) > 3

    user.kill()
    user.wait()

    eventually(lambda: not processes(home))


def test_kill_9_of_every_user_at_once_leaves_no_process(
    home: Path, join: Begin, processes: Processes, eventually: Eventually
) -> None:
    users = [join("EmbeddedPostgres", home, settings=QUICK) for _ in range(3)]

    for user in users:
        user.kill()

    for user in users:
        user.wait()
    eventually(lambda: not processes(home))


def test_kill_9_of_user_and_keeper_leaves_no_process(
    home: Path,
    join: Begin,
    processes: Processes,
    holder: Holder,
    eventually: Eventually,
) -> None:
    user = join("EmbeddedPostgres", home, settings=QUICK)

    os.kill(holder(home / "keeper.lock"), signal.SIGKILL)
    user.kill()
    user.wait()

    eventually(lambda: not processes(home))


def test_after_kill_9_of_the_server_start_brings_it_back_with_its_data(
    home: Path, bindir: Path, holder: Holder
) -> None:
    with EmbeddedPostgres(home, bindir=bindir) as server:
        write(server.url, 7)

        os.kill(holder(home / "server.lock"), signal.SIGKILL)
        server.start()

        assert ask(server.url, "select n from t") == 7


def test_a_pid_file_that_names_a_strangers_process_is_no_obstacle(
    home: Path,
) -> None:
    with EmbeddedPostgres(home, settings=QUICK) as server:
        write(server.url, 7)
        pid_file = home / "data" / "postmaster.pid"
        left_behind = pid_file.read_text()
    _, rest = left_behind.split("\n", 1)
    stranger = subprocess.Popen(
        ["sleep", "60"], user=None if SERVER is None else SERVER.user
    )
    pid_file.write_text(f"{stranger.pid}\n{rest}")

    try:
        with EmbeddedPostgres(home, settings=QUICK) as server:
            assert ask(server.url, "select n from t") == 7
    finally:
        stranger.kill()
        stranger.wait()


def test_a_user_who_comes_while_the_server_ends_gets_a_new_one(
    home: Path, join: Begin
) -> None:
    user = join("EmbeddedPostgres", home, settings=QUICK)
    with EmbeddedPostgres(home, settings=QUICK) as server:
        write(server.url, 1)
    user.kill()
    user.wait()

    for expected in range(1, 4):
        with EmbeddedPostgres(home, settings=QUICK) as server:
            assert ask(server.url, "select count(*) from t") == expected
            write(server.url, 1)


def test_a_first_start_that_is_killed_half_way_is_made_up_for(
    home: Path, begin: Begin, holder: Holder, eventually: Eventually
) -> None:
    user = begin("EmbeddedPostgres", home, settings=QUICK)
    eventually((home / "data.new" / "PG_VERSION").exists)
    os.kill(holder(home / "keeper.lock"), signal.SIGKILL)
    user.kill()
    user.wait()
    assert not (home / "data").exists()

    with EmbeddedPostgres(home, settings=QUICK) as server:
        assert ask(server.url, "select 1") == 1


def test_start_and_stop_are_harmless_to_repeat(home: Path) -> None:
    server = EmbeddedPostgres(home, settings=QUICK)

    server.stop()
    server.start()
    server.start()
    answer = ask(server.url, "select 1")
    server.stop()
    server.stop()

    assert answer == 1


def test_two_servers_objects_in_one_process_count_as_two_users(home: Path) -> None:
    with EmbeddedPostgres(home, settings=QUICK) as first:
        with EmbeddedPostgres(home, settings=QUICK) as second:
            assert second.url == first.url

        assert ask(first.url, "select 1") == 1


def test_a_temporary_server_leaves_neither_process_nor_file(
    bindir: Path, processes: Processes
) -> None:
    with temporary_postgres(bindir=bindir, settings=QUICK) as server:
        assert ask(server.url, "select 1") == 1
        assert server.home.exists()

    assert processes(server.home) == set()
    assert not server.home.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_temporary_server_is_gone_however_its_user_ends(
    home: Path,
    join: Begin,
    processes: Processes,
    eventually: Eventually,
    number: signal.Signals,
) -> None:
    user = join("EmbeddedPostgres", home, settings=QUICK, temporary=True)

    user.send_signal(number)
    user.wait()

    eventually(lambda: not processes(home))
    assert not home.exists()


def test_a_user_who_forgets_to_stop_leaves_nothing(
    processes: Processes, eventually: Eventually
) -> None:
    forgetful = """
        from pend_storage.testing.servers import EmbeddedPostgres
        from pend_storage.testing.servers._places import server_account, temporary_home
        server = EmbeddedPostgres(temporary_home(server_account()), temporary=True)
        server.start()
        print(server.home)
    """

    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(forgetful)],
        capture_output=True,
        text=True,
        check=True,
    )

    home = Path(answer.stdout.strip())
    assert answer.stderr == ""
    eventually(lambda: not processes(home))
    assert not home.exists()


def test_a_temporary_server_that_was_crashed_leaves_nothing_either() -> None:
    with temporary_postgres(settings=QUICK) as server:
        write(server.url, 1)
        server.kill()
        assert server.home.exists()

    assert not server.home.exists()


def test_a_temporary_server_that_did_not_start_leaves_nothing_either(
    home: Path, processes: Processes
) -> None:
    settings = {"shared_buffers": "a lot"}

    with pytest.raises(StoreUnavailable):
        EmbeddedPostgres(home, settings=settings, temporary=True).start()

    assert processes(home) == set()
    assert not home.exists()


def test_a_forked_child_that_stops_does_not_stop_the_parents_server(
    home: Path,
) -> None:
    with EmbeddedPostgres(home, settings=QUICK) as server:
        child = os.fork()
        if child == 0:
            server.stop()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

        assert ask(server.url, "select 1") == 1


def test_a_home_that_is_removed_while_it_is_used_leaves_no_process(
    home: Path, processes: Processes, eventually: Eventually, join: Begin
) -> None:
    user = join("EmbeddedPostgres", home, settings=QUICK)

    shutil.rmtree(home)
    user.communicate()

    assert user.returncode == 0
    eventually(lambda: not processes(home))
