"""Irregular records of the generated Pend data, and what is expected of them."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from pend_storage.sample_data import (
    FILES,
    IRREGULARITIES,
    Expected,
    SampleReport,
    generate,
)

WRAPPERS: Final = {
    "admin-opportunities.json": "opportunities",
    "admin-logs.json": "logs",
    "server-logs.json": "logs",
    "explorer-data/full-chain-history.json": "blocks",
}
UNTYPED: Final = {
    "admin-pool-tiers.json",
    "consents-db.json",
    "credentials-db.json",
    "server-logs.json",
    "explorer-data/live-stats.json",
    "explorer-data/enhanced-historical-data.json",
    "explorer-data/data-backup.json",
    "explorer-data/full-chain-history.json",
    "explorer-data/identity-map.json",
}
NAMES: Final = [file.name for file in FILES]
LOG: Final = "explorer-data/transactions-log.json"


class Members(list[tuple[str, Any]]):
    """An object as the file has it: names that come twice are both there."""


def exact(text: str) -> Any:
    return json.loads(text, object_pairs_hook=Members)


def records(directory: Path, name: str) -> list[tuple[str | None, Any]]:
    """Every record of a file with its name in the map, or None in a list."""
    top = exact((directory / name).read_text(encoding="utf-8"))
    if name in WRAPPERS:
        top = dict(top)[WRAPPERS[name]]
    return list(top) if isinstance(top, Members) else [(None, item) for item in top]


def impossible(value: Any) -> bool:
    """Return True if no PostgreSQL column, jsonb included, holds the value as it is."""
    if isinstance(value, str):
        return "\x00" in value or any(
            "\ud800" <= letter <= "\udfff" for letter in value
        )
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Members):
        names = [name for name, _ in value]
        return len(set(names)) < len(names) or any(
            impossible(each) for pair in value for each in pair
        )
    return isinstance(value, list) and any(impossible(each) for each in value)


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory) -> SampleReport:
    """Every second record is irregular; enough users for the whole catalogue."""
    directory = tmp_path_factory.mktemp("wild")
    return generate(directory, users=11_500, events=2_000, irregular=0.5, seed=7)


@pytest.mark.parametrize("name", NAMES)
def test_counts_include_what_collides(wild: SampleReport, name: str) -> None:
    assert len(records(wild.directory, name)) == wild.records[name]


def test_irregular_records_leave_the_others_as_they_were(tmp_path: Path) -> None:
    generate(tmp_path / "clean", users=300, irregular=0)
    report = generate(tmp_path / "odd", users=300, irregular=0.2)

    clean = [value for _, value in records(tmp_path / "clean", LOG)]
    odd_places = {at.position for at in report.occurrences if at.file == LOG}
    odd = [value for _, value in records(tmp_path / "odd", LOG)]
    untouched = [value for at, value in enumerate(odd) if at not in odd_places]

    assert len(odd_places) > 100
    assert all(value in clean for value in untouched)


def test_the_share_of_irregular_records_is_the_one_asked_for(tmp_path: Path) -> None:
    report = generate(tmp_path, users=139, events=20_000, irregular=0.05)

    share = sum(report.irregular.values()) / report.total

    assert share == pytest.approx(0.05, abs=0.006)


def test_every_irregularity_occurs_when_there_is_room_for_it(
    wild: SampleReport,
) -> None:
    assert set(wild.irregular) == set(IRREGULARITIES)


def test_occurrences_agree_with_the_counts(wild: SampleReport) -> None:
    assert Counter(at.irregularity for at in wild.occurrences) == wild.irregular


def test_the_list_of_occurrences_is_bounded_file_by_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pend_storage.sample_data.writer.OCCURRENCES", 3)

    report = generate(tmp_path, users=90, irregular=0.9)

    listed = Counter(at.file for at in report.occurrences)
    assert set(listed.values()) <= {1, 2, 3}
    assert listed[LOG] == 3
    assert sum(report.irregular.values()) > sum(listed.values())


def test_irregularities_are_dealt_evenly(wild: SampleReport) -> None:
    counts = [n for name, n in wild.irregular.items() if name.startswith("wallet-db/")]

    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_an_occurrence_names_the_place_of_the_record(
    wild: SampleReport, name: str
) -> None:
    written = records(wild.directory, name)
    here = [at for at in wild.occurrences if at.file == name]

    assert here
    for at in here:
        assert written[at.position][0] == at.key
        assert IRREGULARITIES[at.irregularity].file == name


@pytest.mark.parametrize("name", NAMES)
def test_what_no_database_can_hold_is_expected_in_quarantine_and_nothing_else_is(
    wild: SampleReport, name: str
) -> None:
    """An independent judge finds the same impossible records as the catalogue."""
    known = {at.position: at for at in wild.occurrences if at.file == name}

    for position, record in enumerate(records(wild.directory, name)):
        at = known.get(position)
        outcome = IRREGULARITIES[at.irregularity].expected if at else None
        if any(map(impossible, record)):
            assert outcome is Expected.QUARANTINE, at
        elif name in UNTYPED:
            assert outcome is not Expected.QUARANTINE, at
        elif not isinstance(record[1], Members) and name != "wallet-db.json":
            assert outcome is Expected.QUARANTINE, at


def wallet_faults(directory: Path) -> Iterator[int]:
    """Positions in wallet-db.json that cannot become a user, by the written rules."""
    keys: set[str] = set()
    addresses: set[str] = set()
    for position, (name, value) in enumerate(records(directory, "wallet-db.json")):
        address = dict(value).get("address") if isinstance(value, Members) else value
        key = normal(name or "", 64)
        address = normal(address, 40) if isinstance(address, str) else None
        fine = not impossible(value) and key and address
        if not fine or key in keys or address in addresses:
            yield position
            continue
        assert key
        assert address
        keys.add(key)
        addresses.add(address)


def normal(text: str, digits: int) -> str | None:
    bare = text.strip().lower().removeprefix("0x")
    return bare if re.fullmatch(f"[0-9a-f]{{{digits}}}", bare) else None


def test_wallets_expected_in_quarantine_are_those_that_break_a_rule(
    tmp_path: Path,
) -> None:
    report = generate(tmp_path, users=5_000, events=0, irregular=0.3, seed=11)
    expected = {
        at.position
        for at in report.occurrences
        if at.file == "wallet-db.json"
        and IRREGULARITIES[at.irregularity].expected is Expected.QUARANTINE
    }

    assert set(wallet_faults(tmp_path)) == expected
    assert len(expected) == report.expected("wallet-db.json", Expected.QUARANTINE)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (LOG, "1e21"),
        (LOG, "-0.0"),
        (LOG, "NaN"),
        (LOG, "0.1234567890123456789012345678901234"),
        (LOG, "1234567890123456789012345678"),
        (LOG, '"a\\u0000b"'),
        (LOG, '"a\\ud800b"'),
        (LOG, '"1,250,000.50"'),
        (LOG, "عربي 😀"),
        ("admin-opportunities.json", '"9-13%"'),
        ("admin-opportunities.json", '"18 months"'),
        ("admin-logs.json", '"::ffff:192.0.2.7"'),
        ("wallet-db.json", '": null'),
    ],
)
def test_odd_values_are_spelled_in_the_file_as_told(
    wild: SampleReport, file: str, text: str
) -> None:
    assert text in (wild.directory / file).read_text(encoding="utf-8")


def test_names_in_the_catalogue_begin_with_their_file_and_tell_a_sentence() -> None:
    for name, each in IRREGULARITIES.items():
        folder, file = name.split("/")[0], each.file
        assert folder in {"kyc", Path(file).stem}
        assert each.name == name
        assert len(each.sentence) > 5
    assert len({each.file for each in IRREGULARITIES.values()}) == len(FILES)
