"""Where a server lives, and as which user it runs.

PostgreSQL refuses to run as root, so root starts servers as ``nobody``. That user must
be able to reach the server's directory and its binaries. Nobody's permissions are ever
widened for that: what cannot be reached is put elsewhere, under the system's temporary
directory, and the log says so.
"""

from __future__ import annotations

import filecmp
import hashlib
import logging
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path

from pend_storage.errors import ConfigError
from pend_storage.testing.servers._keeper import open_lock

logger: logging.Logger = logging.getLogger(__name__)

# sockaddr_un: 108 bytes on Linux, 104 on macOS, with the closing NUL.
SOCKET_PATH_LIMIT = 103
LONGEST_SOCKET_NAME = ".s.PGSQL.65535.lock"
# Others may pass through, but neither list nor write.
PASSABLE = 0o711


@dataclass(frozen=True, slots=True)
class Account:
    """The unprivileged user that a server runs as when root starts it."""

    name: str
    user: int
    group: int

    @property
    def ids(self) -> tuple[int, int]:
        """User and group."""
        return self.user, self.group

    def can_reach(self, path: Path) -> bool:
        """Ask the kernel whether that user may enter a directory or run a file.

        Raises:
            ConfigError: this process may not become that user.
        """
        try:
            answer = subprocess.run(  # noqa: S603
                ["/bin/sh", "-c", 'test -x "$0"', str(path)],
                cwd="/",
                user=self.user,
                group=self.group,
                extra_groups=[],
                check=False,
            )
        except PermissionError as error:
            raise ConfigError(
                f"root may not become {self.name} here ({error.strerror}), and servers "
                "must not run as root. Start this program as an ordinary user."
            ) from error
        return answer.returncode == 0


def server_account() -> Account | None:
    """The account for the server, or None where it can be one's own.

    Raises:
        ConfigError: root, on a system that knows no unprivileged user.
    """
    if os.geteuid() != 0:
        return None
    for name in ("nobody", "postgres", "daemon"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise ConfigError(
        "servers must not run as root, and this system has no user called nobody. "
        "Add one, or start this program as an ordinary user."
    )


def settle(home: Path, account: Account | None) -> Path:
    """Make the home, and find the place where its server really lives.

    That is the home itself unless the server's user cannot enter it. Then it is a
    directory under the system's temporary directory, always the same for one home: a
    link called ``elsewhere`` in the home leads there.

    Raises:
        ConfigError: neither will do.
    """
    _make(home, 0o700 if account is None else PASSABLE)
    link = home / "elsewhere"
    if link.is_symlink():
        _own(link.readlink().parent)
        return _own(link.readlink())
    if account is None or account.can_reach(home):
        return home
    place = _own(shared_root(account) / _digest(home))
    with suppress(FileExistsError):
        link.symlink_to(place)
    logger.warning(
        "%s cannot enter %s, so its server lives in %s", account.name, home, place
    )
    return place


def temporary_home(account: Account | None) -> Path:
    """Make a new, empty home with a short path."""
    home = Path(tempfile.mkdtemp(prefix="pend-", dir=_temporary_root(account)))
    if account is not None:
        home.chmod(PASSABLE)
    return home


def socket_directory(place: Path, account: Account | None) -> Path:
    """The place's own directory for sockets, or one elsewhere if its path is unfit.

    It is when it is too long, or has a comma: libpq takes that for a list of hosts.
    """
    directory = place / "s"
    length = len(os.fsencode(directory / LONGEST_SOCKET_NAME))
    if length <= SOCKET_PATH_LIMIT and "," not in str(directory):
        return directory
    return shared_root(account) / f"s-{_digest(place)}"


def shared_root(account: Account | None) -> Path:
    """Our directory under the system's temporary directory, one for each user."""
    return _own(_temporary_root(account) / f"pend-storage-{os.geteuid()}")


def readable_copy(label: str, sources: Mapping[str, Path], account: Account) -> Path:
    """Copy files and trees once to where the account can read and run them.

    A copy is complete or absent, is used again while it matches its sources, and is
    made again when it does not (temporary directories get cleaned).

    Args:
        label: names the copy for people; a digest of the sources' paths is added.
        sources: what to copy, by its name in the copy.
        account: who must be able to read it.
    """
    root = shared_root(account)
    target = root / f"{label}-{_digest(*sources.values())}"
    lock = open_lock(root / "copy.lock")
    try:
        flock(lock, LOCK_EX)
        if not all(_same(path, target / name) for name, path in sources.items()):
            _copy(sources, target)
            logger.warning(
                "%s cannot run what is in %s, so it runs a copy in %s",
                account.name,
                next(iter(sources.values())),
                target,
            )
    finally:
        os.close(lock)
    return target


def _copy(sources: Mapping[str, Path], target: Path) -> None:
    unfinished = target.with_name(f"{target.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    for name, path in sources.items():
        copy = unfinished / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, copy, symlinks=True)
        else:
            shutil.copy2(path, copy)
    for path in (unfinished, *unfinished.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)


def _same(source: Path, copy: Path) -> bool:
    """Whether every file of the source is in the copy, by size and time."""
    if not source.is_dir():
        return copy.exists() and filecmp.cmp(source, copy)
    if not copy.is_dir():
        return False
    comparison = filecmp.dircmp(source, copy, ignore=[])
    return not (comparison.left_only or comparison.diff_files) and all(
        _same(source / name, copy / name) for name in comparison.common_dirs
    )


def _temporary_root(account: Account | None) -> Path:
    if account is None:
        return Path(tempfile.gettempdir())
    candidates = [tempfile.gettempdir(), "/tmp", "/var/tmp"]  # noqa: S108
    for candidate in map(Path, candidates):
        if candidate.is_dir() and account.can_reach(candidate):
            return candidate
    raise ConfigError(
        f"{account.name} can enter none of {', '.join(candidates)}, and the server "
        "needs a directory there. Set TMPDIR to one that everybody may enter."
    )


def _own(directory: Path) -> Path:
    """Make a directory of ours where others may write, too, or make sure that it is.

    Raises:
        ConfigError: somebody else made it first, or may write to it.
    """
    _make(directory, PASSABLE)
    found = directory.lstat()
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if not ours or found.st_mode & 0o022:
        raise ConfigError(
            f"{directory} belongs to somebody else, or others may write to it. Remove "
            "it, or set TMPDIR to another directory."
        )
    return directory


def _make(directory: Path, mode: int) -> None:
    """Make a directory with this very mode; one that is there keeps its own.

    Raises:
        OSError: it cannot be made, or something else has its name.
    """
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        if not directory.is_dir():
            raise
    else:
        directory.chmod(mode)


def _digest(*paths: Path) -> str:
    text = "\0".join(str(path.resolve()) for path in paths)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
