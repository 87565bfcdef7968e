"""Owner gate: a command of root becomes the owner of the files that it works on."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from pend_storage._trusted_users import owners_of, user_text
from pend_storage.errors import ConfigError

__all__ = ["OwnerGate"]

_PACKAGE: Final = Path(__file__).parent.parent
_BY_EFFECTIVE: Final = os.access in os.supports_effective_ids


@dataclass(frozen=True, slots=True)
class _Account:
    """User to become: numbers, and the entry of the system where it has one."""

    uid: int
    gid: int
    name: str | None
    home: str | None


class OwnerGate:
    """Gate that a command passes before it opens files of others.

    The whole process becomes the owner, once and for good: no code of the command, and
    no module that a configuration names, runs with root's rights on files that
    another user controls.
    """

    def __init__(self, *, as_root: bool = False) -> None:
        """Args: as_root: remain root, because the caller trusts the owner."""
        self._as_root = as_root
        self._owner: tuple[int, Path] | None = None

    @property
    def is_closed(self) -> bool:
        """True where the owners of files decide as whom the command goes on."""
        return not self._as_root and (os.geteuid() == 0 or self._owner is not None)

    def pass_with(self, paths: Iterable[Path]) -> str | None:
        """Become the owner of these paths, if this process is root and they are not.

        Args:
            paths: files and directories; of a missing one, the folder above counts.

        Returns:
            A sentence for people if the user has changed, else None.

        Raises:
            ConfigError: they belong to more than one user besides root, or the process
                cannot become the owner.
        """
        if not self.is_closed:
            return None
        for path in paths:
            for uid, place in owners_of(path).items():
                if uid == 0:
                    continue
                if self._owner is None:
                    self._owner = (uid, place)
                elif self._owner[0] != uid:
                    raise ConfigError(_two_owners_text(self._owner, (uid, place)))
        if self._owner is None or os.geteuid() != 0:
            return None
        uid, place = self._owner
        _become(_account(uid, place), place)
        return (
            f"note: works as {user_text(uid)}, to whom {place} belongs; --as-root keeps "
            "root's rights"
        )


def _two_owners_text(one: tuple[int, Path], other: tuple[int, Path]) -> str:
    return (
        f"{one[1]} belongs to {user_text(one[0])} and {other[1]} to "
        f"{user_text(other[0])}: root works for one owner at a time. Give both the same "
        "owner, or run the command as one of them; --as-root trusts both with root's "
        "rights."
    )


def _account(uid: int, place: Path) -> _Account:
    try:
        found = pwd.getpwuid(uid)
    except KeyError:  # a user of a container: known by number alone
        # Group 0 would be one of root's.
        return _Account(uid, place.lstat().st_gid or uid, None, None)
    return _Account(uid, found.pw_gid, found.pw_name, found.pw_dir)


def _become(account: _Account, place: Path) -> None:
    """Give up root's rights for good: groups, group, user, and the environment."""
    try:
        unreadable = _unreadable_by(account)
        if unreadable is not None:
            raise ConfigError(
                f"{place} belongs to {user_text(account.uid)}, who may not read "
                f"{unreadable}, a part of this installation, so the command cannot go on "
                "as that user. Install pend_storage and Python where every user may read "
                "them; where root is trusted with these files, as in a container: "
                "--as-root."
            )
        _set_groups(account)
        _set_ids(account)
    except OSError as error:
        raise ConfigError(
            f"{place} belongs to {user_text(account.uid)}, and this process of root "
            f"cannot become that user: {error.strerror}. Run the command as that user; "
            "where root is trusted with these files, as in a container: --as-root."
        ) from error
    if 0 in {os.getuid(), os.geteuid(), os.getgid(), os.getegid()}:
        raise ConfigError(
            "the rights of root could not be given up. Run the command as "
            f"{user_text(account.uid)}."
        )
    os.umask(os.umask(0o077) | 0o022)  # other users never get to write what is made
    name = account.name or str(account.uid)
    os.environ.update(HOME=account.home or "/", USER=name, LOGNAME=name)


def _unreadable_by(account: _Account) -> str | None:
    """Return a part of the installation that a user may not read; None: it is readable.

    Modules are imported when they are needed, so they must be readable afterwards, too.
    """
    groups, group = os.getgroups(), os.getegid()
    try:
        _set_groups(account)
        os.setegid(account.gid)
        os.seteuid(account.uid)
        parts = [Path(str(module.__file__)).parent for module in (os, click)]
        for part in (*parts, _PACKAGE):
            if not os.access(part, os.R_OK | os.X_OK, effective_ids=_BY_EFFECTIVE):
                return str(part)
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)
    return None


def _set_groups(account: _Account) -> None:
    if account.name is None:
        os.setgroups([account.gid])
    else:
        os.initgroups(account.name, account.gid)


def _set_ids(account: _Account) -> None:
    if hasattr(os, "setresuid"):
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)
    else:  # for root, these set the saved ones as well
        os.setgid(account.gid)
        os.setuid(account.uid)
