"""Encryption of backups by age: to public keys, so that the host which writes cannot read.

The format is that of https://age-encryption.org/v1: 64 KiB blocks, each authenticated, and
the last one marked as such. The package works from a reader into a writer, so it runs in a
thread of its own, with few blocks in between.
"""

from __future__ import annotations

import os
import queue
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from typing_extensions import override

from pend_storage._extras import with_packages
from pend_storage._files.failures import translate
from pend_storage._files.linked import LinkedFile
from pend_storage._files.reading import read_all
from pend_storage._shown import shown
from pend_storage.errors import ConfigError

__all__ = [
    "IDENTITY_VARIABLE",
    "Keys",
    "NoIdentity",
    "Undecryptable",
    "read_identities",
]

IDENTITY_VARIABLE: Final = "PEND_BACKUP_IDENTITY"
"""Environment variable with identities, in place of a file."""
_BEGINNING: Final = "AGE-SECRET-KEY-"
_LARGEST: Final = 1 << 20
_AHEAD: Final = 2
"""Pieces that wait for the thread at most."""


class NoIdentity(Exception):
    """No identity opens the header."""


class Undecryptable(Exception):
    """A block is not authentic, or the last one is missing."""


class Keys:
    """Public keys to encrypt to, and identities to decrypt with."""

    def __init__(
        self, encrypt_to: Sequence[str] = (), identities: Sequence[str] = ()
    ) -> None:
        """Check the keys.

        Args:
            encrypt_to: ``age1...`` recipients; none: nothing is encrypted.
            identities: ``AGE-SECRET-KEY-...``; needed only to read.

        Raises:
            ConfigError: a key is none.
        """
        self._recipients = [
            _recipient(number, key) for number, key in enumerate(encrypt_to, 1)
        ]
        self._identities = [
            _identity(number, key) for number, key in enumerate(identities, 1)
        ]

    @override
    def __repr__(self) -> str:
        return (
            f"<Keys: {len(self._recipients)} to encrypt to, "
            f"{len(self._identities)} to decrypt with>"
        )

    @property
    def encrypts(self) -> bool:
        """True if new streams are encrypted."""
        return bool(self._recipients)

    @property
    def decrypts(self) -> bool:
        """True if there is an identity to read with."""
        return bool(self._identities)

    def encrypted(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield pieces encrypted; as they are where there is no key."""
        if not self._recipients:
            yield from pieces
            return
        age = _age()
        recipients = self._recipients
        yield from _through(lambda r, w: age.encrypt_io(r, w, recipients), pieces)

    def decrypted(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield pieces decrypted, each of them authentic; that none is missing shows at the end.

        Raises:
            NoIdentity: none of the identities fits, there is none, or the header is damaged.
            Undecryptable: what is stored is damaged.
        """
        if not self._identities:
            raise NoIdentity
        age = _age()
        identities = self._identities
        try:
            yield from _through(lambda r, w: age.decrypt_io(r, w, identities), pieces)
        except age.DecryptError as error:
            if "matching keys" in str(error):
                raise NoIdentity from error
            raise Undecryptable(f"its header cannot be decrypted ({error})") from error
        except _Failed as error:
            raise Undecryptable(
                f"a block of it cannot be decrypted ({error})"
            ) from error


def read_identities(
    path: Path | None, environment: Mapping[str, str] = os.environ
) -> list[str]:
    """Return the identities to decrypt with: of the environment, or else of a file.

    Args:
        path: of a file as ``age-keygen`` writes it; None: there is no file.
        environment: of the process.

    Raises:
        ConfigError: other users can read the file, it cannot be read, or has no identity.
    """
    if text := environment.get(IDENTITY_VARIABLE, "").strip():
        return _identities(text, f"the environment variable {IDENTITY_VARIABLE}")
    if path is None:
        return []
    try:
        text = _read_secret(path)
    except UnicodeDecodeError:
        text = ""
    except OSError as error:
        raise ConfigError(str(translate(error, path))) from error
    return _identities(text, str(path))


def _read_secret(path: Path) -> str:
    """Read a file that no other user can read, as servers want it for keys of TLS."""
    with LinkedFile(path) as file:
        fd = file.open()
        try:
            status = os.fstat(fd)
            allowed = stat.S_IRUSR | stat.S_IWUSR | stat.S_IXUSR
            if status.st_uid == 0 != os.geteuid():
                allowed |= stat.S_IRGRP  # how secrets are mounted into containers
            if stat.S_IMODE(status.st_mode) & 0o777 & ~allowed:
                raise ConfigError(
                    f"{path} has secret keys, and other users may read or write it. "
                    f"Take that away: chmod 600 {path}"
                )
            return read_all(fd, path, _LARGEST).decode()
        finally:
            os.close(fd)


def _identities(text: str, place: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if not found or not all(line.upper().startswith(_BEGINNING) for line in found):
        raise ConfigError(
            f"{place} has to have age identities, one a line, that begin with {_BEGINNING}1; "
            "other lines begin with #. age-keygen makes such a file."
        )
    return found


def _recipient(number: int, key: str) -> Any:
    age = _age()
    try:
        return age.x25519.Recipient.from_str(key.strip())
    except age.RecipientError as error:
        is_public = key.strip().startswith("age1")  # anything else may be a secret
        name = shown(key) if is_public else f"key {number} of encrypt_to"
        raise ConfigError(
            f"{name} is not the public key of an age identity. It begins with age1; "
            "age-keygen -y FILE prints it."
        ) from error


def _identity(number: int, key: str) -> Any:
    age = _age()
    try:
        return age.x25519.Identity.from_str(key.strip())
    except age.IdentityError:
        raise ConfigError(
            f"identity {number} is not an age identity ({_BEGINNING}1...): a part of it is "
            "missing, or a letter is wrong. Copy it again."
        ) from None  # the text of the package might have a part of it


def _age() -> Any:
    with with_packages(user="an encrypted backup"):
        import pyrage  # noqa: PLC0415 - optional
    return pyrage


# -- from pieces to pieces through a thread --------------------------------------------


class _Failed(Exception):
    """The package failed to read or write a block."""


class _Writer(Protocol):
    def write(self, data: bytes) -> int: ...

    def flush(self) -> None: ...


class _Reader:
    """Reader of what another thread puts in; empty at the end."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[bytes | None] = queue.Queue(_AHEAD)
        self._rest = memoryview(b"")
        self._is_at_end = False

    def put(self, piece: bytes | None) -> None:
        """Give a piece to read, None for the end; wait while there are enough."""
        self._waiting.put(piece)

    def read(self, size: int = -1) -> bytes:
        """Return at most so many bytes."""
        while not self._rest and not self._is_at_end:
            piece = self._waiting.get()
            self._is_at_end = piece is None
            self._rest = memoryview(piece or b"")
        size = len(self._rest) if size < 0 else size
        data, self._rest = self._rest[:size], self._rest[size:]
        return bytes(data)

    def drain(self) -> None:
        """Take everything up to the end, so that no writer waits for ever."""
        self._rest = memoryview(b"")
        while self.read():
            pass


class _Pieces:
    """Writer whose pieces another thread takes."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def write(self, data: bytes) -> int:
        self._waiting.put(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: each piece can be taken at once."""

    def taken(self) -> Iterator[bytes]:
        """Yield what is there by now; another thread may add to it."""
        while not self._waiting.empty():
            yield self._waiting.get()


class _Work:
    """Thread that works from a reader into a writer."""

    def __init__(self, work: Callable[[_Reader, _Writer], None]) -> None:
        self._work = work
        self.reader = _Reader()
        self.pieces = _Pieces()
        self.error: BaseException | None = None
        self._thread = threading.Thread(
            target=self._run, name="pend-backup-age", daemon=True
        )
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work(self.reader, self.pieces)
        except BaseException as error:  # noqa: BLE001 - raised by the other thread
            self.error = error
        self.reader.drain()

    def end(self) -> None:
        """Give the end to read, and wait for the thread; idempotent."""
        if self._thread.is_alive():  # never in a forked child
            self.reader.put(None)
            self._thread.join()


def _through(
    work: Callable[[_Reader, _Writer], None], pieces: Iterable[bytes]
) -> Iterator[bytes]:
    """Yield what a function writes that reads the pieces, in a thread."""
    running = _Work(work)
    try:
        for piece in pieces:
            running.reader.put(piece)
            yield from running.pieces.taken()
            if running.error is not None:
                break
    finally:
        running.end()
    yield from running.pieces.taken()
    if isinstance(running.error, OSError):
        raise _Failed(str(running.error)) from running.error
    if running.error is not None:
        raise running.error
