"""Verification of stored base backups, without a server and without room on a disk.

Each file is compared with the server's own manifest while the stream is read. Of a chain,
every backup is verified by itself: what is made of them would hide the damage.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

from pend_storage._shown import shown
from pend_storage.backup._catalog import Catalog, Damage, folder_of
from pend_storage.backup._manifest import BackupManifest
from pend_storage.backup._verify import Verifier, Verifying
from pend_storage.backup.physical._base import files_stream, read_manifest
from pend_storage.backup.physical._combine import chain_of
from pend_storage.backup.physical._tar import files_of_tar
from pend_storage.backup.physical._wal import WalArchive
from pend_storage.errors import ConfigError, CorruptFile

__all__ = ["PHYSICAL_VERIFIERS", "base_damage", "wal_damage"]

_CHECKSUM: Final = re.compile(rb'"Manifest-Checksum": "([0-9a-f]{64})"\}\n?\Z')
_UNLISTED: Final = ("pg_wal/", "backup_manifest", "postgresql.auto.conf")
"""What the server's manifest does not list."""


def base_damage(verifying: Verifying, manifest: BackupManifest) -> Iterator[Damage]:
    """Yield the damage of a base backup: parts, files, and the chain that it needs."""
    damaged = [
        damage
        for part in manifest.parts
        for damage in verifying.content(part, manifest.id)
    ]
    yield from damaged
    if damaged or any(part.name in verifying.unread for part in manifest.parts):
        return
    for reason in _file_faults(verifying, manifest):
        yield Damage(name=folder_of(manifest.id), reason=reason, backup=manifest.id)
    try:
        known = {each.id: each for each in Catalog(verifying.repository).backups()}
        chain_of(manifest, known)
    except (ConfigError, CorruptFile) as error:
        yield Damage(name=folder_of(manifest.id), reason=str(error), backup=manifest.id)


PHYSICAL_VERIFIERS: Final[Mapping[str, Verifier]] = {
    "physical": base_damage,
    "incremental": base_damage,
}
"""Verifiers of the kinds of backups that this package makes."""


def wal_damage(archive: WalArchive, system: str) -> Iterator[Damage]:
    """Yield the damaged files of an archived log.

    Args:
        archive: of one cluster.
        system: its identifier.
    """
    for name, reason in archive.verify():
        yield Damage(name=f"wal/{system}/{name[:8]}/{name}", reason=reason)


def _file_faults(verifying: Verifying, manifest: BackupManifest) -> Iterator[str]:
    """Compare the files of a backup with the server's manifest; yield the faults."""
    text = read_manifest(manifest, verifying.repository, verifying.keys)
    listed = _listed(text)
    if listed is None:
        yield "the server's own manifest is damaged"
        return
    stream = files_stream(manifest, verifying.repository, verifying.keys)
    for file in files_of_tar(stream):
        digest = hashlib.sha256()
        for piece in file.content:
            digest.update(piece)
        wanted = listed.pop(file.name, None)
        if wanted is None:
            if not file.name.startswith(_UNLISTED):
                yield f"{shown(file.name)} is not in the server's manifest"
        elif wanted != (file.size, digest.hexdigest()):
            yield f"{shown(file.name)} has another content than the server sent"
    for name in sorted(listed):
        yield f"{shown(name)} is missing"


def _listed(text: bytes) -> dict[str, tuple[int, str]] | None:
    """Return size and checksum of each file; None where the manifest is damaged."""
    found = _CHECKSUM.search(text)
    if found is None:
        return None
    body = text[: found.start()]
    if hashlib.sha256(body).hexdigest().encode() != found[1]:
        return None
    try:
        files = json.loads(text)["Files"]
        return {
            each["Path"] if "Path" in each else _decoded(each["Encoded-Path"]): (
                each["Size"],
                each["Checksum"],
            )
            for each in files
            if each.get("Checksum-Algorithm") == "SHA256"
        }
    except (KeyError, TypeError, ValueError):
        return None


def _decoded(path: str) -> str:
    return bytes.fromhex(path).decode(errors="surrogateescape")
