"""Statements to PostgreSQL over its Unix socket, without a driver.

The servers need no psycopg. This speaks as much of the protocol (version 3) as a statement
without a result needs, to a server that trusts the socket.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path

__all__ = ["RefusedStatementError", "run_statement"]

_VERSION = 196_608  # 3.0
_SECONDS = 30


class RefusedStatementError(Exception):
    """PostgreSQL refused a statement; ``sqlstate`` says why."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(f"{sqlstate}: {message}")
        self.sqlstate = sqlstate


def run_statement(path: Path, user: str, statement: str) -> None:
    """Run a statement in the database ``postgres``.

    Args:
        path: of the socket.
        user: role, without a password.
        statement: one that returns no rows.

    Raises:
        RefusedStatementError: the server refused it.
        OSError: the server cannot be reached.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_SECONDS)
        connection.connect(str(path))
        names = f"user\0{user}\0database\0postgres\0\0".encode()
        connection.sendall(struct.pack("!II", 8 + len(names), _VERSION) + names)
        _await_ready(connection)
        query = statement.encode() + b"\0"
        connection.sendall(b"Q" + struct.pack("!I", 4 + len(query)) + query)
        _await_ready(connection)
        connection.sendall(b"X" + struct.pack("!I", 4))


def _await_ready(connection: socket.socket) -> None:
    """Read messages up to the next "ready"; raise the error among them."""
    while True:
        header = _read(connection, 5)
        kind, length = header[:1], struct.unpack("!I", header[1:])[0]
        body = _read(connection, length - 4)
        if kind == b"E":
            fields = {f[:1]: f[1:].decode() for f in body.split(b"\0") if f}
            raise RefusedStatementError(fields.get(b"C", ""), fields.get(b"M", ""))
        if kind == b"R" and body[:4] != b"\0\0\0\0":
            raise RefusedStatementError("28000", "the socket wants a password")
        if kind == b"Z":
            return


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            message = "the server closed the connection"
            raise ConnectionError(message)
        data += piece
    return data
