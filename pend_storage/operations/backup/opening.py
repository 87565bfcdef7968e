"""Opening of the repository of an environment, and the keys to read and write it."""

from __future__ import annotations

import os

from pend_storage.backup._age import IDENTITY_VARIABLE, Keys, read_identities
from pend_storage.backup._opening import open_repository as open_address
from pend_storage.backup._repository import Repository
from pend_storage.config import Settings

__all__ = ["keys_of", "open_repository"]


def open_repository(settings: Settings, *, create: bool = False) -> Repository:
    """Open the repository of an environment; nothing is written unless it is made.

    Args:
        settings: of the environment.
        create: make it where there is none.

    Raises:
        ConfigError: none is configured, or there is none; or a permission is missing.
        CorruptFile: its description is damaged.
        StoreUnavailable: it cannot be reached.
    """
    return open_address(settings.require_backup().repository, create=create)


def keys_of(settings: Settings) -> Keys:
    """Return the keys of an environment: to encrypt to, and to decrypt with.

    Where the file with the secret keys is not on this machine, there are none to decrypt
    with: a host that only makes backups needs none.

    Raises:
        ConfigError: a key is none, or other users can read the file.
    """
    wanted = settings.require_backup()
    given = {} if wanted.identity is None else {IDENTITY_VARIABLE: wanted.identity}
    path = wanted.identity_file
    if path is not None and not os.path.lexists(path):
        path = None
    return Keys(wanted.encrypt_to, read_identities(path, given))
