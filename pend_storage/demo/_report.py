"""Report at the end of the demo: backfill, quarantine, switches and proof."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pend_storage.cli._output import Output, seconds
from pend_storage.demo._proof import Proof

if TYPE_CHECKING:
    from pend_storage._model.records import QuarantinedRecord
    from pend_storage.backfill import BackfillReport
    from pend_storage.dualwrite import Switch
    from pend_storage.operations.check import Check

__all__ = ["show_backfill", "show_proof", "show_quarantine"]

_WIDTH = 20
"""Characters of a record's place that are shown."""


def show_backfill(out: Output, copied: BackfillReport) -> None:
    """Print the backfill's counts by legacy file and by table."""
    out.line()
    out.line("5. What the backfill brought to PostgreSQL", style="title")
    out.table(
        ["legacy file", "read", "written", "unchanged", "quarantined"],
        [
            (name, f.read, f.written, f.unchanged, f.quarantined)
            for name, f in copied.files.items()
        ],
    )
    out.table(
        ["table", "records", "written"],
        [(name, t.rows, t.written) for name, t in copied.collections.items()],
    )


def show_quarantine(out: Output, waiting: Sequence[QuarantinedRecord]) -> None:
    """Print the quarantined records, with file, place and reason."""
    out.line()
    out.line(f"6. In quarantine, whole: {len(waiting):,} records", style="title")
    out.table(
        ["file", "place", "why"],
        [(r.file, _short(r.place) or "the whole file", r.reason) for r in waiting],
    )


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."


def show_proof(
    out: Output, proof: Proof, checked: Check, switches: Sequence[Switch]
) -> None:
    """Print the switches and the table of proven promises."""
    out.line()
    out.line("8. The switches", style="title")
    out.table(
        ["from", "to", "epoch", "writes waited"],
        [(s.before, s.after, s.epoch, seconds(s.pause)) for s in switches],
    )
    out.line()
    out.line("9. The proof", style="title")
    rows = _rows(proof, checked)
    out.facts(
        [(what, how) for what, how, _ in rows],
        styles=[None if kept else "fail" for _, _, kept in rows],
    )


def _rows(proof: Proof, checked: Check) -> list[tuple[str, str, bool]]:
    """Build the rows of the proof: promise, observed value, and if it was kept."""
    same = proof.counted == proof.increments
    files = f"{proof.files} read by plain json.load"
    if proof.unreadable:
        files += f"; {', '.join(proof.unreadable)} never was valid, and is as it was"
    return [
        ("writes acknowledged", f"{proof.acknowledged:,} records", True),
        ("lost", f"{proof.lost:,}", not proof.lost),
        (
            "one counter, all writers",
            f"{proof.counted:,} after {proof.increments:,} increments",
            same,
        ),
        ("calls failed", proof.error or f"{proof.failed:,}", not proof.failed),
        ("calls repeated while PostgreSQL was away", f"{proof.repeated:,}", True),
        ("slowest call", seconds(proof.slowest), True),
        ("reads that went back in time", f"{proof.backward:,}", not proof.backward),
        (
            "reads compared with the other store",
            f"{proof.compared:,}, {proof.diverged:,} divergences",
            not proof.diverged,
        ),
        (
            "both stores, record by record",
            f"{checked.records.checked:,} compared, {checked.records.found} differ",
            checked.records.ok,
        ),
        (
            "legacy files made again from PostgreSQL",
            f"{len(checked.files)}, {sum(not f.ok for f in checked.files)} differ",
            all(f.ok for f in checked.files),
        ),
        ("legacy files", files, True),
    ]
