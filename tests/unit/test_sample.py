"""The generator of Pend data: what it writes, and what it says about it."""

import json
import math
import re
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from pend_storage.sample_data import FILES, SampleReport, generate
from pend_storage.sample_data.__main__ import main

WRAPPERS: Final = {
    "admin-opportunities.json": "opportunities",
    "admin-logs.json": "logs",
    "server-logs.json": "logs",
    "explorer-data/full-chain-history.json": "blocks",
}
NAMES: Final = [file.name for file in FILES]
LOG: Final = "explorer-data/transactions-log.json"


def plain(directory: Path, name: str) -> Any:
    top = json.loads((directory / name).read_bytes())
    return top[WRAPPERS[name]] if name in WRAPPERS else top


@pytest.fixture(scope="module")
def regular(tmp_path_factory: pytest.TempPathFactory) -> SampleReport:
    return generate(tmp_path_factory.mktemp("regular"), users=200, irregular=0)


def texts(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*.json")
    }


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        generate(tmp_path / folder, users=60, irregular=0.3, seed=5)

    assert texts(tmp_path / "one") == texts(tmp_path / "two")
    assert sorted(texts(tmp_path / "one")) == sorted(NAMES)


def test_another_seed_gives_other_bytes_in_every_file_with_hashes(
    tmp_path: Path,
) -> None:
    generate(tmp_path / "one", users=60, irregular=0, seed=5)
    generate(tmp_path / "two", users=60, irregular=0, seed=6)

    one, two = texts(tmp_path / "one"), texts(tmp_path / "two")
    same = {name for name in one if one[name] == two[name]}
    assert same == {
        "admin-pool-tiers.json",
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_regular_file_is_printed_as_node_prints_it(
    regular: SampleReport, name: str
) -> None:
    text = (regular.directory / name).read_text(encoding="utf-8")

    assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False)


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_those_of_the_report(regular: SampleReport, name: str) -> None:
    assert len(plain(regular.directory, name)) == regular.records[name] > 0
    assert regular.irregular == {}


def test_the_log_has_as_many_entries_as_asked_for_newest_first(
    tmp_path: Path,
) -> None:
    report = generate(tmp_path, users=10, events=123, irregular=0)

    log = plain(tmp_path, LOG)
    assert report.records[LOG] == 123
    assert [entry["id"] for entry in log] == list(range(123, 0, -1))
    times = [entry["timestamp"] for entry in log]
    assert times == sorted(times, reverse=True)
    blocks = [entry["blockNumber"] for entry in log if "blockNumber" in entry]
    assert blocks == sorted(blocks, reverse=True)
    assert blocks[-1] > 0


def test_regular_records_refer_to_each_other(regular: SampleReport) -> None:
    directory = regular.directory
    wallets = {k: v.lower() for k, v in plain(directory, "wallet-db.json").items()}
    assets = {
        asset["id"]: asset["contractAddress"]
        for asset in plain(directory, "admin-opportunities.json")
    }
    log = plain(directory, LOG)

    for entry in log:
        assert entry["walletAddress"] in {None, wallets[entry["identityHash"]]}
        assert entry.get("senderWalletAddress") in {None, *wallets.values()}
        assert entry.get("poolId") in {None, *assets}
        if "opportunityId" in entry:
            assert assets[entry["opportunityId"]] == entry["contractAddress"]
    for name in ("uploads/kyc/metadata.json", "consents-db.json"):
        assert plain(directory, name).keys() <= wallets.keys()
    assert plain(directory, "admin-pool-tiers.json").keys() <= assets.keys()
    made = {e["txHash"]: e for e in log if e["type"] == "wallet_creation"}
    for row in plain(directory, "explorer-data/wallets-directory.json"):
        creation = made[row["creationTxHash"]]
        assert creation["identityHash"] == row["identityHash"]
        assert creation["timestamp"] == row["createdAt"]
        assert creation["blockNumber"] == row["createdBlock"]


def test_nobody_acts_before_having_a_wallet(regular: SampleReport) -> None:
    log = plain(regular.directory, LOG)
    seen: set[str] = set()
    early = 0
    for entry in reversed(log):
        if entry["type"] == "wallet_creation":
            seen.add(entry["identityHash"])
        early += entry["identityHash"] not in seen

    assert len(seen) == 200
    assert early <= 3, "only before the first wallet"


def test_every_type_of_event_occurs_and_money_goes_in_and_out(
    regular: SampleReport,
) -> None:
    kinds = Counter(entry["type"] for entry in plain(regular.directory, LOG))

    assert set(kinds) == {
        *("wallet_creation", "consent_signature", "egp_minted", "pool_profit"),
        *("harvest_invest", "harvest_redeem", "opportunity_investment"),
        *("token_transfer", "egp_sent", "deposit", "pin_set", "terms_acceptance"),
    }
    assert kinds["wallet_creation"] == 200
    assert kinds["harvest_invest"] > kinds["harvest_redeem"]


def test_phone_numbers_are_numbers_that_nobody_has(regular: SampleReport) -> None:
    texts_ = (path.read_text() for path in regular.directory.rglob("*.json"))

    phones = set(re.findall(r'"(\+[0-9*]+)"', "".join(texts_)))

    assert len(phones) > 30
    assert all(re.fullmatch(r"\+20100000[0-9*]{4}", phone) for phone in phones)


def test_progress_reaches_the_end_and_never_goes_back(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []

    generate(
        tmp_path, users=50, events=9_000, progress=lambda *call: calls.append(call)
    )

    assert calls == sorted(calls)
    assert len(calls) > 10
    assert calls[-1][0] == calls[-1][1] > 9_000


def test_memory_does_not_grow_with_the_number_of_events(tmp_path: Path) -> None:
    def peak(events: int) -> int:
        tracemalloc.start()
        generate(tmp_path / str(events), users=20, events=events, irregular=0.02)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)  # what is loaded once does not count

    assert peak(8_000) < peak(1_000) + 1_000_000


def test_a_server_without_users_has_files_without_users(tmp_path: Path) -> None:
    report = generate(tmp_path, users=0)

    assert (tmp_path / "wallet-db.json").read_bytes() == b"{}"
    assert (tmp_path / "admin-logs.json").read_bytes() == b'{\n  "logs": []\n}'
    assert (tmp_path / LOG).read_bytes() == b"[]"
    assert report.records["wallet-db.json"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"users": -1},
        {"events": -1},
        {"users": 0, "events": 5},
        {"irregular": 1.1},
        {"irregular": -0.1},
        {"irregular": math.nan},
        {"damage": {"wallets.json": "empty"}},
        {"damage": {"wallet-db.json": "dented"}},
        {"damage": {"wallet-db.json": "bare"}},
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"\w+"):
        generate(tmp_path / "new", **arguments)

    assert list(tmp_path.iterdir()) == []


def test_files_that_are_there_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "credentials-db.json").write_text("precious")

    with pytest.raises(FileExistsError, match=r"credentials-db\.json"):
        generate(tmp_path)

    assert texts(tmp_path) == {"credentials-db.json": b"precious"}


def test_the_command_writes_and_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--users", "30", "--events", "40", "--irregular", "0.2", "--seed", "4"]

    code = main([str(tmp_path), *options, "--damage", "server-logs.json=half-written"])

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert re.match(r"wallet-db\.json +3\d ", lines[1])
    assert lines[-1] == "server-logs.json is half-written"
    assert len(lines) == len(FILES) + 3


def test_the_command_refuses_wrong_usage_with_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path), "--irregular", "7"])

    assert stop.value.code == 2
    assert "share from 0 to 1" in capsys.readouterr().err
