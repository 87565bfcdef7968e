"""``python -m benchmarks``: measure, and write the numbers, the charts and the page."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks import facts, page
from benchmarks.case import Case, Missing
from benchmarks.cases import CASES
from benchmarks.results import (
    FORMAT,
    Results,
    merge,
    read_results,
    write_results,
)
from benchmarks.run import run_case, run_trial
from benchmarks.trial import Trial
from benchmarks.trials import TRIALS
from benchmarks.workbench import Plan, Workbench
from pend_storage.testing.servers import temporary_postgres

_TASKS: Final[tuple[Case | Trial, ...]] = (*CASES, *TRIALS)
_ROUNDS: Final = 11
_QUICK_ROUNDS: Final = 2
_DOCS: Final = Path("docs") / "explanation"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks that were asked for."""
    options = _options(arguments)
    if options.render:
        _publish(options.output)
        return 0
    logging.getLogger("pend_storage").setLevel(logging.ERROR)  # adoption is talkative
    tasks = _chosen(options)
    with _workbench(options, server=any(each.server for each in tasks)) as bench:
        memory = not options.no_memory and bool(options.only or not options.quick)
        for results in _measure(bench, tasks, memory=memory):
            print(page.as_text(results))
            if options.output is not None:
                _write(options.output, results)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="less data, fewer rounds; unless named: not every case, and rates only",
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="this case; or those whose name begins so, if there is none of that name; "
        "again for more: " + ", ".join(each.name for each in _TASKS),
    )
    parser.add_argument("--rounds", type=_positive, help="default 11, or 2 if quick")
    parser.add_argument(
        "--database-url",
        help="a database from which others can be made; default: a server of its own",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        help="where to work, on the disk to be measured; default: for temporary files",
    )
    parser.add_argument("--no-memory", action="store_true", help="rates only")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIRECTORY",
        help=f"write benchmarks.md and benchmarks/ there; for the documentation: {_DOCS}",
    )
    parser.add_argument(
        "--render",
        action="store_true",
        help="measure nothing: write the page and the charts again from the results",
    )
    options = parser.parse_args(arguments)
    if options.render and options.output is None:
        parser.error("--render needs --output")
    for name in options.only or ():
        if not any(each.name.startswith(name) for each in _TASKS):
            parser.error(f"there is no case {name!r}")
    return options


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def chosen(arguments: Sequence[str]) -> list[Case | Trial]:
    """Options of the command line."""
    return _chosen(_options(arguments))


def _chosen(options: argparse.Namespace) -> list[Case | Trial]:
    if not options.only:
        return [each for each in _TASKS if each.quick or not options.quick]
    names = {each.name for each in _TASKS}
    return [
        task
        for task in _TASKS
        if any(
            task.name == name or (name not in names and task.name.startswith(name))
            for name in options.only
        )
    ]


@contextmanager
def _workbench(options: argparse.Namespace, *, server: bool) -> Iterator[Workbench]:
    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    plan = Plan(options.quick, rounds, 0.1 if options.quick else 0.4)
    root = Path(tempfile.mkdtemp(prefix="benchmarks-", dir=options.directory))
    try:
        if options.database_url or not server:
            yield Workbench(plan, root, options.database_url or "")
        else:  # fsync stays on: durable is what is compared
            with temporary_postgres() as embedded:
                yield Workbench(plan, root, embedded.url)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _measure(
    bench: Workbench, tasks: Sequence[Case | Trial], *, memory: bool
) -> Iterator[Results]:
    """The result of each case or trial by itself, as soon as it is there."""
    about = facts.gather(bench)
    nothing = Results(format=FORMAT, quick=bench.plan.quick, facts=about, cases=())
    for task in tasks:
        try:
            if isinstance(task, Trial):
                trial = run_trial(bench, task, tell=_tell)
                yield replace(nothing, trials=(trial,))
            else:
                case = run_case(bench, task, tell=_tell, memory=memory)
                yield replace(nothing, cases=(case,))
        except Missing as error:
            _tell(f"{task.name}: left out, {error}")


def _tell(line: str) -> None:
    load = os.getloadavg()[0]
    print(f"[load {load:4.1f}] {line}", file=sys.stderr, flush=True)


def _write(directory: Path, results: Results) -> None:
    data = directory / "benchmarks"
    data.mkdir(parents=True, exist_ok=True)
    kept = data / "results.json"
    if kept.exists():
        names = [each.name for each in _TASKS]
        results = merge(read_results(kept), results, names)
    write_results(kept, results)
    _publish(directory)


def _publish(directory: Path) -> None:
    """Write the pages and the charts of the results in a directory."""
    data = directory / "benchmarks"
    results = read_results(data / "results.json")
    page.write(directory, results)
    try:
        from benchmarks import chart  # noqa: PLC0415 - matplotlib is large and optional
    except ModuleNotFoundError as error:
        _tell(f"no charts: the package {error.name} is not installed")
        return
    for case in results.cases:
        chart.write(data / f"{case.name}.svg", case)
    for name, cases in page.in_series(results).items():
        chart.write_series(data / f"{name}.svg", cases)
    chart.write_overview(data / "overview.svg", results)


if __name__ == "__main__":
    sys.exit(main())
