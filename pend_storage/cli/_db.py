"""``pend-storage db``: migrate, seed, validate, status, grants, prune."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pend_storage._shown import path_text, shown
from pend_storage.cli._exits import Exit
from pend_storage.cli._groups import CommandGroup
from pend_storage.cli._output import Output, seconds
from pend_storage.cli._session import Session, command_options, pass_session

if TYPE_CHECKING:
    from pend_storage.operations.check import Check
    from pend_storage.operations.database_status import DatabaseStatus

__all__ = ["db"]

_SHOWN = 20
"""Divergences in the text output; the JSON document has all that were confirmed."""


@click.group(cls=CommandGroup, short_help="Prepare and check the database.")
@command_options
def db() -> None:
    """Prepare and check the database."""


@db.command(short_help="Make or update the tables.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0, max=86_400),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to try to have the locks, a second at a time.",
)
@click.option(
    "--drop",
    is_flag=True,
    help="Delete what is stored in fields and collections that the schema does not have.",
)
@click.option(
    "--drop-empty",
    is_flag=True,
    help="Drop the tables of another schema, if they are empty.",
)
@click.option("--sql", is_flag=True, help="Show what would be run; change nothing.")
@pass_session
def migrate(
    session: Session,
    *,
    wait: float,
    drop: bool,
    drop_empty: bool,
    sql: bool,
) -> Exit:
    """Bring an empty or older database to the schema. Harmless to repeat.

    Running programs go on: where a session holds a lock that is needed, it is named, and
    others pass between the tries. What was renamed, and how values are converted, is
    declared in the schema by evolve=. With --sql the statements are run, shown and undone.
    """
    from pend_storage.cli._json import show_evolution
    from pend_storage.operations.evolve import migrate_database

    done = migrate_database(
        session.settings_for(dry_run=sql),
        wait=wait,
        drop=drop,
        drop_empty=drop_empty,
        dry_run=sql,
    )
    if sql:
        for statement in done.statements:
            session.output.statement(statement)
    else:
        show_evolution(session.output, done, dry_run=False)
    return session.finish(
        Exit.DONE,
        {
            "database": done.store,
            "schema_current": not sql,
            "changes": done.changes,
            "records": dict(done.records),
            "statements": done.statements if sql else (),
        },
    )


@db.command(short_help="Write what a fresh database needs first.")
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    metavar="N",
    help="Also invent the data of N users in the JSON directory, which must be empty.",
)
@pass_session
def seed(session: Session, sample: int | None) -> Exit:
    """Write what a fresh database needs before the data. Harmless to repeat."""
    from pend_storage.operations.seed import seed as run

    out = session.output
    result = run(session.settings_to_change, sample=sample, stage=out.progress)
    for what in result.changed:
        out.line(f"wrote: {what}")
    if result.records:
        out.line(f"wrote: {result.records:,} records of SEED")
    if not result.changed and not result.records:
        out.line("the database has everything already")
    if result.sample is not None:
        made = result.sample
        out.line(
            f"invented {made.records:,} records of {made.users:,} users in "
            f"{made.directory}"
        )
    return session.finish(Exit.DONE, {"result": result})


@db.command(short_help="Compare both sides, record by record.")
@click.option(
    "--sample",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Compare only this share of the records, 0 to 1.",
)
@click.option(
    "--files/--no-files",
    default=None,
    help="Also make each legacy file from the database, and compare it.  [default: "
    "unless the stores are in use as a pair]",
)
@pass_session
def validate(session: Session, sample: float | None, *, files: bool | None) -> Exit:
    """Compare every record by value, both ways, and every legacy file.

    Exit code 1 where anything differs. In the phases parallel and postgres-primary it may
    run under live traffic, and readiness remembers what it found.
    """
    from pend_storage.operations.check import check

    out = session.output
    result = check(
        session.settings_to_open, sample=sample, files=files, stage=out.progress
    )
    _show_records(out, result)
    _show_files(out, result)
    took = seconds(result.seconds)
    if result.compared_nothing:
        out.line(
            "nothing was compared: neither store has a record, and the JSON directory has "
            f"{len(result.unclaimed):,} files that no layout claims. See: pend-storage "
            "doctor",
            style="fail",
        )
    elif result.ok:
        out.line(
            f"clean: {result.records.checked:,} records and {len(result.files)} files "
            f"compared in {took}",
            style="ok",
        )
    else:
        wrong = sum(not check.ok for check in result.files)
        moving = result.records.unsettled
        doubt = f", {moving:,} records went on changing" if moving else ""
        out.line(
            f"not equal: {result.records.found:,} records and {wrong} files diverge"
            f"{doubt} ({took})",
            style="fail",
        )
        if result.is_pair:
            out.line(f"{result.primary} is primary. See: pend-storage repair --dry-run")
    if result.is_pair and sample is None and not result.is_recorded:
        out.line("not recorded: the database role may only read", style="warn")
    is_fine = result.ok and not result.compared_nothing
    code = Exit.DONE if is_fine else Exit.FOUND
    return session.finish(code, {"result": result})


def _show_records(out: Output, result: Check) -> None:
    checks = result.records.collections
    out.table(
        ["collection", "compared", "missing", "extra", "different"],
        [(n, c.checked, c.missing, c.extra, c.different) for n, c in checks.items()],
        styles=[None if c.ok else "fail" for c in checks.values()],
    )
    for item in result.records.divergences[:_SHOWN]:
        out.line(f"{item.collection}[{shown(item.key)}] {item.kind}", style="fail")
        for difference in item.differences:
            out.line(f"    {difference}")
        if item.more_differences:
            out.line(f"    and {item.more_differences:,} more places")
    more = result.records.found - min(_SHOWN, len(result.records.divergences))
    if more:
        out.line(f"and {more:,} more")


def _show_files(out: Output, result: Check) -> None:
    if not result.files:
        out.line("legacy files were not compared (--files does)", style="quiet")
        return
    out.table(
        ["legacy file", "records", "quarantined", "made from PostgreSQL"],
        [(c.file, c.records, c.quarantined, c.result) for c in result.files],
        styles=[None if c.ok else "fail" for c in result.files],
    )
    for check in result.files:
        for item in check.differences:
            place = path_text(item.path)
            out.line(
                f"{check.file} {place}: {item.original or 'nothing'} became "
                f"{item.rendered or 'nothing'}",
                style="fail",
            )


@db.command(short_help="Show the SQL of the least privileges of four roles.")
@click.option(
    "--owner", metavar="NAME", help="Owns and migrates.  [default: pend_owner]"
)
@click.option(
    "--application",
    metavar="NAME",
    help="Reads and writes records.  [default: pend_application]",
)
@click.option("--reader", metavar="NAME", help="Reads.  [default: pend_reader]")
@click.option(
    "--archiver",
    metavar="NAME",
    help="Reads, and prunes the change log.  [default: pend_archiver]",
)
@click.option(
    "--check",
    is_flag=True,
    help="Compare with the database instead, and list what differs.",
)
@pass_session
def grants(session: Session, *, check: bool, **names: str | None) -> Exit:
    """Show the SQL that gives each role the least privileges that it needs.

    Nothing is run: pass it to psql, as a superuser or as the owner, after each db migrate.
    Roles that do not exist are created without a login; grant them to users. With --check
    the exit code is 1 where a role has less or more.
    """
    from pend_storage.operations.grants import check_grants
    from pend_storage.operations.grants import grants as run

    out, given = session.output, {k: v for k, v in names.items() if v}
    make = check_grants if check else run
    result = make(session.settings, given)
    for statement in result.statements:
        out.line(f"{statement};")
    for found in result.problems:
        out.line(f"{found.role}: {found.object}: {found.problem}", style="fail")
    if check and not result.problems:
        out.line("every role has the least privileges, and no more", style="ok")
    elif check:
        out.line("To correct it: pend-storage db grants | psql URL")
    code = Exit.FOUND if result.problems else Exit.DONE
    return session.finish(code, {"checked": check, "result": result})


@db.command(short_help="Prune the change log of the database.")
@pass_session
def prune(session: Session) -> Exit:
    """Prune the change log of the database, by a role that may delete from it.

    What is older than dual_write.retention_days and applied by JSON is deleted, as servers
    do by themselves. Under the application role of db grants they cannot, so a scheduled
    call of this command does it, as the archiver or the owner.
    """
    from pend_storage.operations.prune import prune_log

    result = prune_log(session.settings)
    session.output.line(
        f"pruned: {result.pruned:,} entries of the change log", style="ok"
    )
    return session.finish(Exit.DONE, {"result": result})


@db.command(short_help="Show where the database stands.")
@pass_session
def status(session: Session) -> Exit:
    """Show where the database stands; exit code 1 where it is not ready."""
    from pend_storage.operations.database_status import database_status

    result = database_status(session.settings)
    _show_status(session.output, result)
    code = Exit.DONE if result.ready else Exit.FOUND
    return session.finish(code, {"result": result})


def _show_status(out: Output, result: DatabaseStatus) -> None:
    server = result.server
    out.line(f"{result.url}", style="title")
    role = (
        "none, it stands alone"
        if result.role is None
        else f"{result.role} at epoch {result.epoch}"
    )
    facts = [
        ("server", f"PostgreSQL {server.version}, {server.size:,} bytes"),
        ("schema", "current" if result.schema_current else "not current"),
    ]
    if result.schema_current:  # otherwise the tables of these facts may be missing
        facts += [
            ("environment", result.environment or "none yet (db seed)"),
            ("role", role),
            ("backfill", result.backfill or "not known: JSON cannot be opened"),
            ("quarantine", f"{result.waiting or 0:,} wait"),
        ]
    out.facts(facts)
    if result.schema_problem is not None:
        out.line(result.schema_problem, style="fail")
    if result.records:
        out.table(["collection", "records"], list(result.records.items()))
