"""Directories and user account of embedded servers.

PostgreSQL refuses to run as root, so root starts servers as an unprivileged user. That
user must be able to reach the server's directory and its binaries. Permissions are
never widened for that: what the user cannot reach is placed elsewhere, under the
system's temporary directory, and a warning is logged.
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
from pathlib import Path

import filelock

from pend_storage.errors import ConfigError

logger: logging.Logger = logging.getLogger(__name__)

# sockaddr_un: 108 bytes on Linux, 104 on macOS, with the closing NUL.
SOCKET_PATH_LIMIT = 103
LONGEST_SOCKET_NAME = ".s.PGSQL.65535.lock"
# Others may pass through, but neither list nor write.
PASSABLE = 0o711
_POLL_SECONDS = 0.02
_UNPRIVILEGED = ("nobody", "postgres", "daemon")


def exclusive_lock(path: Path) -> filelock.BaseFileLock:
    """Return a lock for rare work, as a context: one thread of one process at a time."""
    return filelock.FileLock(
        path, mode=0o600, thread_local=False, poll_interval=_POLL_SECONDS
    )


@dataclass(frozen=True, slots=True)
class Account:
    """Unprivileged user that a server runs as when root starts it."""

    name: str
    user: int
    group: int

    @property
    def ids(self) -> tuple[int, int]:
        """User id and group id."""
        return self.user, self.group

    def can_reach(self, path: Path) -> bool:
        """Ask the kernel if the user may enter a directory or run a file.

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
    """Return the account for the server, or None if it runs as the present user.

    Raises:
        ConfigError: root, on a system without an unprivileged user.
    """
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise ConfigError(
        f"servers must not run as root, and this system has no user {_UNPRIVILEGED[0]}. "
        "Add one, or start this program as an ordinary user."
    )


def prepare_home(home: Path, account: Account | None) -> Path:
    """Create the home, and return the directory where its server's files are.

    That is the home itself unless the server's user cannot enter it. Then it is a
    directory under the system's temporary directory, always the same for one home: a
    link ``elsewhere`` in the home leads there.

    Raises:
        ConfigError: neither directory is usable.
    """
    _make(home, 0o700 if account is None else PASSABLE)
    link = home / "elsewhere"
    if link.is_symlink():
        _owned_directory(link.readlink().parent)
        return _owned_directory(link.readlink())
    if account is None or account.can_reach(home):
        return home
    place = _owned_directory(shared_root(account) / _digest(home))
    with suppress(FileExistsError):
        link.symlink_to(place)
    logger.warning(
        "%s cannot enter %s, so its server lives in %s", account.name, home, place
    )
    return place


def temporary_home(account: Account | None) -> Path:
    """Create a new, empty home with a short path."""
    home = Path(tempfile.mkdtemp(prefix="pend-", dir=_temporary_root(account)))
    if account is not None:
        home.chmod(PASSABLE)
    return home


def socket_directory(place: Path, account: Account | None) -> Path:
    """Return the directory for sockets: in the server's, or elsewhere if unusable.

    A path is unusable if it is too long, or has a comma: libpq takes that for a list of
    hosts.
    """
    directory = place / "s"
    length = len(os.fsencode(directory / LONGEST_SOCKET_NAME))
    if length <= SOCKET_PATH_LIMIT and "," not in str(directory):
        return directory
    return shared_root(account) / f"s-{_digest(place)}"


def shared_root(account: Account | None) -> Path:
    """Return our directory below the system's temporary one, one for each user."""
    return _owned_directory(_temporary_root(account) / f"pend-storage-{os.geteuid()}")


def readable_copy(label: str, sources: Mapping[str, Path], account: Account) -> Path:
    """Copy files and trees once to where the account can read and run them.

    A copy is complete or absent, is reused while it matches its sources, and is made
    again when it does not (temporary directories get cleaned).

    Args:
        label: name of the copy for people; a digest of the sources' paths is added.
        sources: files and trees to copy, by name in the copy.
        account: user who must be able to read it.

    Returns:
        Directory of the copy.
    """
    root = shared_root(account)
    target = root / f"{label}-{_digest(*sources.values())}"
    with exclusive_lock(root / "copy.lock"):
        if not all(_same(path, target / name) for name, path in sources.items()):
            _copy(sources, target)
            logger.warning(
                "%s cannot run what is in %s, so it runs a copy in %s",
                account.name,
                next(iter(sources.values())),
                target,
            )
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
    """Return True if every file of the source is in the copy, by size and time."""
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


def _owned_directory(directory: Path) -> Path:
    """Create a directory of ours in a public one, or verify that it is ours.

    Raises:
        ConfigError: another user owns it, or others may write to it.
    """
    _make(directory, PASSABLE)
    # In a public directory another user may create the name first, or make it a link.
    found = directory.lstat()
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if not ours or found.st_mode & 0o022:
        raise ConfigError(
            f"{directory} belongs to another user, or others may write to it. Remove "
            "it, or set TMPDIR to another directory."
        )
    return directory


def _make(directory: Path, mode: int) -> None:
    """Create a directory with exactly this mode; an existing one keeps its own.

    Raises:
        OSError: it cannot be created, or the name is taken by something else.
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
