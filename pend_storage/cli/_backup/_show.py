"""``pend-storage backup show``."""

from __future__ import annotations

import click

from pend_storage._shown import moment
from pend_storage.cli._backup._list import as_document
from pend_storage.cli._exits import Exit
from pend_storage.cli._session import Session, pass_session

__all__ = ["show"]


@click.command(short_help="One backup: parts, numbers, window, facts.")
@click.argument("backup_id", metavar="ID")
@pass_session
def show(session: Session, *, backup_id: str) -> Exit:
    """Show the backup ID, or the only one whose id has this text in it."""
    from pend_storage.operations.backup.catalog import show_backup

    found = show_backup(session.settings, backup_id)
    listed, out = found.listed, session.output
    manifest, window = listed.manifest, listed.window
    out.facts(
        [
            ("id", manifest.id),
            ("label", manifest.label or ""),
            ("environment", manifest.environment),
            ("kind", manifest.kind),
            (
                "made of",
                f"{manifest.side or 'a store'} {manifest.server or ''}".strip(),
            ),
            ("store", manifest.point.identity),
            ("earliest", _point(window.earliest.at, window.earliest.sequence)),
            ("latest", _point(window.latest.at, window.latest.sequence)),
            ("gap", window.gap or "none"),
            ("state", listed.state),
            ("bytes", listed.size),
            ("schema", manifest.schema_module or manifest.schema_fingerprint),
            ("library", manifest.library),
            ("other files", len(manifest.files)),
        ]
    )
    out.table(
        ("collection", "records", "tombstones"),
        [(n, f.rows, f.tombstones) for n, f in manifest.collections.items()],
    )
    out.table(
        ("part", "collection", "items", "bytes", "content", "encrypted"),
        [
            (
                part.name,
                part.collection or "",
                part.items,
                part.size,
                part.content_size,
                "yes" if part.encrypted else "",
            )
            for part in manifest.parts
        ],
    )
    if manifest.marks:
        out.table(("mark", "sequence"), list(manifest.marks.items()))
    if found.facts:
        out.table(
            ("fact", "time", "result"),
            [(f.kind, moment(f.at), "ok" if f.ok else "failed") for f in found.facts],
        )
    return session.finish(
        Exit.FOUND if listed.state == "damaged" or window.gap else Exit.DONE,
        {
            **as_document(listed),
            "collections": manifest.collections,
            "parts": manifest.parts,
            "files": manifest.files,
            "marks": manifest.marks,
            "facts": found.facts,
            "library": manifest.library,
            "schema_fingerprint": manifest.schema_fingerprint,
            "schema_module": manifest.schema_module,
        },
    )


def _point(at: str, sequence: int) -> str:
    return f"{moment(at)}, sequence {sequence}"
