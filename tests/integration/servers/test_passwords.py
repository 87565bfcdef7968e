"""Passwords of servers on TCP: other users of the machine do not get in."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from pend_storage.errors import ConfigError
from pend_storage.testing.servers import (
    EmbeddedPgBouncer,
    EmbeddedPostgres,
    EmbeddedRedis,
)

QUICK = {"fsync": "off"}


@pytest.fixture
def postgres(home: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(home, settings=QUICK, listen="127.0.0.1") as server:
        yield server


def enters(url: str) -> bool:
    try:
        with psycopg.connect(url, passfile="/dev/null") as connection:
            return connection.execute("select 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def without_password(url: str, password: str = "") -> str:
    return url.replace(
        f":{urlsplit(url).password}@", f":{password}@" if password else "@"
    )


def test_postgres_on_tcp_wants_its_password(postgres: EmbeddedPostgres) -> None:
    assert enters(postgres.tcp_url)
    assert not enters(without_password(postgres.tcp_url))
    assert not enters(without_password(postgres.tcp_url, "wrong"))
    assert enters(postgres.url)  # whose directory only the owner may enter
    postgres.restart()
    assert enters(postgres.tcp_url)


def test_another_role_needs_a_password_of_its_own_on_tcp(
    postgres: EmbeddedPostgres,
) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("create role guest login")

    host, port = postgres.tcp_address
    assert not enters(f"postgresql://guest@{host}:{port}/postgres")


def test_a_home_that_trusted_tcp_does_so_no_longer(home: Path) -> None:
    with EmbeddedPostgres(home, settings=QUICK) as server:
        rules = server.directory / "data/pg_hba.conf"
        rules.write_text("local all all trust\nhost all all 127.0.0.1/32 trust\n")

    with EmbeddedPostgres(home, settings=QUICK, listen="127.0.0.1") as server:
        assert enters(server.tcp_url)
        assert not enters(without_password(server.tcp_url))


def test_those_who_share_a_server_share_its_password(
    postgres: EmbeddedPostgres,
) -> None:
    with EmbeddedPostgres(postgres.home, settings=QUICK) as other:
        assert other.tcp_url == postgres.tcp_url
        assert enters(other.tcp_url)


def test_the_password_is_in_a_private_file_and_on_no_command_line(
    postgres: EmbeddedPostgres,
) -> None:
    file = postgres.directory / "password"

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.stat().st_uid == os.geteuid()
    assert len(postgres.password) >= 32
    assert postgres.password not in command_lines()
    assert postgres.password not in repr(postgres)
    assert postgres.password not in postgres.log.read_text()


def command_lines() -> str:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_text(errors="replace"))
        except OSError:
            continue  # it has ended
    return "\n".join(found)


@pytest.mark.parametrize("kind", ["mode", "link"])
def test_a_password_that_others_could_know_is_refused(home: Path, kind: str) -> None:
    with EmbeddedRedis(home) as server:
        file = server.directory / "password"
    if kind == "mode":
        file.write_text("known to everybody")
        file.chmod(0o644)
    else:
        file.symlink_to("/etc/hostname")

    with pytest.raises(ConfigError):
        EmbeddedRedis(home, listen="127.0.0.1").start()


_STRANGER = 'exec 3<>"/dev/tcp/$0/$1"; printf "SET key value\\r\\n" >&3; head -n 1 <&3'


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_of_the_machine_does_not_get_in(home: Path) -> None:
    with EmbeddedRedis(home, listen="127.0.0.1") as server:
        host, port = server.tcp_address
        answer = subprocess.run(
            ["/bin/bash", "-c", _STRANGER, host, str(port)],
            cwd="/",
            user=1,
            group=1,
            extra_groups=[],
            check=True,
            capture_output=True,
        )
        assert b"NOAUTH" in answer.stdout
        reading = subprocess.run(
            ["/bin/cat", str(server.directory / "password")],
            cwd="/",
            user=1,
            group=1,
            extra_groups=[],
            check=False,
            capture_output=True,
        )
        assert reading.stdout == b""


def test_redis_on_tcp_wants_its_password(home: Path, redis_binary: Path) -> None:
    with EmbeddedRedis(home, executable=redis_binary, listen="127.0.0.1") as server:
        host, port = server.tcp_address
        for url in (server.tcp_url, server.url):
            with redis.Redis.from_url(url) as client:
                assert client.ping()
        with (
            redis.Redis(host=host, port=port) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()
        assert server.password not in command_lines()
        server.restart()
        with redis.Redis.from_url(server.tcp_url) as client:
            assert client.ping()


def test_redis_on_its_socket_alone_has_no_password(home: Path) -> None:
    with EmbeddedRedis(home) as server:
        assert "password" not in server.url
        with redis.Redis.from_url(server.url) as client:
            assert client.ping()


def test_a_pooler_hands_on_the_password_and_shows_it_to_none(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    with EmbeddedPgBouncer(
        postgres.home / "pooler", server=postgres.tcp_url
    ) as bouncer:
        assert enters(bouncer.url)
        file = bouncer.directory / "pgbouncer.ini"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert postgres.password in file.read_text()
        assert postgres.password not in command_lines()
