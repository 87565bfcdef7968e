import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.testing.servers import EmbeddedRedis, temporary_redis
from pend_storage.testing.servers._discovery import version

Begin = Callable[..., subprocess.Popen[str]]
Holder = Callable[[Path], int]
Processes = Callable[[Path], set[int]]
Eventually = Callable[[Callable[[], object]], None]


@contextmanager
def client(url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(url, decode_responses=True) as connection:
        yield connection


def test_a_server_answers_and_is_gone_after_the_last_stop(
    home: Path, redis_binary: Path, processes: Processes
) -> None:
    with EmbeddedRedis(home, executable=redis_binary) as server:
        with client(server.url) as connection:
            assert connection.set("key", "value")
            assert connection.get("key") == "value"
        assert processes(home)

    assert server.version == version(redis_binary)
    assert processes(home) == set()


def test_processes_share_one_server_and_kill_9_of_one_does_not_stop_it(
    home: Path, redis_binary: Path, join: Begin
) -> None:
    starter = join("EmbeddedRedis", home, executable=redis_binary)
    with (
        EmbeddedRedis(home, executable=redis_binary) as server,
        client(server.url) as connection,
    ):
        run_id = connection.info("server")["run_id"]

        starter.kill()
        starter.wait()

        assert connection.info("server")["run_id"] == run_id


def test_kill_9_of_the_only_user_leaves_no_process(
    home: Path,
    redis_binary: Path,
    join: Begin,
    processes: Processes,
    eventually: Eventually,
) -> None:
    user = join("EmbeddedRedis", home, executable=redis_binary)
    assert processes(home)

    user.kill()
    user.wait()

    eventually(lambda: not processes(home))


def test_kill_9_of_the_keeper_leaves_no_server(
    home: Path,
    join: Begin,
    processes: Processes,
    holder: Holder,
    eventually: Eventually,
) -> None:
    user = join("EmbeddedRedis", home)

    os.kill(holder(home / "keeper.lock"), signal.SIGKILL)

    eventually(lambda: processes(home) == {user.pid})


def test_a_crash_keeps_only_what_the_settings_keep(home: Path) -> None:
    settings = {"appendonly": "yes", "appendfsync": "always"}
    with EmbeddedRedis(home, settings=settings) as server:
        with client(server.url) as connection:
            connection.set("key", "value")

        server.kill()
        server.start()

        with client(server.url) as connection:
            assert connection.get("key") == "value"


def test_tcp_listens_on_the_same_port_after_a_restart(
    home: Path, redis_binary: Path
) -> None:
    with EmbeddedRedis(home, executable=redis_binary, listen="127.0.0.1") as server:
        url = server.tcp_url
        server.restart()

        assert server.tcp_url == url
        with client(url) as connection:
            assert connection.ping()


def test_without_listen_there_is_no_tcp(home: Path) -> None:
    with EmbeddedRedis(home) as server:
        with client(server.url) as connection:
            assert connection.config_get("port") == {"port": "0"}
        with pytest.raises(ConfigError, match=r"listen='127\.0\.0\.1'"):
            _ = server.tcp_url


def test_settings_that_would_lead_the_server_away_are_refused(home: Path) -> None:
    with pytest.raises(ConfigError, match="daemonize, port"):
        EmbeddedRedis(home, settings={"port": "1", "daemonize": "yes"})


def test_a_failed_start_quotes_the_log(home: Path, processes: Processes) -> None:
    with pytest.raises(StoreUnavailable, match="no-such-setting"):
        EmbeddedRedis(home, settings={"no-such-setting": "1"}).start()

    assert processes(home) == set()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may not run it himself")
def test_root_does_not_run_the_server_himself(
    home: Path, redis_binary: Path, holder: Holder
) -> None:
    with EmbeddedRedis(home, executable=redis_binary):
        assert Path(f"/proc/{holder(home / 'server.lock')}").stat().st_uid != 0


def test_a_temporary_server_leaves_neither_process_nor_file(
    redis_binary: Path, processes: Processes
) -> None:
    with (
        temporary_redis(executable=redis_binary) as server,
        client(server.url) as connection,
    ):
        assert connection.ping()

    assert processes(server.home) == set()
    assert not server.home.exists()
