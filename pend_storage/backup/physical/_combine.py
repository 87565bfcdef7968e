"""Chains of incremental backups: put in order, verified one by one, and combined.

``pg_combinebackup`` does not look at checksums: it made a "successfully verified" full
backup of an incremental one with a flipped byte. So each backup of a chain is fetched and
verified by itself, before anything is combined.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pend_storage import crashpoints
from pend_storage._files.directory import Directory
from pend_storage.backup._manifest import BackupManifest
from pend_storage.backup._repository import Repository
from pend_storage.backup._streams import Keys
from pend_storage.backup.physical._base import facts_of, fetch_base, verify_files
from pend_storage.backup.physical._lsn import parse_lsn
from pend_storage.backup.physical._tools import Tools
from pend_storage.errors import ConfigError, StoreUnavailable

__all__ = ["chain_of", "fetch_chain", "require_chain"]

_TIMEOUT: Final = 24 * 3600.0
_FETCHED: Final = crashpoints.declare(
    "restore.base-fetched", "a base backup was fetched and verified, not yet combined"
)


def chain_of(
    manifest: BackupManifest, backups: Mapping[str, BackupManifest]
) -> list[BackupManifest]:
    """Return the backups that one needs, the full one first and itself last.

    Args:
        manifest: of a physical or incremental backup.
        backups: all that are there, by id.

    Raises:
        ConfigError: a parent is missing, or they do not fit together.
    """
    chain = [manifest]
    while chain[0].kind == "incremental":
        parent = chain[0].parent
        found = backups.get(parent or "")
        if found is None or found in chain:
            raise ConfigError(
                f"backup {chain[0].id} continues {parent}, which is not in the repository. "
                "It cannot be restored; choose an earlier one: `backup list`."
            )
        chain.insert(0, found)
    require_chain(chain)
    return chain


def require_chain(chain: Sequence[BackupManifest]) -> None:
    """Require that each backup continues the one before it.

    Args:
        chain: the full one first.

    Raises:
        ConfigError: it is not so; the message names both.
    """
    if not chain or chain[0].kind != "physical":
        raise ConfigError(
            "a chain begins with a full backup of the server: --kind physical."
        )
    for former, later in itertools.pairwise(chain):
        one, other = facts_of(former), facts_of(later)
        fault = None
        if one.system != other.system:
            fault = f"it is of the cluster {other.system}, and that is of {one.system}"
        elif later.parent != former.id:
            fault = f"it continues {later.parent}"
        elif other.continues is not None and other.continues != one.start:
            fault = f"it continues {other.continues}, and that begins at {one.start}"
        elif parse_lsn(other.end) < parse_lsn(one.end):
            fault = f"it ends at {other.end}, and that at {one.end}"
        if fault is not None:
            raise ConfigError(
                f"backup {later.id} does not follow {former.id}: {fault}. Restore another "
                "backup: `backup list`."
            )


def fetch_chain(
    chain: Sequence[BackupManifest],
    repository: Repository,
    keys: Keys,
    tools: Tools,
    into: Path,
) -> Path:
    """Fetch and verify each backup of a chain, and make one directory of files of them.

    Args:
        chain: as :func:`chain_of` returns it.
        repository: place of backups.
        keys: to decrypt with.
        tools: of the version of the server that was copied.
        into: private directory; the files will be in its ``data``.

    Returns:
        The directory of the files, verified.

    Raises:
        CorruptFile: a backup is damaged; the message names it.
        ConfigError: they do not fit together.
    """
    require_chain(chain)
    places = []
    with Directory(into) as folder:
        for manifest in chain:
            name = "data" if len(chain) == 1 else manifest.id
            folder.make_directory(name).close()
            fetch_base(manifest, repository, keys, into / name)
            verify_files(tools, into / name, what=f"backup {manifest.id}")
            places.append(into / name)
            _FETCHED()
        if len(chain) > 1:
            _combine(tools, places, into / "data")
            for place in places:
                folder.remove_tree(place.name)
    return into / "data"


def _combine(tools: Tools, places: Sequence[Path], target: Path) -> None:
    done = tools.run(
        "pg_combinebackup",
        f"--output={target}",
        "--manifest-checksums=SHA256",
        *places,
        timeout=_TIMEOUT,
    )
    if done.code != 0:
        raise StoreUnavailable(
            f"it failed with {done.code}: {done.last_words}", store="pg_combinebackup"
        )
    verify_files(tools, target, what="the combined backup")
