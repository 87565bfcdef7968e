"""The benchmarks' arithmetic, the page they write, and that they run at all."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
sys.path.append(str(ROOT))  # they are part of the repository, not of the package

from benchmarks import page  # noqa: E402
from benchmarks.case import Aim  # noqa: E402
from benchmarks.cases import CASES  # noqa: E402
from benchmarks.measure import (  # noqa: E402
    Spread,
    alternate,
    paired,
    rate_of,
    spread_of,
)
from benchmarks.results import (  # noqa: E402
    FORMAT,
    CaseResult,
    Conditions,
    Facts,
    Figure,
    Measured,
    Results,
    TrialResult,
    compare,
    merge,
    read_results,
    write_results,
)
from benchmarks.summary import (  # noqa: E402
    GUARANTEES,
    HIGHLIGHTS,
    guarantees,
    highlights,
)
from benchmarks.trials import TRIALS  # noqa: E402

DOCS = ROOT / "docs" / "explanation"
FACTS = Facts(
    processors=2,
    processor="a processor",
    memory_gib=8,
    system="Linux",
    file_system="ext4",
    python="CPython 3.11.0",
    postgresql="18.1",
    packages={"tinydb": "4.9.0"},
    garbage_collector="on",
)


def a_measured(name: str, *rates: float) -> Measured:
    return Measured(
        name=name,
        note="a note",
        rates=rates,
        spread=spread_of(rates),
        start_mib=30.0,
        peak_mib=60.0,
    )


def a_case(name: str = "json-put-200", aim: float | None = 2.0) -> CaseResult:
    measured = (
        a_measured("ours", 100.0, 400.0, 900.0),
        a_measured("theirs", 50, 100, 300),
    )
    return CaseResult(
        name=name,
        title="A case",
        unit="puts",
        text="Some text.",
        records=200,
        rounds=3,
        conditions=Conditions(load=0.5, sync_microseconds=100.0),
        measured=measured,
        comparisons=tuple(compare([Aim("ours", "theirs", aim)], measured)),
        stages={"parse": 1.0, "apply": 3.0},
        absent={"other": "not installed"},
    )


def a_trial(name: str = "dual-pairs", aim: float | None = 1.0) -> TrialResult:
    return TrialResult(
        name=name,
        title="A trial",
        text="What it does.",
        conditions=Conditions(load=0.5, sync_microseconds=100.0),
        seconds=12.0,
        figures=(
            Figure(what="lost", value=0.0, aim=0.0),
            Figure(what="pause", value=1.5, unit="ms", aim=aim, q1=1.0, q3=2.0),
            Figure(what="theirs", value=1000.0, note="10.0% of 10,000"),
        ),
    )


def some_results(*cases: CaseResult) -> Results:
    return Results(
        format=FORMAT,
        quick=True,
        facts=FACTS,
        cases=cases or (a_case(),),
        trials=(a_trial(),),
    )


class TestSpread:
    def test_quartiles_are_interpolated_and_best_is_the_highest(self) -> None:
        assert spread_of([4.0, 1.0, 3.0, 2.0]) == Spread(2.5, 1.75, 3.25, 4.0)

    def test_one_value_has_no_spread(self) -> None:
        assert spread_of([7.0]) == Spread(7.0, 7.0, 7.0, 7.0)

    def test_no_value_is_refused(self) -> None:
        with pytest.raises(ValueError, match="nothing was measured"):
            spread_of([])


class TestPaired:
    def test_ratios_are_taken_inside_a_round(self) -> None:
        # The machine was ten times slower in the second round: no ratio shows it.
        spread = paired([100.0, 10.0, 100.0], [50.0, 5.0, 50.0])

        assert spread == Spread(2.0, 2.0, 2.0, 2.0)

    def test_best_compares_the_best_of_each_whatever_the_round(self) -> None:
        spread = paired([100.0, 10.0], [10.0, 20.0])

        assert spread.best == 100.0 / 20.0
        assert spread.median == (10.0 + 0.5) / 2

    def test_rounds_must_match(self) -> None:
        with pytest.raises(ValueError, match="shorter"):
            paired([1.0, 2.0, 3.0], [1.0, 2.0])


class TestAlternate:
    def test_every_slice_runs_once_a_round_after_one_that_does_not_count(self) -> None:
        calls: list[str] = []

        def slice_of(name: str) -> float:
            calls.append(name)
            return float(calls.count(name))

        names = ["a", "b", "c"]
        rates = alternate({name: partial(slice_of, name) for name in names}, 5)

        assert rates == {name: [2.0, 3.0, 4.0, 5.0, 6.0] for name in names}
        rounds = [calls[i : i + 3] for i in range(3, 18, 3)]
        assert all(sorted(each) == names for each in rounds)
        assert len({tuple(each) for each in rounds}) > 1

    def test_a_slice_counts_on_where_the_one_before_ended(self) -> None:
        numbers: list[int] = []
        run = rate_of(numbers.append, 0.01)

        rates = [run(), run()]

        assert numbers == list(range(len(numbers)))
        assert all(rate > 0 for rate in rates)


class TestCompare:
    def test_an_aim_is_met_from_its_own_value_on(self) -> None:
        measured = (a_measured("ours", 300.0), a_measured("theirs", 150.0))

        below, at, without = compare(
            [Aim("ours", "theirs", factor) for factor in (2.01, 2.0, None)], measured
        )

        assert (below.met, at.met, without.met) == (False, True, None)

    def test_a_base_of_two_is_the_slower_of_them_in_each_round(self) -> None:
        measured = (
            a_measured("ours", 100.0, 100.0, 100.0),
            a_measured("one", 200.0, 50.0, 400.0),
            a_measured("other", 400.0, 400.0, 100.0),
        )

        (found,) = compare([Aim("ours", "one or other", 0.5)], measured)

        assert found.spread.median == 1.0  # of 0.5, 2 and 1
        assert compare([Aim("ours", "one or none", 0.5)], measured) == []

    def test_an_aim_without_a_base_is_a_rate(self) -> None:
        (found,) = compare([Aim("ours", None, 250.0)], [a_measured("ours", 300.0)])

        assert found.spread.median == 300.0
        assert found.met

    def test_a_contender_that_could_not_run_is_left_out(self) -> None:
        assert compare([Aim("ours", "theirs", 2.0)], [a_measured("ours", 1.0)]) == []


class TestMerge:
    def test_cases_of_an_older_run_of_the_same_kind_are_kept(self) -> None:
        older = some_results(a_case("one"), a_case("two", aim=1.0))
        newer = some_results(a_case("two", aim=9.0))

        merged = merge(older, newer, ["two", "one"])

        assert merged.cases == (newer.cases[0], older.cases[0])

    def test_so_are_they_where_the_newer_run_knows_more_packages(self) -> None:
        older = replace(some_results(), facts=replace(FACTS, packages={}))

        assert merge(older, some_results(a_case("other")), ["json-put-200"]).cases

    def test_so_are_trials(self) -> None:
        older, newer = some_results(), replace(some_results(), trials=())

        assert merge(older, newer, ["dual-pairs"]).trials == older.trials

    @pytest.mark.parametrize(
        "changes",
        [
            {"processors": 64},
            {"packages": {"tinydb": "4.8.0"}},
            {"packages": {"tinydb": "4.9.0", "another": "1.0"}},
            {"postgresql": "15.1"},
        ],
    )
    def test_nothing_is_kept_of_a_run_of_another_kind(
        self, changes: dict[str, object]
    ) -> None:
        facts = replace(FACTS, **changes)  # type: ignore[arg-type]
        older = replace(some_results(a_case("one")), facts=facts)
        newer = some_results(a_case("two"))

        assert merge(older, newer, ["one", "two"]) == newer


class TestPage:
    def test_numbers_stand_between_their_marks_and_nowhere_else(self) -> None:
        text = (
            "before\n<!-- measured json-put-200 -->\nold\n<!-- end -->\nafter\n"
            "<!-- measured unknown -->\n<!-- end -->\n"
        )

        found = page.rendered(text, some_results())

        assert "old" not in found
        assert found.startswith("before\n<!-- measured json-put-200 -->\nSome text.")
        assert (
            "| ours / theirs | 2.00x | **3.00x** | 2.50x - 3.50x | 3.00x | met |"
            in found
        )
        assert "| apply | 3.00 s | 75% |" in found
        assert "the load was 0.5, and a synced append took 100 µs." in found
        assert "<!-- measured unknown -->\nNot measured in this run." in found
        assert page.rendered(found, some_results()) == found

    def test_missed_aims_and_lost_comparisons_are_shown_as_such(self) -> None:
        text = "<!-- measured missed -->\n<!-- end -->"

        assert "ours / theirs" not in page.rendered(text, some_results())
        lost = page.rendered(text, some_results(a_case(aim=3.01)))
        assert "| A case | ours / theirs | 3.01x | 3.00x |" in lost

    def test_figures_of_a_trial_are_better_the_smaller_they_are(self) -> None:
        text = "<!-- measured dual-pairs -->\n<!-- end -->"

        found = page.rendered(text, some_results())

        assert "What it does." in found
        assert "| lost | **0** |  | 0 | met |  |" in found
        assert "| pause | **1.50 ms** | 1.00 ms - 2.00 ms | 1.00 ms | missed" in found
        assert "| theirs | **1,000** |  |  |  | 10.0% of 10,000 |" in found

    def test_trials_have_a_summary_and_miss_aims_too(self) -> None:
        text = (
            "<!-- measured trials -->\n<!-- end -->\n"
            "<!-- measured missed -->\n<!-- end -->"
        )

        found = page.rendered(text, some_results())

        assert "| [A trial](#dual-pairs) | lost | **0** |  | 0 | met |" in found
        assert "| A trial | pause | at most 1.00 ms | **1.50 ms** |" in found

    def test_every_case_has_a_place_on_the_page(self) -> None:
        text = page.template_text()

        for name in [*(case.name for case in CASES), *(t.name for t in TRIALS)]:
            assert f"({name})=" in text
            assert f"<!-- measured {name} -->" in text

    def test_the_documentation_shows_the_numbers_of_its_data(self) -> None:
        results = read_results(DOCS / "benchmarks" / "results.json")
        summary, *details = (template.read_text() for template in page.TEMPLATES)

        assert page.rendered(summary, results) == summary
        for text in details:
            assert page.rendered(text, results, charts="") == text
        assert not results.quick

    def test_the_summary_is_one_screen_and_links_to_every_page_of_details(self) -> None:
        summary, *details = page.TEMPLATES
        text = summary.read_text()

        assert len(text.splitlines()) < 80
        assert "Not measured" not in text
        for each in details:
            assert f"](benchmarks/{each.name}" in text
            assert f"\nbenchmarks/{each.stem}\n" in text

    def test_the_summary_has_a_number_for_each_of_its_rows(self) -> None:
        results = read_results(DOCS / "benchmarks" / "results.json")
        rows = highlights(results).splitlines()[2 : 2 + len(HIGHLIGHTS)]

        for row, each in zip(rows, HIGHLIGHTS, strict=True):
            *_, mine, _, theirs, ratio, _ = map(str.strip, row.split("|"))
            assert f"](#{each.case})" in row
            assert all((mine, theirs, ratio))
        for row, wanted in zip(
            guarantees(results).splitlines()[2:], GUARANTEES, strict=True
        ):
            assert row.count("**") == (2 if wanted.theirs is None else 4)

    def test_the_charts_show_the_numbers_of_the_data(self) -> None:
        chart = pytest.importorskip("benchmarks.chart", exc_type=ImportError)
        results = read_results(DOCS / "benchmarks" / "results.json")

        for case in results.cases:
            text = (DOCS / "benchmarks" / f"{case.name}.svg").read_text()
            assert f"data {chart.digest(case.measured)}" in text

    def test_comparisons_in_the_data_follow_from_its_rates(self) -> None:
        results = read_results(DOCS / "benchmarks" / "results.json")

        for case in results.cases:
            aims = [Aim(c.subject, c.base, c.aim, c.detail) for c in case.comparisons]
            for shown, made in zip(
                case.comparisons, compare(aims, case.measured), strict=True
            ):
                assert shown.spread.median == pytest.approx(
                    made.spread.median, rel=1e-3
                )
                assert shown.spread.q1 == pytest.approx(made.spread.q1, rel=1e-3)


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    results = some_results()

    write_results(tmp_path / "results.json", results)

    assert read_results(tmp_path / "results.json") == results


def test_a_quick_run_writes_valid_results_and_tells_nothing_of_the_machine(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "2"]

    done = subprocess.run(
        [*command, "--only", "json-put-16", "--output", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    results = read_results(tmp_path / "benchmarks" / "results.json")
    (case,) = results.cases
    assert [each.name for each in case.measured] == ["16 threads", "1 thread"]
    for each in case.measured:
        assert len(each.rates) == 2
        assert min(each.rates) > 0
        assert 0 < (each.start_mib or 0) <= (each.peak_mib or 0)
    pages = [tmp_path / "benchmarks.md", *(tmp_path / "benchmarks").glob("*.md")]
    shown = "\n".join(each.read_text() for each in pages)
    assert len(pages) == len(page.TEMPLATES)
    assert "| 16 threads / 1 thread |" in shown
    for text in (shown, (tmp_path / "benchmarks" / "results.json").read_text()):
        assert str(tmp_path) not in text
        assert str(ROOT) not in text


def test_an_unknown_case_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--only", "nonsense"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "there is no case 'nonsense'" in done.stderr


def test_a_quick_trial_writes_its_figures(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "2"]

    done = subprocess.run(
        [*command, "--only", "dual-routing", "--output", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    results = read_results(tmp_path / "benchmarks" / "results.json")
    (trial,) = results.trials
    assert results.cases == ()
    assert {f.what.partition(",")[0] for f in trial.figures} == {
        "DualWriteStore",
        "LaunchDarkly",
    }
    assert all(figure.unit == "µs" for figure in trial.figures)
