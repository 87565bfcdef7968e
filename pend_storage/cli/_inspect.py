"""``pend-storage inspect``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pend_storage._shown import shown
from pend_storage.cli._exits import Exit
from pend_storage.cli._output import Output, seconds
from pend_storage.cli._session import Session, pass_session

if TYPE_CHECKING:
    from pend_storage.inspect import DirectoryReport, Shape
    from pend_storage.operations.inspect import InspectCheck

__all__ = ["inspect", "show_files"]


@click.command(short_help="Look at the JSON files of any server.")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.py",
    help="Write a schema module for the files. Never overwrites.",
)
@click.option(
    "--report",
    "report_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.md",
    help="Write all that was found, in Markdown. Never overwrites.",
)
@click.option(
    "--set",
    "shapes",
    multiple=True,
    metavar="FILE=SHAPE",
    help="The shape of a file, where the guess is wrong or a doubt. May be repeated.",
)
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="FILE=FIELD",
    help="The field that identifies the records of a file. May be repeated.",
)
@click.option(
    "--files",
    "patterns",
    multiple=True,
    metavar="GLOB",
    help="Only these files.  [default: *.json, *.jsonl, *.ndjson]",
)
@click.option(
    "--check",
    is_flag=True,
    help="Prove the module on a copy: adopt, migrate to PostgreSQL, make the files again.",
)
@click.option(
    "--database",
    metavar="URL",
    help="The PostgreSQL for --check; a database is made there, and removed.  [default: "
    "one that is started for it]",
)
@pass_session
def inspect(
    session: Session,
    directory: Path,
    *,
    out: Path | None,
    report_file: Path | None,
    shapes: tuple[str, ...],
    keys: tuple[str, ...],
    patterns: tuple[str, ...],
    check: bool,
    database: str | None,
) -> Exit:
    """Look at the JSON files of any server; nothing is changed.

    Says for every file how its records stand in it and how sure that is, and what would be in
    the way of a migration. With --out it writes a module that declares them.

    The exit code is 1 where something needs attention: a doubtful shape, a file that cannot be
    read, records that would wait in quarantine; or where --check fails.
    """
    from pend_storage.inspect import inspect_directory
    from pend_storage.inspect._markdown_report import render_report
    from pend_storage.operations.new_file import write_new

    session.act_as_owner(directory)
    output = session.output
    _refuse_existing(out, report_file)
    with output.progress("looking at the files", unit="bytes") as progress:
        found = inspect_directory(
            directory,
            patterns=patterns,
            shapes=_parsed_shapes(shapes),
            keys={file: tuple(v.split(",")) for file, v in _pairs("--key", keys)},
            progress=progress,
        )
    show_files(output, found)
    if report_file is not None:
        write_new(report_file, render_report(found))
        output.line(f"wrote {report_file}", style="ok")
    trial = _write_module(output, found, directory, out, database, check=check)
    _show_next(output, found, directory, out)
    failed = found.has_doubts or (trial is not None and not trial.ok)
    checked = None if trial is None else _checked(trial)
    code = Exit.FOUND if failed else Exit.DONE
    return session.finish(code, {"result": _facts(found), "check": checked})


def _pairs(option: str, texts: Iterable[str]) -> Iterable[tuple[str, str]]:
    for text in texts:
        file, equals, value = text.rpartition("=")
        if not (file and equals and value):
            raise click.BadParameter(f"{option}: write FILE=VALUE, not {shown(text)}")
        yield file, value


def _parsed_shapes(texts: Iterable[str]) -> dict[str, Shape]:
    from pend_storage.inspect import Shape

    known = {shape.value: shape for shape in Shape if shape is not Shape.BROKEN}
    found: dict[str, Shape] = {}
    for file, word in _pairs("--set", texts):
        if word not in known:
            raise click.BadParameter(
                f"--set: there is no shape {shown(word)}; there are: {', '.join(known)}"
            )
        found[file] = known[word]
    return found


def _refuse_existing(*paths: Path | None) -> None:
    """Refuse to overwrite files, before an inspection that may take long."""
    for path in paths:
        if path is not None and path.exists():
            raise click.BadParameter(
                f"{path} is there already, and is not overwritten; choose another name"
            )


def _write_module(
    output: Output,
    found: DirectoryReport,
    directory: Path,
    out: Path | None,
    database: str | None,
    *,
    check: bool,
) -> InspectCheck | None:
    """Write the schema module (``--out``), and check it on a copy (``--check``)."""
    from pend_storage.inspect._code_writer import render_module
    from pend_storage.operations.inspect import check_module
    from pend_storage.operations.new_file import write_new

    if out is None and not check:
        return None
    text = render_module(found)
    with tempfile.TemporaryDirectory(prefix="pend-inspect-") as place:
        module = Path(place) / "schema.py" if out is None else out
        write_new(module, text)
        if out is not None:
            output.line(f"wrote {out}", style="ok")
        if not check:
            return None
        trial = check_module(
            module, directory, found, database=database, stage=output.progress
        )
    _show_check(output, trial)
    return trial


# -- showing ------------------------------------------------------------------------------


def show_files(output: Output, found: DirectoryReport) -> None:
    """Render a row for each file, and the hazards."""
    from pend_storage.inspect._markdown_report import bytes_text, runner_up_text
    from pend_storage.inspect._migration_assessment import ranked_hazards, score
    from pend_storage.inspect._name_heuristics import name_text

    output.table(
        ["file", "shape", "sure", "or else", "records", "size", "score", "key"],
        [
            (
                name_text(file.file),
                file.shape.value,
                f"{file.confidence:.0%}",
                runner_up_text(file),
                file.records,
                bytes_text(file.size),
                score(file),
                name_text("; ".join(",".join(p.key) for p in file.parts if p.key)),
            )
            for file in found.files
        ],
        styles=[None if file.is_sure else "warn" for file in found.files],
    )
    hazards = ranked_hazards(found)
    if hazards:
        output.table(
            ["hazard", "concerns", "count", "file", "what to do"],
            [
                (
                    h.hazard.code,
                    h.hazard.severity.value,
                    h.hazard.count,
                    name_text(h.file or "the directory"),
                    h.hazard.sentence,
                )
                for h in hazards
            ],
        )
    output.line(_totals(found))


def _totals(found: DirectoryReport) -> str:
    """Render the totals, and the time and memory of a migration."""
    from pend_storage.inspect._markdown_report import bytes_text
    from pend_storage.inspect._migration_assessment import expected

    takes = expected(found)
    return (
        f"{sum(f.records for f in found.files):,} records in {len(found.files):,} files, "
        f"looked at in {seconds(found.seconds)}; a migration takes about "
        f"{seconds(takes.seconds)}, {bytes_text(takes.postgres_bytes)} in PostgreSQL and "
        f"{bytes_text(takes.memory_bytes)} of memory"
    )


def _show_check(output: Output, trial: InspectCheck) -> None:
    from pend_storage.inspect._name_heuristics import name_text

    output.table(
        ["file", "read", "placed", "quarantined", "lost", "made again", "why"],
        [
            (
                name_text(file.file),
                file.read,
                file.placed,
                file.quarantined,
                file.lost,
                file.result,
                ", ".join(f"{code} {n:,}" for code, n in file.reasons.items()),
            )
            for file in trial.files
        ],
        styles=[None if file.ok else "fail" for file in trial.files],
    )
    for name in trial.undeclared:
        output.line(f"not declared: {name_text(name)}", style="fail")
    equal = sum(file.ok for file in trial.files)
    output.line(
        f"{trial.placed:,} placed, {trial.quarantined:,} quarantined, {trial.lost:,} lost; "
        f"{equal:,} of {len(trial.files):,} files equal, in {seconds(trial.seconds)}",
        style="ok" if trial.ok else "fail",
    )


def _show_next(
    output: Output, found: DirectoryReport, directory: Path, out: Path | None
) -> None:
    """Render the next commands."""
    from pend_storage.inspect._name_heuristics import name_text

    if not found.files:
        output.line(f"no JSON file in {directory}", style="warn")
        return
    doubtful = next((f for f in found.files if not f.is_sure and f.runner_up), None)
    if doubtful is not None:
        words = " or ".join(guess.shape.value for guess in doubtful.guesses[:2])
        output.line(
            f"doubtful files are kept as documents, which take anything; to decide: --set "
            f"'{name_text(doubtful.file)}={doubtful.shape.value}' ({words})"
        )
    if out is None:
        output.line(f"next: pend-storage inspect {directory} --out schema.py --check")
        return
    output.line("next:")
    output.line(f"  pend-storage init --directory {directory} --schema {out.stem}")
    output.line("  pend-storage doctor")
    output.line("  pend-storage db migrate")


def _facts(found: DirectoryReport) -> dict[str, Any]:
    """Return the report for the JSON document."""
    from pend_storage.cli._output import plain
    from pend_storage.inspect._migration_assessment import expected, score

    facts: dict[str, Any] = _encodable(plain(found))
    for facts_of, file in zip(facts["files"], found.files, strict=True):
        facts_of["shape"] = file.shape.value
        facts_of["confidence"] = file.confidence
        facts_of["records"] = file.records
        facts_of["score"] = score(file)
        facts_of["quarantined"] = file.quarantined
    return {**facts, "expected": plain(expected(found)), "doubts": found.has_doubts}


def _checked(trial: InspectCheck) -> dict[str, Any]:
    from pend_storage.cli._output import plain

    facts: dict[str, Any] = _encodable(plain(trial))
    return {
        **facts,
        "ok": trial.ok,
        "placed": trial.placed,
        "quarantined": trial.quarantined,
        "lost": trial.lost,
    }


def _encodable(value: Any) -> Any:
    """Escape lone surrogates in the names of a result."""
    from pend_storage._model.storable_text import safe_text

    if isinstance(value, str):
        return safe_text(value)
    if isinstance(value, dict):
        return {safe_text(name): _encodable(item) for name, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list) else value
