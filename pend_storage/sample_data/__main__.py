"""Command line of the generator: ``python -m pend_storage.sample_data DIRECTORY``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pend_storage.sample_data.damage import Damage
from pend_storage.sample_data.irregular import Expected
from pend_storage.sample_data.writer import SampleReport, generate


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a sample and print a table of its contents; exit code 2 for wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        report = generate(
            options.directory,
            users=options.users,
            events=options.events,
            irregular=options.irregular,
            seed=options.seed,
            damage=dict(options.damage),
            progress=_progress if sys.stderr.isatty() else None,
        )
    except (ValueError, OSError) as error:
        parser.error(str(error))
    sys.stdout.write(_table(report))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pend_storage.sample_data",
        description="Write the JSON files of an invented Pend server.",
    )
    parser.add_argument("directory", type=Path, help="where; made if need be")
    parser.add_argument("--users", type=int, default=139, help="default 139")
    parser.add_argument(
        "--events", type=int, help="entries of the transaction log, default 4 a user"
    )
    parser.add_argument(
        "--irregular", type=float, default=0.01, help="share of records, default 0.01"
    )
    parser.add_argument("--seed", type=int, default=1, help="default 1")
    parser.add_argument(
        "--damage",
        type=_damage,
        action="append",
        default=[],
        metavar="FILE=KIND",
        help=f"damage a whole file; kinds: {', '.join(Damage)}",
    )
    return parser


def _damage(text: str) -> tuple[str, str]:
    file, _, kind = text.partition("=")
    return file, kind


def _progress(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    sys.stderr.write(f"\r{done:,} of {total:,} records{end}")


def _table(report: SampleReport) -> str:
    rows = [
        (
            file,
            records,
            report.expected(file, Expected.MIGRATES),
            report.expected(file, Expected.QUARANTINE),
        )
        for file, records in report.records.items()
    ]
    lines = [f"{'file':<45} {'records':>9} {'odd':>7} {'impossible':>10}"]
    lines += [f"{a:<45} {b:>9,} {c:>7,} {d:>10,}" for a, b, c, d in rows]
    sums = [sum(column) for column in list(zip(*rows, strict=True))[1:]]
    lines.append(f"{'total':<45} {sums[0]:>9,} {sums[1]:>7,} {sums[2]:>10,}")
    lines += [f"{file} is {kind}" for file, kind in report.damage.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
