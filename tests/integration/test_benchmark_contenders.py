"""Every contender of the benchmarks of clients and of scaling does its work."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from typing_extensions import override

ROOT = Path(__file__).parent.parent.parent
sys.path.append(str(ROOT))  # they are part of the repository, not of the package

from benchmarks.case import Case, Contender, Missing, Traffic  # noqa: E402
from benchmarks.cases import CASES  # noqa: E402
from benchmarks.clients import Calls  # noqa: E402
from benchmarks.contenders import client_slices, scaling  # noqa: E402
from benchmarks.measure import Sample  # noqa: E402
from benchmarks.processors import server_cpu  # noqa: E402
from benchmarks.record import (  # noqa: E402
    SCHEMA,
    Account,
    revisions,
    shuffled,
)
from benchmarks.workbench import Plan, Workbench  # noqa: E402
from pend_storage.stores.json import JsonStore  # noqa: E402

RECORDS: Final = 30
MANY_RECORDS: Final = 1_000
"""So many that clients hardly ever put one record at the same time: of two such upserts
PostgreSQL may refuse one for a unique index that its ON CONFLICT does not name."""
CONTENDERS: Final = {
    each.name: each for case in CASES if case.traffic for each in case.contenders
}


@dataclass(slots=True)
class Watched(Workbench):
    """A workbench that records which databases were made."""

    urls: list[str] = field(default_factory=list)

    @override
    @contextmanager
    def database(self) -> Iterator[str]:
        with Workbench.database(self) as url:
            self.urls.append(url)
            yield url

    def ask(self, question: str) -> Any:
        with psycopg.connect(self.urls[-1]) as connection:
            return connection.execute(question).fetchall()


@pytest.fixture
def bench(tmp_path: Path, postgres_url: str) -> Watched:
    return Watched(Plan(quick=True, rounds=1, seconds=0.2), tmp_path, postgres_url)


@pytest.mark.parametrize("contender", CONTENDERS.values(), ids=lambda each: each.name)
def test_a_contender_reads_and_writes_what_is_asked_for(
    contender: Contender, bench: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = []

    async def one_of_each(calls: Calls, *_: object) -> Sample:
        answers.append(await calls.get(3))
        await calls.put(4)
        return Sample(1.0)

    monkeypatch.setattr(client_slices, "drive", one_of_each)
    written = revisions(RECORDS)[4]

    with contender.load()(bench, RECORDS, Traffic(clients=1)) as run:
        run()
        [(count,)] = bench.ask("select count(*) from accounts")
        [(revision,)] = bench.ask(
            f"select metadata ->> 'rev' from accounts where id = '{written.id}'"
        )

    (answer,) = answers
    values = astuple(answer) if isinstance(answer, Account) else tuple(answer)
    assert values == astuple(shuffled(RECORDS)[3])
    assert (count, revision) == (RECORDS, str(written.metadata["rev"]))
    if "phase" in contender.options:
        (directory,) = bench.root.glob("async-pair-*")
        with JsonStore(SCHEMA, directory) as json:
            assert json.collection(Account).get(written.id) == written


@pytest.mark.parametrize("contender", CONTENDERS.values(), ids=lambda each: each.name)
def test_a_contender_serves_several_slices(
    contender: Contender, bench: Watched
) -> None:
    alone = {"async_store:direct_clients", "asyncpg_clients:held_clients"}
    traffic = Traffic(clients=1 if contender.opener in alone else 7, writes=0.5)

    with contender.load()(bench, MANY_RECORDS, traffic) as run:
        samples = [run(), run()]

    for sample in samples:
        assert isinstance(sample, Sample)
        assert sample.rate > 0
        assert {"p50 ms", "p95 ms", "p99 ms", "client µs", "puts %"} <= (
            sample.details.keys()
        )


def test_processor_time_of_our_own_server_is_seen(postgres_url: str) -> None:
    cpu_time = server_cpu(postgres_url)
    before = cpu_time()
    with psycopg.connect(postgres_url) as connection:
        host = connection.info.host
        connection.execute("select sum(n) from generate_series(1, 200000) as n")

        after = cpu_time()

    if host.startswith("/"):
        assert before is not None
        assert after is not None
        assert after > before


def by_name(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


class TestScaling:
    @pytest.mark.parametrize("verb", ["get", "put"])
    def test_a_store_has_as_many_records_as_it_says(
        self, verb: scaling.Verb, bench: Watched
    ) -> None:
        with scaling.postgres_by_count(bench, 100, records=50, verb=verb) as run:
            assert float(str(run())) > 0
            [(count, changed)] = bench.ask(
                "select count(*), count(*) filter (where metadata ->> 'rev' <> '0') "
                "from accounts"
            )
        with scaling.json_by_count(bench, 100, records=50, verb=verb) as run:
            assert float(str(run())) > 0

        assert count == 50
        assert (changed > 0) == (verb == "put")
        with JsonStore(SCHEMA, bench.kept("accounts-50")[0]) as store:
            found = list(store.collection(Account).scan())
        assert len(found) == 50
        assert any(each.metadata["rev"] for each in found) == (verb == "put")

    def test_a_quick_run_leaves_out_what_is_too_much(self, bench: Watched) -> None:
        largest = by_name("count-json-get").contenders[-1]

        with (
            pytest.raises(Missing, match="more records than a quick run has"),
            largest.load()(bench, 10_000),
        ):
            pass

    def test_a_record_is_as_large_as_it_says(self, bench: Watched) -> None:
        with scaling.postgres_by_size(bench, 5, size=2_000, verb="put") as run:
            run()
            lengths = bench.ask("select distinct length(body) from notes")
        with scaling.json_by_size(bench, 5, size=200_000, verb="put") as run:
            run()

        assert {length for (length,) in lengths} <= {2_000, 2_002}
        (directory,) = bench.root.glob("notes-*")
        kept = sum(path.stat().st_size for path in directory.rglob("*.json"))
        assert kept >= 5 * 200_000
