"""Verification of backups and of the archived log, by what is stored of them.

What is verified is always the input of a restore, never only what was made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Final, TypeAlias

from pend_storage.backup._catalog import Catalog, Damage
from pend_storage.backup._manifest import BackupManifest, Part, SegmentManifest
from pend_storage.backup._record_check import RecordCheck
from pend_storage.backup._repository import Repository
from pend_storage.backup._row_digest import RowDigest
from pend_storage.backup._segments import LOG, manifest_name, read_segment
from pend_storage.backup._snapshot_files import read_part
from pend_storage.backup._streams import Keys, read_stream, verify_stored
from pend_storage.backup._unclaimed import FILES_PART, read_files
from pend_storage.backup._window import chains, gaps, windows
from pend_storage.errors import ConfigError, CorruptFile
from pend_storage.schema import Schema

__all__ = [
    "UNDECRYPTED",
    "Verifier",
    "Verifying",
    "log_damage",
    "verify_backup",
    "with_affected",
]

UNDECRYPTED: Final = "no identity that was given can decrypt it"
"""Reason of a damage that is one of the keys, and not of the backup."""
_MOST: Final = 20
"""Records of a part that are reported."""

Verifier: TypeAlias = Callable[["Verifying", BackupManifest], Iterator[Damage]]
"""Verifies what the kind of a backup has beside its parts: each part is compared with its
hash before, whatever the kind."""


class Verifying:
    """One verification: where it reads, and how far it looks."""

    def __init__(
        self,
        repository: Repository,
        keys: Keys,
        *,
        schema: Schema | None = None,
        rows: bool = True,
        verifiers: Mapping[str, Verifier] | None = None,
    ) -> None:
        """Make a verification.

        Args:
            repository: where the backups are.
            keys: to decrypt with. Without an identity, what is encrypted is compared by the
                hash of its stored bytes, and named in :attr:`unread`. With one that does
                not fit, that is a fault, too: a restore would find it.
            schema: to decode each record with; None: records are not decoded.
            rows: read each row and entry, and compare digests and numbers with those of
                the manifest. Without it, each object is compared by its hashes, which
                were taken when the rows were written and read back, and the numbers of
                the parts by those of the manifest: several times as fast.
            verifiers: of further kinds of backups.
        """
        self.repository = repository
        self.keys = keys
        self.schema = schema
        self.reads_rows = rows or schema is not None
        self.unread: list[str] = []
        """Objects that no identity could decrypt."""
        self.undecoded: list[str] = []
        """Backups and segments of another version of the schema."""
        self.bytes = 0
        """Stored bytes that were read."""
        self.on_bytes: Callable[[int], None] = lambda _: None
        """Called with :attr:`bytes` after each part."""
        self._verifiers: dict[str, Verifier] = {
            "snapshot": snapshot_damage,
            **(verifiers or {}),
        }

    def backup(self, manifest: BackupManifest) -> list[Damage]:
        """Return all damage of a backup; none: it is whole.

        Raises:
            ConfigError: its kind has no verifier, or a permission is missing.
            StoreUnavailable: the repository cannot be reached.
        """
        verifier = self._verifiers.get(manifest.kind)
        if verifier is None:
            raise ConfigError(
                f"backups of the kind {manifest.kind} cannot be verified here. Install the "
                "packages of the backup, and use the version that made it."
            )
        return list(verifier(self, manifest))

    def segment(self, segment: SegmentManifest) -> list[Damage]:
        """Return all damage of a segment. Raises as :meth:`backup`."""
        if not self.reads_rows:
            return list(self.content(segment.part, None))
        check = self.record_check(segment.id, segment.schema_fingerprint)

        def read() -> Iterator[str]:
            for change in read_segment(self.repository, segment, self.keys):
                for name, key, version, body in change.records:
                    if check is not None:
                        yield from check.change(name, key, version, body)

        return list(self.examined(segment.part, read(), None))

    def record_check(self, name: str, fingerprint: str | None) -> RecordCheck | None:
        """Return what checks decoded records; None where they are not decoded.

        Args:
            name: of the backup or segment.
            fingerprint: of the schema that its records have.
        """
        if self.schema is None:
            return None
        if fingerprint != self.schema.fingerprint():
            self.undecoded.append(name)
            return None
        return RecordCheck(self.schema)

    def examined(
        self, part: Part, faults: Iterator[str], backup: str | None
    ) -> Iterator[Damage]:
        """Read a part to its end; yield the faults, and the damage that ends the reading.

        Args:
            part: the stored object.
            faults: reads the part, and yields sentences.
            backup: that it belongs to; None: the log.
        """

        def damage(reason: str) -> Damage:
            return Damage(name=part.name, reason=reason, backup=backup)

        try:
            for sentence in islice(faults, _MOST):
                yield damage(sentence)
            for _ in faults:  # to the end: what follows may be damaged, too
                pass
        except CorruptFile as error:
            yield damage(error.reason)
        except FileNotFoundError:
            yield damage("it is missing")
        except ConfigError:
            if not part.encrypted:
                raise
            yield from self._stored_only(part, damage)
        self.bytes += part.size
        self.on_bytes(self.bytes)

    def _stored_only(
        self, part: Part, damage: Callable[[str], Damage]
    ) -> Iterator[Damage]:
        """Verify the stored bytes of a part that cannot be decrypted."""
        try:
            verify_stored(self.repository, part)
        except CorruptFile as error:
            yield damage(error.reason)
        except FileNotFoundError:
            yield damage("it is missing")
        else:
            if self.keys.decrypts:
                yield damage(UNDECRYPTED)
            self.unread.append(part.name)

    def content(self, part: Part, backup: str | None) -> Iterator[Damage]:
        """Yield the damage of a part of which only the bytes are known."""

        def read() -> Iterator[str]:
            for _ in read_stream(self.repository, part, self.keys):
                pass
            yield from ()

        yield from self.examined(part, read(), backup)


def snapshot_damage(verifying: Verifying, manifest: BackupManifest) -> Iterator[Damage]:
    """Yield the damage of a snapshot: parts, numbers, digests; and records, where decoded."""
    if not verifying.reads_rows:
        yield from _content_damage(verifying, manifest)
        return
    check = verifying.record_check(manifest.id, manifest.schema_fingerprint)
    digests = {name: RowDigest(name) for name in manifest.collections}
    before = len(verifying.unread)
    whole = True
    for part in manifest.parts:
        if part.collection is None:
            found = list(_files_damage(verifying, part, manifest))
        else:
            digest = digests.setdefault(part.collection, RowDigest(part.collection))
            rows = _rows(verifying, part, manifest, digest, check)
            found = list(verifying.examined(part, rows, manifest.id))
        whole = whole and not found
        yield from found
    if not whole or len(verifying.unread) > before:
        return  # numbers of what could not be read say nothing
    name = f"backups/{manifest.id}"
    for collection, digest in digests.items():
        if digest.facts() != manifest.collections.get(collection):
            yield Damage(
                name=name,
                reason=f"the rows of {collection} are not those that were written",
                backup=manifest.id,
            )
    for sentence in () if check is None else islice(check.relations(), _MOST):
        yield Damage(name=name, reason=sentence, backup=manifest.id)


def _content_damage(verifying: Verifying, manifest: BackupManifest) -> Iterator[Damage]:
    """Yield the damage of a snapshot whose objects are compared by their hashes."""
    items = dict.fromkeys(manifest.collections, 0)
    for part in manifest.parts:
        if part.collection is None:
            yield from _files_damage(verifying, part, manifest)
            continue
        items[part.collection] = items.get(part.collection, 0) + part.items
        yield from verifying.content(part, manifest.id)
    for collection, count in items.items():
        facts = manifest.collections.get(collection)
        if facts is None or count != facts.rows + facts.tombstones:
            yield Damage(
                name=f"backups/{manifest.id}",
                reason=f"its parts have {count:,} rows of {collection}, not as many as were "
                "written",
                backup=manifest.id,
            )


def _rows(
    verifying: Verifying,
    part: Part,
    manifest: BackupManifest,
    digest: RowDigest,
    check: RecordCheck | None,
) -> Iterator[str]:
    name = digest.collection
    for row in read_part(verifying.repository, part, verifying.keys, manifest):
        digest.add(row)
        if check is not None:
            yield from check.row(name, row.key, row.version, row.body)


def _files_damage(
    verifying: Verifying, part: Part, manifest: BackupManifest
) -> Iterator[Damage]:
    if FILES_PART not in part.name:
        yield from verifying.content(part, manifest.id)
        return

    def read() -> Iterator[str]:
        for file, digest in read_files(verifying.repository, part, verifying.keys):
            if manifest.files.get(file) != digest:
                yield f"the file {file} is not the one that was copied"

    yield from verifying.examined(part, read(), manifest.id)


def verify_backup(
    repository: Repository,
    manifest: BackupManifest,
    keys: Keys,
    *,
    schema: Schema | None = None,
    rows: bool = True,
    verifiers: Mapping[str, Verifier] | None = None,
) -> list[Damage]:
    """Verify one backup; arguments and errors as in :class:`Verifying`."""
    verifying = Verifying(
        repository, keys, schema=schema, rows=rows, verifiers=verifiers
    )
    return verifying.backup(manifest)


def log_damage(catalog: Catalog) -> list[Damage]:
    """Return the segments that are missing between others.

    A gap where a chain was begun on purpose is no damage: windows name it.
    """
    known = windows(catalog.backups(), catalog.segments())
    return [
        Damage(
            name=f"{LOG}/ before {gap.begin.id}",
            reason=gap.sentence,
            affected=tuple(w.backup.id for w in known if w.gap == gap.sentence),
        )
        for gap in gaps(chains(catalog.segments()))
        if gap.begin.previous is not None
    ]


def with_affected(catalog: Catalog, damage: Damage) -> Damage:
    """Return a damage with the backups whose windows it ends.

    Args:
        catalog: of the repository.
        damage: of a backup, or of the log.
    """
    if damage.affected:
        return damage
    if damage.backup is not None:
        affected = [damage.backup]
    else:
        affected = _windows_through(catalog, damage.name)
    return Damage(
        name=damage.name,
        reason=damage.reason,
        backup=damage.backup,
        affected=tuple(affected),
    )


def _windows_through(catalog: Catalog, name: str) -> list[str]:
    """Return the backups whose windows need a segment, or end before it."""
    place = _place_in(name)
    affected = []
    for window in windows(catalog.backups(), catalog.segments()):
        needs = any(name in {manifest_name(s.id), s.part.name} for s in window.segments)
        point, end = window.earliest, window.latest
        ends_there = (
            place is not None
            and (point.epoch, point.sequence) <= place
            and (end.epoch, end.sequence) <= place
            and window.gap is not None
        )
        if needs or ends_there:
            affected.append(window.backup.id)
    return affected


def _place_in(name: str) -> tuple[int, int] | None:
    """Return epoch and sequence in the name of an object of the log."""
    folder, _, rest = name.partition("/")
    epoch, _, sequence = rest.partition("-")
    number = sequence.partition("-")[0]
    if folder != LOG or not (epoch.isdecimal() and number.isdecimal()):
        return None
    return int(epoch), int(number)
