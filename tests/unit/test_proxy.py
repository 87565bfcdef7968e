"""The line that tests cut: what passes through it, and what does not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from pend_storage.errors import ConfigError
from pend_storage.testing.proxy import Direction, Proxy

SOON = 0.3


class Echo:
    """A server that repeats what it hears, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):  # without it the thread in accept() keeps it open
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection:
            try:
                while piece := connection.recv(65_536):
                    self.heard += piece
                    connection.sendall(piece)
            except OSError:
                pass


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def line(echo: Echo) -> Iterator[Proxy]:
    with Proxy(*echo.address) as proxy:
        yield proxy


@pytest.fixture
def client(line: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(line.address, timeout=10) as connection:
        yield connection


def answer(client: socket.socket, question: bytes) -> bytes:
    client.sendall(question)
    found = b""
    while len(found) < len(question):
        piece = client.recv(65_536)
        if not piece:
            break
        found += piece
    return found


def assert_silent(client: socket.socket) -> None:
    client.settimeout(SOON)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(10)


def assert_ended(client: socket.socket) -> None:
    try:
        assert client.recv(1) == b""
    except OSError as error:
        assert not isinstance(error, TimeoutError)  # any other will do


def test_a_line_passes_on_what_is_sent(line: Proxy, client: socket.socket) -> None:
    text = b"x" * 300_000

    assert answer(client, b"hello") == b"hello"
    sender = threading.Thread(target=client.sendall, args=(text,))
    sender.start()
    found = b""
    while len(found) < len(text):
        found += client.recv(65_536)
    sender.join()
    assert found == text
    assert line.accepted == 1


def test_the_end_of_one_side_is_the_end_of_the_other(client: socket.socket) -> None:
    client.sendall(b"bye")
    client.shutdown(socket.SHUT_WR)

    assert client.recv(3) == b"bye"
    assert client.recv(1) == b""


def test_a_cut_line_ends_connections_and_refuses_new_ones(
    line: Proxy, client: socket.socket
) -> None:
    assert answer(client, b"a") == b"a"
    line.cut()

    assert_ended(client)
    with socket.create_connection(line.address, timeout=10) as late:
        assert_ended(late)
    line.restore()
    with socket.create_connection(line.address, timeout=10) as again:
        assert answer(again, b"b") == b"b"


def test_a_reset_ends_only_the_connections_that_there_are(
    line: Proxy, client: socket.socket
) -> None:
    assert answer(client, b"a") == b"a"
    line.reset()

    assert_ended(client)
    with socket.create_connection(line.address, timeout=10) as again:
        assert answer(again, b"b") == b"b"


@pytest.mark.parametrize(("way", "arrives"), [("requests", b""), ("answers", b"q")])
def test_a_stalled_line_holds_back_one_direction_until_it_is_restored(
    echo: Echo, line: Proxy, client: socket.socket, way: Direction, arrives: bytes
) -> None:
    line.stall(way)
    client.sendall(b"q")

    assert_silent(client)
    assert echo.heard == arrives
    line.restore()
    assert client.recv(1) == b"q"


def test_a_stalled_line_can_be_cut(line: Proxy, client: socket.socket) -> None:
    line.stall()
    client.sendall(b"q")
    line.cut()

    assert_ended(client)


@pytest.mark.parametrize(("way", "least"), [("both", 0.2), ("answers", 0.1)])
def test_a_slow_line_keeps_each_piece_back(
    line: Proxy, client: socket.socket, way: Direction, least: float
) -> None:
    line.delay(0.1, way)
    began = time.monotonic()

    assert answer(client, b"q") == b"q"
    assert time.monotonic() - began >= least


def test_a_connection_ends_where_no_server_listens(echo: Echo) -> None:
    echo.close()
    with Proxy(*echo.address) as line, ExitStack() as stack:
        late = stack.enter_context(socket.create_connection(line.address, timeout=10))
        assert_ended(late)
        assert line.accepted == 0


def test_urls_lead_through_the_line(line: Proxy) -> None:
    _, port = line.address

    assert (
        line.through("postgresql://me:secret@[::1]:5432/db?sslmode=disable")
        == f"postgresql://me:secret@127.0.0.1:{port}/db?sslmode=disable"
    )


def test_a_line_that_was_not_started_says_so() -> None:
    line = Proxy("127.0.0.1", 1)

    with pytest.raises(ConfigError, match="has not been started"):
        _ = line.address
    with pytest.raises(ConfigError, match="has not been started"):
        line.cut()


def test_nothing_is_left_of_a_line_that_was_stopped(echo: Echo) -> None:
    before = set(threading.enumerate())
    line = Proxy(*echo.address)
    line.start()
    line.start()
    with socket.create_connection(line.address, timeout=10) as client:
        line.stop()
        assert_ended(client)
    line.stop()
    left = set(threading.enumerate()) - before
    assert [thread.name for thread in left if thread.name == "proxy"] == []
