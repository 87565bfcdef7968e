"""Physical backups on the command line: what ``create``, ``archive`` and ``restore`` do for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pend_storage.cli._exits import Exit
from pend_storage.cli._output import Output, seconds
from pend_storage.cli._session import Session

if TYPE_CHECKING:
    from pend_storage.operations.backup.physical_restore import (
        ServerPlan,
        ServerRestored,
    )

__all__ = ["archive_wal", "create_physical", "restore_server"]


def create_physical(
    session: Session,
    kind: str,
    *,
    parent: str | None,
    label: str | None,
    keep: bool,
    wait: float,
) -> Exit:
    """Make a physical or incremental backup; parameters as those of the command."""
    from pend_storage.operations.backup import physical

    out = session.output
    done = physical.create_physical(
        session.settings_to_change,
        incremental=kind == "incremental",
        parent=parent,
        label=label,
        keep=keep,
        wait=wait,
        stage=out.progress,
    )
    manifest = done.manifest
    out.line(
        f"{manifest.id}: server {manifest.server}, {done.size:,} bytes, up to sequence "
        f"{manifest.point.sequence} of epoch {manifest.point.epoch}, verified, in "
        f"{seconds(done.seconds)}",
        style="ok",
    )
    if done.note is not None:
        out.note(f"note: the readiness does not know of this backup: {done.note}")
    return session.finish(
        Exit.DONE,
        {
            "id": manifest.id,
            "kind": kind,
            "parent": manifest.parent,
            "repository": done.repository,
            "point": manifest.point,
            "bytes": done.size,
            "verified_at": manifest.verified_at,
            "kept": manifest.kept,
            "removed": done.removed,
            "seconds": done.seconds,
            "note": done.note,
        },
    )


def archive_wal(
    session: Session, spool: Path, *, follow: bool, interval: float
) -> Exit:
    """Archive the write-ahead log; parameters as those of the command."""
    from pend_storage.cli._status import ended_by_signals
    from pend_storage.operations.backup.physical import (
        archive_server_log,
        follow_server_log,
    )

    out, settings, files = session.output, session.settings_to_change, 0
    if not follow:
        done = archive_server_log(settings, spool)
        files, warning = done.files, done.warning
        if warning is not None:
            out.line(warning, style="warn")
    else:
        with ended_by_signals() as ended:
            out.note("archive: at work; end it with SIGTERM or Ctrl-C")
            for each in follow_server_log(settings, spool, ended, interval=interval):
                files += each.files
                if each.warning is not None:
                    out.line(each.warning, style="warn")
                if each.files:
                    out.note(f"archive: {each.files:,} files of the write-ahead log")
    out.line(f"{files:,} files of the write-ahead log were archived", style="ok")
    return session.finish(Exit.DONE, {"files": files})


def restore_server(
    session: Session,
    target: str,
    into: str,
    *,
    backup: str | None,
    timeline: int | None,
    dry_run: bool,
) -> Exit:
    """Restore a physical backup; parameters as those of the command."""
    from pend_storage.operations.backup.physical_restore import (
        ServerPlan,
        restore_physical,
    )

    out = session.output
    result = restore_physical(
        session.settings,
        target,
        Path(into),
        backup=backup,
        timeline=timeline,
        dry_run=dry_run,
        stage=out.progress,
    )
    if isinstance(result, ServerPlan):
        _show_plan(out, result)
    else:
        _show_restored(out, result)
    return session.finish(Exit.DONE, {"dry_run": dry_run, "result": result})


def _show_plan(out: Output, plan: ServerPlan) -> None:
    out.facts(
        [
            ("target", plan.target),
            ("from", ", ".join(plan.chain)),
            ("log", f"{len(plan.log.names):,} files, complete up to {plan.log.upto}"),
            ("timeline", str(plan.log.timeline)),
        ]
    )
    _show_gap(out, plan.log.gap)
    out.line("a dry run: nothing was restored")


def _show_restored(out: Output, result: ServerRestored) -> None:
    out.facts(
        [
            ("last commit", f"{result.sequence}, epoch {result.epoch}"),
            ("the server says", result.stopped),
            ("timeline", str(result.timeline)),
            ("from", result.backup),
            ("into", result.url),
        ]
    )
    _show_gap(out, result.gap)
    if result.beyond:
        out.line(
            f"{len(result.beyond):,} commits with a higher number are in it, because they "
            f"committed before the target: {', '.join(map(str, result.beyond[:20]))}",
            style="warn",
        )
    out.line(
        f"restored in {seconds(result.seconds)}; the server runs, and its store is sealed, "
        "so that nothing opens it",
        style="ok",
    )
    out.line(
        "Compare it: pend-storage backup diff; use it: pend-storage backup promote; end it: "
        f"pg_ctl -D {result.directory / 'data'} stop"
    )


def _show_gap(out: Output, gap: str | None) -> None:
    if gap is not None:
        out.line(
            f"the archive lacks the segment {gap}: what is behind it cannot be replayed",
            style="warn",
        )
