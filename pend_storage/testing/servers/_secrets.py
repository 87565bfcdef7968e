"""Passwords of servers on TCP, and the private files that hand them to the servers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from pend_storage.errors import ConfigError
from pend_storage.testing.servers._places import Account

__all__ = ["read_password", "scram_verifier", "write_private"]

_ITERATIONS = 4096  # as PostgreSQL's own; the password is random, not one of a person
_BYTES = 24


def read_password(path: Path) -> str:
    """Read the password of a server; make one the first time.

    The caller must hold the lock of the server.

    Args:
        path: of the file, which only its owner can read.

    Raises:
        ConfigError: others can read the file, or it is not the user's own.
    """
    with suppress(FileExistsError):
        write_private(path, secrets.token_urlsafe(_BYTES), None, is_new=True)
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        facts = os.fstat(file)
        if facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) & 0o077:
            raise ConfigError(
                f"{path} has the password of a server, and others than its user can read "
                "it. Remove the file while the server is stopped: a new one is made."
            )
        return os.read(file, 1024).decode()
    finally:
        os.close(file)


def write_private(
    path: Path, text: str, account: Account | None, *, is_new: bool = False
) -> None:
    """Write a file that only the server's user can read; it appears whole.

    Args:
        path: of the file.
        text: its content.
        account: user of the server; None: the present one.
        is_new: refuse to replace a file.

    Raises:
        FileExistsError: there is one, and it may not be replaced.
    """
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(unfinished, flags, 0o600)
    try:
        try:
            os.write(file, text.encode())
            if account is not None:
                os.fchown(file, *account.ids)
        finally:
            os.close(file)
        if is_new:
            path.hardlink_to(unfinished)
        else:
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def scram_verifier(password: str) -> str:
    """Return the form in which PostgreSQL keeps a password, and which does not reveal it."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    client = hmac.digest(salted, b"Client Key", "sha256")
    server = hmac.digest(salted, b"Server Key", "sha256")
    stored = hashlib.sha256(client).digest()
    salt64, stored64, server64 = (
        base64.b64encode(value).decode() for value in (salt, stored, server)
    )
    return f"SCRAM-SHA-256${_ITERATIONS}:{salt64}${stored64}:{server64}"
