"""Many clients in the benchmarks: what counts, and how it is compared and shown."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
sys.path.append(str(ROOT))  # they are part of the repository, not of the package

from benchmarks import page  # noqa: E402
from benchmarks.case import Aim, Traffic  # noqa: E402
from benchmarks.clients import Calls, Window, drive  # noqa: E402
from benchmarks.measure import Sample, spread_of  # noqa: E402
from benchmarks.results import (  # noqa: E402
    FORMAT,
    CaseResult,
    Conditions,
    Facts,
    Measured,
    Results,
    compare,
    read_results,
)

DOCS = ROOT / "docs" / "explanation"


def a_measured(name: str, rates: tuple[float, ...], **details: float) -> Measured:
    return Measured(
        name=name,
        note="",
        rates=rates,
        spread=spread_of(rates),
        start_mib=None,
        peak_mib=None,
        details={
            f"{detail} ms": tuple(value for _ in rates)
            for detail, value in details.items()
        },
    )


def a_case(clients: int, *aims: Aim) -> CaseResult:
    measured = (
        a_measured("ours", (90.0, 110.0), p95=4.0),
        a_measured("theirs", (50.0, 50.0), p95=2.0),
    )
    return CaseResult(
        name=f"clients-{clients}",
        title=f"{clients} clients",
        unit="calls",
        text="",
        records=10,
        rounds=2,
        conditions=Conditions(load=0.0, sync_microseconds=1.0),
        measured=measured,
        comparisons=tuple(compare(aims, measured)),
        stages={},
        absent={},
        clients=clients,
        series="clients",
    )


def some_results(*cases: CaseResult) -> Results:
    facts = Facts(
        processors=2,
        processor="",
        memory_gib=1,
        system="",
        file_system="",
        python="",
        postgresql="",
        packages={},
        garbage_collector="",
    )
    return Results(format=FORMAT, quick=True, facts=facts, cases=cases)


def block(name: str, results: Results) -> str:
    return page.rendered(f"<!-- measured {name} -->\n<!-- end -->", results)


class TestWindow:
    def test_a_call_is_done_where_it_is_answered_inside(self) -> None:
        window = Window(begin=10.0, end=20.0)

        window.note(9.0, 11.0, is_put=True)
        window.note(19.0, 21.0, is_put=True)
        window.note(12.0, 13.0, is_put=False)
        window.note(1.0, 2.0, is_put=False)

        assert (window.puts, window.gets) == (1, 1)

    def test_a_wait_counts_where_it_began_inside_however_long_it_took(self) -> None:
        window = Window(begin=10.0, end=20.0)

        window.note(9.0, 11.0, is_put=True)
        window.note(19.0, 99.0, is_put=True)
        window.note(21.0, 22.0, is_put=False)

        assert list(window.waits) == [80.0]

    def test_nothing_counts_before_the_clock_starts(self) -> None:
        window = Window()

        window.note(1.0, 2.0, is_put=False)

        assert (window.gets, list(window.waits)) == (0, [])


def driven(traffic: Traffic, seconds: float, calls: Calls) -> Sample:
    return asyncio.run(drive(calls, traffic, seconds, lambda: None, first=7))


class TestDrive:
    def test_all_clients_call_at_the_same_time_and_no_number_twice(self) -> None:
        numbers: list[int] = []
        under_way: set[int] = set()
        most = 0

        async def call(number: int) -> None:
            nonlocal most
            numbers.append(number)
            under_way.add(number)
            most = max(most, len(under_way))
            await asyncio.sleep(0.001)
            under_way.remove(number)

        found = driven(Traffic(clients=10), 0.05, Calls(call, call))

        assert most == 10
        assert numbers == list(range(7, 7 + len(numbers)))
        assert under_way == set()
        assert found.rate > 0
        assert found.details["p50 ms"] <= found.details["p95 ms"]

    @pytest.mark.parametrize("writes", [0.0, 0.25, 1.0])
    def test_the_share_of_puts_is_what_was_asked_for(self, writes: float) -> None:
        gets, puts = [], []

        async def get(number: int) -> None:
            await asyncio.sleep(0)
            gets.append(number)

        async def put(number: int) -> None:
            await asyncio.sleep(0)
            puts.append(number)

        driven(Traffic(clients=4, writes=writes), 0.02, Calls(get, put))

        total = len(gets) + len(puts)
        assert total > 4
        assert abs(len(puts) - writes * total) <= 4  # one for each client

    def test_a_call_that_is_due_while_another_stalls_has_been_waiting(self) -> None:
        async def slow(_: int) -> None:
            await asyncio.sleep(0.02)

        found = driven(
            Traffic(clients=1, offered=200.0), 0.2, Calls(slow, slow)
        )  # due every 5 ms, done every 20: each waits 15 ms longer than the one before

        assert found.details["p99 ms"] > 60

    def test_what_a_call_raises_ends_the_slice(self) -> None:
        async def broken(_: int) -> None:
            raise OSError("the database is gone")

        with pytest.raises(OSError, match="is gone"):
            driven(Traffic(clients=3), 0.01, Calls(broken, broken))

    def test_processor_time_of_the_server_is_told_where_it_can_be_seen(self) -> None:
        async def call(_: int) -> None:
            await asyncio.sleep(0)

        calls, traffic, times = Calls(call, call), Traffic(clients=1), iter([1.0, 3.0])
        seen = asyncio.run(drive(calls, traffic, 0.01, lambda: next(times)))

        assert seen.details["server µs"] > 0
        assert "server µs" not in driven(traffic, 0.01, calls).details


class TestDetails:
    @pytest.mark.parametrize(("aim", "met"), [(1.99, False), (2.0, True), (None, None)])
    def test_less_of_a_detail_is_better(
        self, aim: float | None, met: bool | None
    ) -> None:
        (found,) = a_case(1, Aim("ours", "theirs", aim, "p95 ms")).comparisons

        assert found.spread.median == 2.0
        assert (found.met, found.lost) == (met, True)

    def test_a_detail_without_a_base_is_a_value(self) -> None:
        (found,) = a_case(1, Aim("ours", None, 5.0, "p95 ms")).comparisons

        assert found.spread.median == 4.0
        assert (found.met, found.lost) == (True, False)

    def test_the_base_of_two_is_the_one_that_took_longer(self) -> None:
        measured = (
            a_measured("ours", (1.0,), p95=4.0),
            a_measured("one", (1.0,), p95=2.0),
            a_measured("other", (1.0,), p95=8.0),
        )

        (found,) = compare([Aim("ours", "one or other", None, "p95 ms")], measured)

        assert found.spread.median == 0.5

    def test_what_nobody_looked_at_is_not_compared(self) -> None:
        assert a_case(1, Aim("ours", "theirs", 1.0, "server µs")).comparisons == ()

    def test_they_are_shown_beside_the_rates(self) -> None:
        case = a_case(
            1_000,
            Aim("ours", None, 3.0, "p95 ms"),
            Aim("ours", "theirs", None, "p95 ms"),
        )

        found = block("clients-1000", some_results(case))

        assert "10 records, 1,000 clients, 2 rounds" in found
        assert "| ours | 4.00 |" in found
        assert "| ours, p95 ms | at most 3.00 | **4.00** | 4.00 - 4.00 |" in found
        assert "| ours / theirs, p95 ms |  | **2.00x** |" in found
        assert "peak memory" not in found

    def test_a_detail_that_is_larger_is_lost_but_not_among_ones_own(self) -> None:
        case = a_case(10, Aim("ours", "theirs", None, "p95 ms"))

        assert "| ours / theirs, p95 ms |" in block("missed", some_results(case))
        own = some_results(replace(case, rivals=False))
        assert "In this run, nowhere." in block("missed", own)


class TestSeries:
    def test_contenders_of_all_cases_are_shown_by_the_number_of_clients(self) -> None:
        many, few = a_case(1_000), a_case(10)
        more = replace(many, measured=(*many.measured, a_measured("rare", (1.0, 1.0))))

        found = block("clients", some_results(more, few))

        assert (
            "![Rates and waits by the number of clients](benchmarks/clients.svg)"
            in (found)
        )
        assert "| calls/s | 10 clients | 1,000 clients |" in found
        assert "| ours | 100 | 100 |" in found
        assert "rare" not in found

    def test_the_chart_is_drawn_and_tied_to_its_data(self, tmp_path: Path) -> None:
        chart = pytest.importorskip("benchmarks.chart", exc_type=ImportError)
        cases = [a_case(10), a_case(1_000)]

        chart.write_series(tmp_path / "clients.svg", cases)

        text = (tmp_path / "clients.svg").read_text()
        assert f"data {chart.digest([case.measured for case in cases])}" in text
        assert "ours" in text

    def test_the_charts_in_the_documentation_show_its_data(self) -> None:
        chart = pytest.importorskip("benchmarks.chart", exc_type=ImportError)
        results = read_results(DOCS / "benchmarks" / "results.json")

        for name, cases in page.in_series(results).items():
            text = (DOCS / "benchmarks" / f"{name}.svg").read_text()
            assert f"data {chart.digest([case.measured for case in cases])}" in text

    def test_every_series_has_a_place_on_the_page(self) -> None:
        from benchmarks.cases import CASES

        for name in {case.series for case in CASES if case.series}:
            assert f"<!-- measured {name} -->" in page.template_text()


class TestWhatIsRun:
    """The names of the tasks that a command line asks for."""

    def wanted(self, *arguments: str) -> set[str]:
        from benchmarks.__main__ import chosen

        return {task.name for task in chosen(arguments)}

    def test_a_name_means_that_case_and_the_beginning_of_names_means_them_all(
        self,
    ) -> None:
        assert self.wanted("--only", "clients-1") == {"clients-1"}
        assert self.wanted("--only", "clients-1", "--only", "clients-paced") == {
            "clients-1",
            "clients-paced",
        }
        assert self.wanted("--only", "count-json") == {
            "count-json-get",
            "count-json-put",
        }

    def test_a_quick_run_leaves_out_what_is_much_unless_it_is_named(self) -> None:
        everything, quick = self.wanted(), self.wanted("--quick")

        assert quick < everything
        assert "clients-5000" in everything - quick
        assert "clients-1000" in quick
        assert self.wanted("--quick", "--only", "clients-5000") == {"clients-5000"}

    def test_a_quick_run_has_fewer_rounds_but_never_more_than_were_asked_for(
        self,
    ) -> None:
        from benchmarks.cases import CASES
        from benchmarks.workbench import Plan

        case = next(case for case in CASES if case.name == "clients-1000")

        assert case.rounds(Plan(quick=True, rounds=3)) == 1
        assert case.rounds(Plan(rounds=11)) == 7
        assert case.rounds(Plan(rounds=2)) == 2
