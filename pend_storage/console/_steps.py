"""Steps of the actions: a call of an operation, and its result as a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pend_storage._model.records import QuarantinedRecord
from pend_storage._redaction import record_label
from pend_storage._shown import bounded, clause, path_text
from pend_storage.console._requests import Call, ChangedSinceError
from pend_storage.console._screens import MOST_RAW, masked
from pend_storage.errors import ConfigError
from pend_storage.events import Event
from pend_storage.factory import open_passive, open_primary
from pend_storage.operations.check import check as run_check
from pend_storage.operations.divergences import accept as accept_findings
from pend_storage.operations.divergences import open_findings, show
from pend_storage.operations.emergency import plan_rollback, roll_back
from pend_storage.operations.facts import next_phase, previous_phase
from pend_storage.operations.jobs import ask, has_obeyed, open_places
from pend_storage.operations.migrate_json import migrate_json
from pend_storage.operations.phase import PhaseChange, change_phase
from pend_storage.operations.quarantine import (
    accept,
    find,
    is_lost_edit,
    list_quarantined,
    rehearsal_of,
    retry,
)
from pend_storage.operations.repair import repair as run_repair
from pend_storage.operations.verdict import duration
from pend_storage.phases import Phase
from pend_storage.store import Store

if TYPE_CHECKING:
    from pend_storage._model.jobs import Wish

__all__ = [
    "Outcome",
    "accept_divergence",
    "accept_quarantine",
    "advance",
    "back",
    "backfill",
    "backup",
    "cancel",
    "emergency",
    "pause",
    "repair",
    "resume",
    "retry_quarantine",
    "reveal_divergence",
    "reveal_quarantine",
    "validate",
    "verify_backup",
]

_MOST = 100
"""Records of a result that are listed; all of them are counted."""
_MOST_DECIDED = 10_000
"""Quarantined records that one request decides at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Outcome of an action."""

    sentence: str
    ok: bool = True
    """False: it was refused, or found something; the sentence says what."""
    result: Any = None


# -- the phase ----------------------------------------------------------------------------


def advance(call: Call) -> Outcome:
    """Move one phase forward, from the one that the caller has seen."""
    return _to_phase(call, forward=True)


def back(call: Call) -> Outcome:
    """Move one phase back, from the one that the caller has seen."""
    return _to_phase(call, forward=False)


def _to_phase(call: Call, *, forward: bool) -> Outcome:
    phase = call.status.phase
    # The wanted phase is named, not counted from the present one: where two consoles are
    # pressed at once, the second one finds it there, and does not go one further.
    wanted = None
    if phase is not None:
        wanted = next_phase(phase) if forward else previous_phase(phase)
    if wanted is None:
        raise ConfigError("there is no such phase from here. Look again.")
    done = change_phase(
        call.settings, wanted, accept=call.request.accept, dry_run=call.request.dry_run
    )
    if done.switch is not None and not done.switch.steps:
        raise ChangedSinceError(
            f"another process was quicker: the phase is {done.after.value} by now."
        )
    return Outcome(sentence=_change_sentence(done), ok=not done.refused, result=done)


def _change_sentence(done: PhaseChange) -> str:
    if done.refused:
        codes = ", ".join(obstacle.code for obstacle in done.refused)
        return f"refused, nothing was changed: {codes}"
    if done.before is done.wanted:
        return f"the phase is {done.wanted.value} already"
    if done.dry_run:
        lost = "; nothing would be lost" if not done.is_forward else ""
        return f"would go from {done.before.value} to {done.wanted.value}{lost}"
    pause = (
        "" if done.switch is None else f"; writes waited {duration(done.switch.pause)}"
    )
    note = "" if done.flag is None or not done.flag.note else f"; {done.flag.note}"
    return f"from {done.before.value} to {done.after.value}{pause}{note}"


def emergency(call: Call) -> Outcome:
    """Go back to JSON alone, in five steps; or plan that."""
    quick = call.request.quick
    if call.request.dry_run:
        plan = plan_rollback(call.settings, quick=quick)
        said = f"five steps from {plan.before.value} to {Phase.JSON_ONLY.value}"
        return Outcome(sentence=said, result=plan)
    done = roll_back(call.settings, quick=quick)
    took = duration(done.seconds)
    if done.ok:
        said = f"from {done.before.value} to {done.after.value} in {took}"
        return Outcome(sentence=said, result=done)
    last = done.steps[-1]
    said = f"stopped at step {last.number}, {last.name}: {last.result}"
    return Outcome(sentence=said, ok=False, result=done)


# -- long work ----------------------------------------------------------------------------


def backfill(call: Call) -> Outcome:
    """Copy what was there before the secondary began to follow."""
    if call.request.dry_run:
        return _preview(call, "copies the records that PostgreSQL does not have yet")
    done = migrate_json(call.settings)
    said = f"{done.backfill.rows:,} records in {duration(done.seconds)}"
    waiting = f"; {done.waiting:,} wait in quarantine" if done.waiting else ""
    return Outcome(
        sentence=said + waiting,
        ok=not done.waiting,
        result={
            "rows": done.backfill.rows,
            "waiting": done.waiting,
            "files": done.files,
        },
    )


def validate(call: Call) -> Outcome:
    """Compare every record of both stores."""
    if call.request.dry_run:
        return _preview(call, "compares every record, and changes none")
    done = run_check(call.settings)
    found, checked = done.records.found, done.records.checked
    said = (
        f"{checked:,} records compared, {found:,} differ, in {duration(done.seconds)}"
    )
    return Outcome(
        sentence=said,
        ok=done.ok,
        result={"checked": checked, "found": found, "seconds": done.seconds},
    )


def _preview(call: Call, what: str) -> Outcome:
    """Return what an action without a dry run of its own would do."""
    return Outcome(
        sentence=f"{what}; the environment is {call.settings.environment}, and its "
        "servers go on",
        result={},
    )


def repair(call: Call) -> Outcome:
    """Make the secondary equal to the primary; or list what would be done."""
    done = run_repair(call.settings, dry_run=call.request.dry_run)
    would = "would be repaired" if done.dry_run else "repaired"
    said = f"{done.count:,} records {would}; {done.primary} is primary"
    if done.refused:
        said += f"; {len(done.refused):,} cannot be: they are ahead of the primary"
    items = done.found[:_MOST]
    return Outcome(
        sentence=said,
        ok=not done.refused,
        result={"primary": done.primary, "count": done.count, "repairs": items},
    )


def backup(call: Call) -> Outcome:
    """Make a backup, and verify it."""
    from pend_storage.operations.backup.create import create_backup  # noqa: PLC0415

    if call.request.dry_run:
        return _preview(call, "makes a backup of the primary, and reads it back")
    done = create_backup(call.settings, label=call.request.label)
    said = (
        f"{done.manifest.id}: {done.records:,} records, {done.size:,} bytes, verified"
    )
    return Outcome(
        sentence=said,
        result={"id": done.manifest.id, "records": done.records, "bytes": done.size},
    )


def verify_backup(call: Call) -> Outcome:
    """Read backups, and compare all that is known of them."""
    from pend_storage.operations.backup.verify import verify_backups  # noqa: PLC0415

    if call.request.dry_run:
        return _preview(
            call, "reads the backups, and adds the result to the repository"
        )
    done = verify_backups(call.settings, call.request.id, deep=call.request.deep)
    said = (
        f"{len(done.backups):,} backups read, {len(done.damaged):,} objects are damaged"
    )
    result = {"backups": done.backups, "damaged": done.damaged[:_MOST]}
    return Outcome(sentence=said, ok=done.ok, result=result)


# -- values -------------------------------------------------------------------------------


def reveal_quarantine(call: Call) -> Outcome:
    """Show the text of a quarantined record, and let the log say who has seen it."""
    with open_passive(call.settings) as passive:
        store = passive.primary()
        record = find(store, _ids(call)[0])
        if not call.request.dry_run:
            _tell_of(store, call, f"quarantine[{record.id}]")
    text = record.raw[:MOST_RAW].decode("utf-8", "replace")
    shown = masked(text) if call.request.dry_run else text
    said = f"{len(record.raw):,} bytes of {record.file}"
    result = {"id": record.id, "raw": shown, "cut": len(record.raw) > MOST_RAW}
    return Outcome(sentence=clause(said), result=result)


def reveal_divergence(call: Call) -> Outcome:
    """Show the values that differ, and let the log say who has seen them."""
    with open_passive(call.settings) as passive:
        if passive.pair is None:
            raise ConfigError("the stores are no pair, so nothing was compared.")
        wanted = _ids(call)[0]
        found = show(passive.pair, wanted, values=not call.request.dry_run)
        if not call.request.dry_run:
            label = record_label(passive.primary().schema[found.collection], found.key)
            _tell_of(passive.primary(), call, label)
    places = [
        {"path": path_text(p.path), "left": bounded(p.left), "right": bounded(p.right)}
        for p in found.differences
    ]
    said = f"{len(places):,} fields differ"
    return Outcome(sentence=said, result={"id": found.id, "differences": places})


def _tell_of(store: Store, call: Call, what: str) -> None:
    """Emit the event of values that were shown to a person."""
    store.tell(
        Event(
            "values-shown",
            f"{call.actor.name} was shown the values of {what}: {call.request.reason}",
            fields={"by": call.actor.name, "reason": call.request.reason},
        )
    )


# -- decisions ----------------------------------------------------------------------------


def accept_divergence(call: Call) -> Outcome:
    """Accept findings: the stores may differ there, as they do now."""
    ids = _ids(call)
    if call.request.dry_run:
        return Outcome(sentence=f"{len(ids):,} findings would be accepted", result={})
    with open_findings(call.settings) as pair:
        done = accept_findings(pair, ids, reason=call.request.reason)
    accepted = [found.id for found in done[:_MOST]]
    return Outcome(
        sentence=f"{len(done):,} findings accepted", result={"ids": accepted}
    )


def accept_quarantine(call: Call) -> Outcome:
    """Let quarantined records stay as they are."""
    with _chosen(call) as (store, records):
        for record in () if call.request.dry_run else records:
            accept(store, record, call.request.reason)
    would = "would be accepted" if call.request.dry_run else "accepted"
    ids = [record.id for record in records[:_MOST]]
    return Outcome(sentence=f"{len(records):,} records {would}", result={"ids": ids})


def retry_quarantine(call: Call) -> Outcome:
    """Try again to place quarantined records, with a repaired text where one is given."""
    text = None if call.request.text is None else call.request.text.encode()
    with _chosen(call) as (store, records):
        if text is not None and len(records) != 1:
            raise ConfigError(
                "a repaired text goes with exactly one record: give its id."
            )
        # A dry run retries in a copy in memory, so that refusals of a commit are found.
        place_in = rehearsal_of(store) if call.request.dry_run and records else store
        results = [retry(place_in, record, text=text) for record in records]
    placed = sum(result.placed for result in results)
    stays = len(results) - placed
    word = "would be placed" if call.request.dry_run else "placed"
    reasons = [result.reason for result in results if result.reason]
    said = f"{placed:,} {word}, {stays:,} stay" + (f": {reasons[0]}" if reasons else "")
    return Outcome(sentence=said, ok=not stays, result={"results": results[:_MOST]})


@contextmanager
def _chosen(call: Call) -> Iterator[tuple[Store, list[QuarantinedRecord]]]:
    """Open the primary, and find the quarantined records that a request names.

    Raises:
        ConfigError: it names none, or too many.
    """
    wanted = call.request
    with open_primary(call.settings) as store:
        if wanted.id is not None or wanted.ids:
            yield store, [find(store, text) for text in _ids(call)]
            return
        if wanted.file is None and wanted.code is None:
            raise ConfigError(
                "name the records: by id, or all of a file, or of a code."
            )
        found = [
            record
            for record in list_quarantined(store, file=wanted.file, status="waiting")
            if wanted.code in {None, record.code} and not is_lost_edit(record)
        ]
        if len(found) > _MOST_DECIDED:
            raise ConfigError(
                f"these are {len(found):,} records, and one request decides "
                f"{_MOST_DECIDED:,} at most: take one file, or one code."
            )
        yield store, found


def _ids(call: Call) -> list[str]:
    ids = [*call.request.ids, *([call.request.id] if call.request.id else [])]
    if not ids or len(ids) > _MOST_DECIDED:
        raise ConfigError(f"name 1 to {_MOST_DECIDED:,} ids.")
    return ids


def pause(call: Call) -> Outcome:
    """Ask a job to wait."""
    return _ask(call, "pause")


def resume(call: Call) -> Outcome:
    """Ask a job to go on."""
    return _ask(call, "resume")


def cancel(call: Call) -> Outcome:
    """Ask a job to end."""
    return _ask(call, "cancel")


def _ask(call: Call, wish: Wish) -> Outcome:
    job = call.request.job
    if not job:
        raise ConfigError("name the job by its id.")
    if call.request.dry_run:
        return Outcome(sentence=f"asks the job {job} to {wish}", result={})
    with open_places(call.settings) as places:
        asked = ask(places, job, wish)
    obeyed = has_obeyed(asked, wish)
    said = f"{asked.kind} is {asked.state}" + (
        "" if obeyed else ", and has not obeyed yet"
    )
    return Outcome(sentence=said, result={"job": asked.id, "obeyed": obeyed})
